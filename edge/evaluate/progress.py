"""How far a long step is: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

BAR_S, LINE_S = 0.2, 30.0
"""Least time between two updates: of the bar, and of the lines of a log."""

WIDTH = 30
"""Of the bar, in characters."""


class Progress:
    """Counts the steps of one task and tells the standard error stream. A context manager."""

    def __init__(
        self,
        task: str,
        total: int,
        stream: TextIO | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock_s = clock_s
        self._bar = self._stream.isatty()
        self._done = 0
        self._began_s = self._told_s = clock_s()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar and self._done:
            self._tell()
            self._stream.write("\n")

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now_s = self._clock_s()
        if now_s - self._told_s >= (BAR_S if self._bar else LINE_S):
            self._told_s = now_s
            self._tell()

    def _tell(self) -> None:
        spent_s = self._clock_s() - self._began_s
        left_s = spent_s / self._done * (self._total - self._done)
        state = f"{self._done} of {self._total}, {left_s:.0f} s left"
        if self._bar:
            # A line longer than the terminal would begin another with each update.
            room = shutil.get_terminal_size().columns - len(f"{self._task} [] {state} ")
            width = max(0, min(WIDTH, room))
            bar = ("#" * (width * self._done // self._total)).ljust(width)
            self._stream.write(f"\r{self._task} [{bar}] {state}\x1b[K")
        else:
            self._stream.write(f"{self._task}: {state}\n")
        self._stream.flush()
