"""What is wrong with a board that somebody should see to: told in its status and its health."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum


class Trouble(StrEnum):
    """The values are stable: they are reported."""

    NOT_AUTHORIZED = "not-authorized"
    """The broker does not let this board publish its events."""
    TAKEN_OVER = "session-taken-over"
    """Another client logged in as this board."""
    NO_RECEIPTS = "no-receipts"
    """Events are sent, and the server does not say that it has them."""
    DISK_LOW = "disk-low"
    """More than half of the room that the outbox may take is taken, or the disk has little left."""
    DISK_LIMIT = "disk-limit"
    """Nothing but unreceipted events is left, and they take more room than they should."""
    DISK_FULL = "disk-full"
    """There is room for no more than the reserve, or not even that: then attendances are refused."""
    CAMERA = "camera"
    """The camera gives no usable pictures."""


class Troubles:
    """The present ones. May be used from several threads."""

    def __init__(self) -> None:
        self._present: set[Trouble] = set()
        self._lock = threading.Lock()
        self.changed: Callable[[], None] = lambda: None
        """Called when one comes or goes, by whoever noticed it."""

    def note(self, trouble: Trouble, *, present: bool) -> None:
        """Say whether there is such a trouble now."""
        with self._lock:
            before = trouble in self._present
            if before == present:
                return
            self._present ^= {trouble}
        self.changed()

    def names(self) -> list[str]:
        """In alphabetical order."""
        with self._lock:
            return sorted(self._present)
