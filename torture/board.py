"""The real daemon in a process of its own, with a kill point armed, or an error built in.

Only this module puts a watcher behind `edge.steps`; `hadir-edge` itself cannot.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import edge.__main__
from edge import steps
from edge.steps import Step
from torture.mutations import MUTATIONS


def main(arguments: Sequence[str] | None = None) -> int:
    """Arm what was asked for, then be `hadir-edge run`."""
    options = _parser().parse_args(arguments)
    if options.mutation is not None:
        MUTATIONS[options.mutation]()
    if options.kill_at is not None:
        steps.watcher = Killer(Step(options.kill_at), options.hit)
    return edge.__main__.main(["run", "--config", str(options.config)])


class Killer:
    """Ends this process with SIGKILL when a point is reached for the nth time."""

    def __init__(self, step: Step, hit: int) -> None:
        self._step = step
        self._left = hit
        self._lock = threading.Lock()

    def __call__(self, step: StrEnum) -> None:
        if step is not self._step:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m torture.board")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--kill-at", choices=[step.value for step in Step])
    parser.add_argument("--hit", type=int, default=1, help="which time, default %(default)s")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS))
    return parser


if __name__ == "__main__":
    sys.exit(main())
