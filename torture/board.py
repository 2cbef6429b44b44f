"""The real daemon in a process of its own, whose points can be aimed at, or with an error built in.

Only `torture` puts a watcher behind `edge.steps`; `hadir-edge` itself cannot.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import edge.__main__
from edge import steps
from torture.aim import Trigger
from torture.mutations import MUTATIONS, WITH_RECEIPTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Arm what was asked for, then be `hadir-edge run`."""
    options = _parser().parse_args(arguments)
    if options.mutation is not None:
        {**MUTATIONS, **WITH_RECEIPTS}[options.mutation]()
    steps.watcher = Trigger(options.aim)
    return edge.__main__.main(["run", "--config", str(options.config)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m torture.board")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--aim", type=Path, required=True, help="where an aim may appear")
    parser.add_argument("--mutation", choices=sorted({*MUTATIONS, *WITH_RECEIPTS}))
    return parser


if __name__ == "__main__":
    sys.exit(main())
