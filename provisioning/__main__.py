"""Where `hadir-provision` begins, before anything is imported that takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edge.start import begin


def main() -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    return begin(_load)


def _load() -> Callable[[], int]:
    from provisioning.cli import main as act  # noqa: PLC0415 - see `edge.start`

    return act


if __name__ == "__main__":
    sys.exit(main())
