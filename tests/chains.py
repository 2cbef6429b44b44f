"""A board's chain for tests: a recorder that really signs, and a clock that stands still."""

from __future__ import annotations

from edge.board.clock import Clock, KernelClock
from edge.records import Attendance, Direction
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder

KEY = SigningKey.generate()
NOW_MS = 1_800_000_000_000


def recorder_on(outbox: Outbox, *, boot: str = "boot-a", device: str = "door-01") -> Recorder:
    """Signs for a board whose clock stands still."""
    clock = Clock(
        kernel=lambda: KernelClock(synchronised=True, max_error_ms=5),
        real_ms=lambda: NOW_MS,
        mono_ms=lambda: 10_000,
        boot=boot,
    )
    identity = DeviceIdentity(device, "hq", KEY)
    return Recorder(outbox, identity, clock, Direction.IN, "e" * 64, 42, diagnostics=False)


def somebody(person: str = "E1042") -> Attendance:
    return Attendance(track=1, person=person, frames=4, similarity=0.71, margin=0.4, seen_mono_ms=9_000)
