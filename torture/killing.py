"""One of the programs in a process of its own, with a kill point armed: `hadir-edge`, a board without eyes, or the
administrator's side.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import edge.__main__
import provisioning.cli
from edge import steps
from edge.steps import IdentityStep
from provisioning.steps import DeskStep, FleetStep
from torture import quiet

PROGRAMS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "edge": edge.__main__.main,
    "quiet": quiet.main,
    "provision": provisioning.cli.main,
}


class Killer:
    """Ends this process with SIGKILL when a point is reached for the nth time."""

    def __init__(self, step: StrEnum, hit: int) -> None:
        self._step = step
        self._left = hit

    def __call__(self, step: StrEnum) -> None:
        if step is self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def points() -> dict[str, StrEnum]:
    """Every named point of an identity's way, by its name."""
    return {step.value: step for kind in (IdentityStep, DeskStep, FleetStep) for step in kind}


def main(arguments: Sequence[str] | None = None) -> int:
    """Arm what was asked for, then be the program."""
    parser = argparse.ArgumentParser(prog="python -m torture.killing")
    parser.add_argument("--kill-at", choices=sorted(points()))
    parser.add_argument("--hit", type=int, default=1, help="which time, default %(default)s")
    parser.add_argument("program", choices=sorted(PROGRAMS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.kill_at is not None:
        steps.watcher = Killer(points()[options.kill_at], options.hit)
    return PROGRAMS[options.program](options.arguments)


if __name__ == "__main__":
    sys.exit(main())
