"""How every command ends: with a documented exit code and one line, never with a traceback for a user's error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.dumps import forbid_core_dumps
from edge.errors import HadirError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = argparse._SubParsersAction
"""What a group of commands adds its own to; argparse has no public name for it."""

INTERRUPTED = 130
"""The shell's code for an end by SIGINT: 128 + 2."""


def carry_out(command: str, act: Callable[[], int | None]) -> int:
    """Do what a command line asks for; its exit code, as docs/exit-codes.md has them."""
    forbid_core_dumps()
    try:
        code = act() or 0
        sys.stdout.flush()
    except HadirError as error:
        return _end(command, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _end(command, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        _give_up_output()
        return _end(command, "nobody reads what is printed any more", os.EX_IOERR)
    except OSError as error:
        _give_up_output()
        return _end(command, f"{error}; check the disk and what the output goes to", os.EX_IOERR)
    return code


def _end(command: str, why: str, code: int) -> int:
    print(f"{command}: {why}", file=sys.stderr)
    return code


def _give_up_output() -> None:
    """Standard output is flushed once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
