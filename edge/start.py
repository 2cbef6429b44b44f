"""How every command begins: to import what it is made of takes a third of a second, and Ctrl-C may come meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from types import FrameType

INTERRUPTED = 130
"""The shell's code for an end by SIGINT: 128 + 2."""


def begin(module: str) -> int:
    """Import the module of a command and carry out its `main`; the exit code.

    Until it is imported nothing was begun, so SIGINT ends the process at once. A KeyboardInterrupt would be raised
    wherever the imports are, in places too where Python prints it and goes on.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _leave)
    try:
        main: Callable[[], int] = import_module(module).main
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        return main()
    except KeyboardInterrupt:
        return INTERRUPTED


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
