"""What time it is, and how far that may be believed.

The kernel's own verdict (adjtimex) and the last time it was good make the state:
`synced` while the kernel says so; `holdover` when it stopped saying so later in this
boot; `unsynced` when it never did. STA_UNSYNC alone would call a good clock bad: the
kernel sets it once its error bound has grown to 16 s, nine hours after the last
correction (NTP_PHASE_LIMIT and MAXFREQ in the kernel's timex.h).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge.records import ClockState, TimeReading

HOLDOVER_PPM = 50
"""Drift of a free-running board: the Raspberry Pi's crystal is specified at ±30 ppm plus temperature."""

RELEASED_REAL_MS = 1_764_547_200_000
"""2025-12-01: this version was released later, so a clock that shows an earlier time is wrong."""

STEP_MS = 500
"""A change of the wall clock that is no drift: corrections of 500 ppm need 17 minutes for it."""

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>; only maxerror and status are read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What adjtimex(2) says."""

    synchronised: bool
    max_error_ms: int


def read_kernel_clock() -> KernelClock:
    """Ask adjtimex(2), which needs no privilege to read."""
    timex = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    good = 0 <= state < _TIME_ERROR and not timex.status & _STA_UNSYNC
    return KernelClock(synchronised=good, max_error_ms=timex.maxerror // 1000)


@dataclass(frozen=True, slots=True)
class LastSync:
    """When the kernel last called its clock good, in this boot."""

    mono_ms: int
    err_ms: int


def believe(
    kernel: KernelClock, last: LastSync | None, mono_ms: int
) -> tuple[ClockState, int | None, LastSync | None]:
    """State, error in milliseconds and the synchronisation to remember, from what is known now."""
    if kernel.synchronised:
        now = LastSync(mono_ms=mono_ms, err_ms=kernel.max_error_ms)
        return ClockState.SYNCED, now.err_ms, now
    if last is None:
        return ClockState.UNSYNCED, None, None
    drift_ms = (mono_ms - last.mono_ms) * HOLDOVER_PPM // 1_000_000
    return ClockState.HOLDOVER, last.err_ms + drift_ms, last


@dataclass(frozen=True, slots=True)
class KnownClock:
    """What was last known of the clock, to be told apart from how it is now."""

    boot: str
    synced: bool
    offset_ms: int
    """How far the wall clock was ahead of CLOCK_BOOTTIME."""
    sync: LastSync | None

    @classmethod
    def of(cls, now: TimeReading, sync: LastSync | None) -> Self:
        """As this reading shows it."""
        return cls(now.boot, now.state is ClockState.SYNCED, now.real_ms - now.mono_ms, sync)


def step_to_tell(before: KnownClock, now: TimeReading) -> int | None:
    """By how much the clock was set since, if the server must know: it became synchronised, or jumped.

    None otherwise, and after a boot: what this boot has not dated yet needs no correction.
    """
    if before.boot != now.boot:
        return None
    step_ms = now.real_ms - now.mono_ms - before.offset_ms
    became_synced = now.state is ClockState.SYNCED and not before.synced
    return step_ms if became_synced or abs(step_ms) >= STEP_MS else None


def boottime_ms() -> int:
    """CLOCK_BOOTTIME: rises through suspend, never jumps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def realtime_ms() -> int:
    """The wall clock, which may be wrong."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """The kernel's random name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Clock:
    """The clocks of this board, read together; remembers the last synchronisation."""

    def __init__(
        self,
        kernel: Callable[[], KernelClock] = read_kernel_clock,
        real_ms: Callable[[], int] = realtime_ms,
        mono_ms: Callable[[], int] = boottime_ms,
        boot: str | None = None,
    ) -> None:
        self._kernel = kernel
        self._real_ms = real_ms
        self._mono_ms = mono_ms
        self._boot = boot if boot is not None else boot_id()
        self._last: LastSync | None = None

    @property
    def boot(self) -> str:
        return self._boot

    @property
    def last_sync(self) -> LastSync | None:
        """The last synchronisation in this boot, as far as it is known."""
        return self._last

    def resume(self, last: LastSync) -> None:
        """Go on from a synchronisation earlier in this boot, which another process saw."""
        self._last = last

    def read(self) -> TimeReading:
        """All clocks at once, with how far the wall clock may be believed."""
        mono_ms = self._mono_ms()
        state, err_ms, self._last = believe(self._kernel(), self._last, mono_ms)
        return TimeReading(
            real_ms=self._real_ms(), mono_ms=mono_ms, boot=self._boot, state=state, err_ms=err_ms
        )
