"""How every command ends: with a documented exit code and one line, never with a traceback for a user's error."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.dumps import forbid_core_dumps
from edge.errors import HadirError
from edge.start import INTERRUPTED

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = argparse._SubParsersAction
"""What a group of commands adds its own to; argparse has no public name for it."""


def carry_out(command: str, act: Callable[[], int | None]) -> int:
    """Do what a command line asks for; its exit code, as docs/exit-codes.md has them."""
    forbid_core_dumps()
    _ready_streams()
    os.umask(os.umask(0o022) | 0o022)  # what others may write into, they may replace
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
        if error.filename is not None:
            why = f"{os.fsdecode(error.filename)}: {error.strerror}; check who may read and write it, and the disk"
            return _end(command, why, os.EX_IOERR)
        _give_up_output()
        return _end(command, f"{error}; check the disk and what the output goes to", os.EX_IOERR)
    return code


def _ready_streams() -> None:
    """Standard streams that are there, and take every name that a file may have.

    Who closed one (`>&-`) wants nothing of it. But the next file that is opened would get its number, an outbox
    among them, and what a library prints to it would be written there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no UTF-8; stderr does so by itself


def number(text: str) -> float:
    """For an option's `type`: a number; NaN and infinity are none. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _end(command: str, why: str, code: int) -> int:
    print(f"{command}: {why}", file=sys.stderr)
    return code


def _give_up_output() -> None:
    """Standard output is flushed once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
