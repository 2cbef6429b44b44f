"""A program that prints under `carry_out`, for tests of what happens when nobody takes it."""

from __future__ import annotations

import sys

from edge.command import carry_out

if __name__ == "__main__":
    sys.exit(carry_out(sys.argv[1], lambda: print("x" * 100_000)))
