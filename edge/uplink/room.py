"""A disk that is full refuses an attendance only when there is truly no other way, and then says so.

A reserve file is kept beside the outbox. When the disk is full it is given up, SQLite's
log is written back, and the archive gives way, so that there is room to record what
happens and to note what is delivered.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from secrets import token_bytes

from edge.board.health import read_space
from edge.errors import DiskFull
from edge.files import write_durably
from edge.records import Attack, Attendance, TamperKind
from edge.uplink.outbox import StoredEvent
from edge.uplink.recorder import Recorder
from edge.uplink.troubles import Trouble, Troubles
from edge.uplink.upkeep import PRUNED_AT_ONCE

log = logging.getLogger(__name__)

RESERVE_FILE = "outbox.reserve"
RESERVE_BYTES = 2 * 1024 * 1024
"""Of noise, which no file system makes smaller. Room for about a thousand events, a day of a small site."""

RENEW_BYTES = 4 * RESERVE_BYTES
"""The reserve is made again once so much is free."""


class Room:
    """Records attendances, on a full disk as well. `attendance` is the pipeline's, `look` the main thread's."""

    def __init__(self, recorder: Recorder, troubles: Troubles) -> None:
        self._recorder = recorder
        self._troubles = troubles
        self._reserve = recorder.outbox.path.with_name(RESERVE_FILE)
        self.refused = 0
        """Attendances since the start for which there was no room."""
        self._told = 0

    def attendance(self, attendance: Attendance) -> StoredEvent:
        """Record that somebody passed.

        Raises:
            DiskFull: there is no room even so; it is refused, and the server is told as soon as there is.
        """
        try:
            return self._recorder.attendance(attendance)
        except DiskFull:
            self.make()
        try:
            return self._recorder.attendance(attendance)
        except DiskFull:
            self.refused += 1
            log.error(
                "outbox: THE DISK IS FULL: an attendance was refused, %d since the start. Make room on the disk "
                "(df); it will be told of then",
                self.refused,
            )
            raise

    def attack(self, attack: Attack) -> None:
        """Record that a picture was held up. For that alone the reserve is not given up."""
        try:
            self._recorder.attack(attack)
        except DiskFull:
            log.error("outbox: the disk is full: an attack was not recorded")

    def make(self) -> None:
        """Give up all that can be spared."""
        log.error("outbox: the disk is full; using the reserve. Make room on it (df)")
        self._reserve.unlink(missing_ok=True)
        self._troubles.note(Trouble.DISK_FULL, present=True)
        with suppress(DiskFull):
            self._recorder.outbox.write_back()
            self._recorder.outbox.prune_oldest(PRUNED_AT_ONCE)

    def look(self) -> None:
        """Tell of what was refused, and make the reserve again, as soon as there is room for it."""
        refused = self.refused
        if refused > self._told:
            detail = f"the disk was full: {refused - self._told} attendance(s) refused"
            try:
                self._recorder.tamper(TamperKind.DISK, detail)
            except DiskFull:
                return
            log.warning("outbox: there is room again; the server is told that %s", detail)
            self._told = refused
        if not self._reserve.exists() and read_space(self._reserve.parent).free_bytes > RENEW_BYTES:
            with suppress(OSError):
                write_durably(self._reserve, token_bytes(RESERVE_BYTES))
        self._troubles.note(Trouble.DISK_FULL, present=not self._reserve.exists())
