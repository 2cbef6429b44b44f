"""Where `hadir-provision` begins, before anything is imported that takes long."""

from __future__ import annotations

import sys

from edge.start import begin


def main() -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    return begin("provisioning.cli")


if __name__ == "__main__":
    sys.exit(main())
