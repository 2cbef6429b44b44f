"""What the main thread looks at every second while the others work: the clock, the disk, the camera."""

from __future__ import annotations

from collections.abc import Callable

from edge.camera.keep import CameraHealth, CameraState
from edge.errors import DiskFull
from edge.records import TamperKind
from edge.uplink.recorder import Recorder
from edge.uplink.room import Room
from edge.uplink.timekeeping import TimeKeeper
from edge.uplink.troubles import Trouble, Troubles

EVERY_MS = 1000

BLIND = frozenset({CameraState.BLACK, CameraState.FROZEN, CameraState.HANGING, CameraState.UNAVAILABLE})

BLIND_MS = 60_000
"""A hand before the lens, or a cable that is plugged in again, is gone by then; a cap is not."""


class Lookout:
    """Records what happened to the board itself. Belongs to one thread; time is an argument."""

    def __init__(
        self,
        recorder: Recorder,
        timekeeper: TimeKeeper,
        room: Room,
        camera: Callable[[], CameraHealth],
        troubles: Troubles,
    ) -> None:
        self._recorder = recorder
        self._timekeeper = timekeeper
        self._room = room
        self._camera = camera
        self._troubles = troubles
        self._next_mono_ms = 0
        self._blind_since_ms: int | None = None
        """Since when there was no usable picture; None while there is one."""
        self._blind_told = False

    def look(self, now_mono_ms: int) -> None:
        """Look, if a second has passed. What a full disk does not let it record, it records later."""
        if now_mono_ms < self._next_mono_ms:
            return
        self._next_mono_ms = now_mono_ms + EVERY_MS
        self._room.look()
        try:
            self._timekeeper.look()
            self._look_at_camera(now_mono_ms)
        except DiskFull:
            self._room.make()

    def _look_at_camera(self, now_mono_ms: int) -> None:
        health = self._camera()
        if health.state not in BLIND:
            self._blind_since_ms = None
        elif self._blind_since_ms is None:
            # Not the present state alone: it may hang and be unavailable by turns.
            self._blind_since_ms = health.since_mono_ms
        blind = self._blind_since_ms is not None and now_mono_ms - self._blind_since_ms >= BLIND_MS
        self._troubles.note(Trouble.CAMERA, present=blind)
        if blind and not self._blind_told:
            self._recorder.tamper(TamperKind.CAMERA, f"{health.state} for a minute: {health.detail}")
        self._blind_told = blind
