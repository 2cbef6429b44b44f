"""No core dumps: a crash must not write keys and templates to a disk, nor let another process read them."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4
"""linux/prctl.h; with 0 the kernel writes no core and lets nobody without privileges attach (prctl(2))."""


def forbid_core_dumps() -> None:
    """For this process; what it starts inherits the limit."""
    # Both: a core_pattern that pipes to a program ignores the limit (core(5)), and a program that is executed
    # forgets the flag.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
