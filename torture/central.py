"""The real server in a process of its own, whose points can be aimed at."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from central.cli import main as central_main
from edge import steps
from torture.aim import Trigger


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch for an aim, then be `hadir-central run`."""
    parser = argparse.ArgumentParser(prog="python -m torture.central")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--aim", type=Path, required=True, help="where an aim may appear")
    options = parser.parse_args(arguments)
    steps.watcher = Trigger(options.aim)
    return central_main(["run", "--config", str(options.config)])


if __name__ == "__main__":
    sys.exit(main())
