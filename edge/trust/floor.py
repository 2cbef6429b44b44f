"""The latest time that is surely past: what a board without a clock can still hold against others.

It rises with every time that somebody trustworthy told: the release of this program, the
answer to the claim, whatever the fleet signed, and the board's own clock while it was set.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from edge.files import read_bounded, write_durably

log = logging.getLogger(__name__)

FILE = "time-floor"
STEP_S = 3600
"""The file is written when the floor has risen by so much: an hour matters to no certificate, wear of a card does."""

_MAX_BYTES = 32


class TimeFloor:
    """Seconds since 1970, in a file of the state folder. May be used from any thread."""

    def __init__(self, state_dir: Path, released_s: int) -> None:
        self._path = state_dir / FILE
        self._lock = threading.Lock()
        self._written_s = _read(self._path)
        self._floor_s = max(released_s, self._written_s)

    @property
    def seconds(self) -> int:
        """No earlier time can be the present."""
        return self._floor_s

    def raise_to(self, seconds: int) -> None:
        """Somebody trustworthy knows that it is this late; never lowers it."""
        with self._lock:
            self._floor_s = max(self._floor_s, seconds)
            if self._floor_s < self._written_s + STEP_S:
                return
            try:
                write_durably(self._path, f"{self._floor_s}\n".encode())
                self._written_s = self._floor_s
            except OSError as error:
                log.warning("%s: the time floor cannot be kept (%s)", self._path, error.strerror)


def _read(path: Path) -> int:
    """0 where there is none, or it is damaged: then only the other sources count."""
    try:
        return int(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError):
        return 0
