"""Where `hadir-edge` begins, before anything is imported that takes long."""

from __future__ import annotations

import sys

from edge.start import begin


def main() -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    return begin("edge.__main__")


if __name__ == "__main__":
    sys.exit(main())
