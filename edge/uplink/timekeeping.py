"""Tells the server when the clock was set or jumped, and remembers what it takes to judge time after a power cut.

From `clock:1` the server dates the earlier events of a boot whose clock was wrong then.
"""

from __future__ import annotations

import logging

from edge.board.clock import KnownClock, step_to_tell
from edge.records import ClockState, TimeReading
from edge.trust.floor import TimeFloor
from edge.uplink.reach import Dates
from edge.uplink.recorder import Recorder

log = logging.getLogger(__name__)

NOTED_EVERY_MS = 3_600_000
"""While nothing happens, the last synchronisation is written so often: it may be an hour old."""


class TimeKeeper:
    """`look` and `note` belong to one thread; `dates` may be called from another."""

    def __init__(self, recorder: Recorder, floor: TimeFloor) -> None:
        self._recorder = recorder
        self._outbox, self._clock = recorder.outbox, recorder.clock
        self._floor = floor
        self._noted_mono_ms = 0
        known = self._outbox.known_clock()
        if known is not None and known.boot == self._clock.boot and known.sync is not None:
            self._clock.resume(known.sync)
        self._known = known

    def look(self) -> None:
        """Compare the clock with how it last was; to be called every second or so.

        Raises:
            CannotRecord: what must be told could not be stored; the next look tells it.
        """
        now = self._clock.read()
        step_ms = None if self._known is None else step_to_tell(self._known, now)
        if step_ms is not None:
            self._recorder.clock_set(now, step_ms)
            log.info("clock: %s, set by %+.3f s", now.state, step_ms / 1000)
        if now.state is ClockState.SYNCED:
            self._floor.raise_to((now.real_ms - (now.err_ms or 0)) // 1000)
        new_boot = self._known is None or self._known.boot != now.boot
        self._known = KnownClock.of(now, self._clock.last_sync)
        if new_boot or step_ms is not None or now.mono_ms - self._noted_mono_ms >= NOTED_EVERY_MS:
            self._note(now)

    def note(self) -> None:
        """Write down what is known, before the end."""
        self.look()
        self._note(self._clock.read())

    def dates(self) -> Dates:
        """How the dates of certificates are to be judged now."""
        now = self._clock.read()
        return Dates(now.state is not ClockState.UNSYNCED, self._floor.seconds, now.real_ms / 1000)

    def _note(self, now: TimeReading) -> None:
        self._outbox.note_clock(KnownClock.of(now, self._clock.last_sync))
        self._noted_mono_ms = now.mono_ms
