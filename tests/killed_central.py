"""`hadir-central` that dies by SIGKILL at a named step: `python -m tests.killed_central STEP run …`."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum

from central.cli import main
from central.steps import Step
from edge import steps


def kill(step: StrEnum) -> None:
    if step is Step(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    steps.watcher = kill
    sys.exit(main(sys.argv[2:]))
