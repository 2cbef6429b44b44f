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
from torture.identity_mutations import MUTATIONS

PROGRAMS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "edge": edge.__main__.main,
    "quiet": quiet.main,
    "provision": provisioning.cli.main,
}


class Killer:
    """Ends this process with SIGKILL when a point is reached."""

    def __init__(self, step: StrEnum) -> None:
        self._step = step

    def __call__(self, step: StrEnum) -> None:
        if step is self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def points() -> dict[str, StrEnum]:
    """Every named point of an identity's way, by its name."""
    return {step.value: step for kind in (IdentityStep, DeskStep, FleetStep) for step in kind}


def main(arguments: Sequence[str] | None = None) -> int:
    """Arm what was asked for, then be the program."""
    parser = argparse.ArgumentParser(prog="python -m torture.killing")
    parser.add_argument("--kill-at", choices=sorted(points()))
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="an error to build in first")
    parser.add_argument("program", choices=sorted(PROGRAMS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.mutation is not None:
        MUTATIONS[options.mutation]()
    if options.kill_at is not None:
        steps.watcher = Killer(points()[options.kill_at])
    return PROGRAMS[options.program](options.arguments)


if __name__ == "__main__":
    sys.exit(main())
