"""What the daemon's threads are made of: a named loop with one owner, and the slot between two."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge.records import Frame


class Loop:
    """One named thread, what made it end, and whether it still turns."""

    def __init__(self, name: str, body: Callable[[Loop], None]) -> None:
        self.name = name
        self.turns = 0
        """Rises while the body shows progress; the watchdog compares it."""
        self.error: BaseException | None = None
        """What ended the body, to be raised by the owner; None for a good end."""
        self._body = body
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def turned(self) -> None:
        """Called by the body whenever it is alive and well."""
        self.turns += 1

    def join(self, timeout_s: float) -> None:
        """Wait for the end, but not for ever."""
        self._thread.join(timeout_s)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body(self)
        except BaseException as error:  # noqa: BLE001 - kept for the owner, who raises it
            self.error = error


class Slot:
    """Holds the newest frame only. A live camera overwrites it; a file waits until it was taken."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._closed = False
        self.dropped = 0
        """Frames that nobody took in time."""

    def put(self, frame: Frame, *, may_drop: bool) -> None:
        """Leave a frame for whoever takes; after `close` it is let go."""
        with self._condition:
            if not may_drop:
                self._condition.wait_for(lambda: self._frame is None or self._closed)
            if self._closed:
                return
            self.dropped += self._frame is not None
            self._frame = frame
            self._condition.notify_all()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame; None where none came in time, or none will come."""
        with self._condition:
            self._condition.wait_for(lambda: self._frame is not None or self._closed, timeout_s)
            frame, self._frame = self._frame, None
            self._condition.notify_all()
            return frame

    def close(self) -> None:
        """No more frames will come; what is in the slot can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def finished(self) -> bool:
        """Closed, and the last frame was taken."""
        with self._condition:
            return self._closed and self._frame is None
