"""Keeps the outbox's size within bounds: the archive's age, its room, and warnings long before either matters.

What was not acknowledged is never deleted here, however much there is of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from edge.board.clock import RELEASED_REAL_MS
from edge.board.health import read_space
from edge.config import EventsConfig
from edge.errors import DiskFull
from edge.uplink.outbox import Outbox, Space
from edge.uplink.troubles import Trouble, Troubles

log = logging.getLogger(__name__)

ARCHIVE_CHECK_S = 3600.0
SPACE_CHECK_S = 60.0

LOW_SHARE = 0.5
"""Of the room that the outbox may take: from here on it warns."""

FREE_LOW_BYTES = 100_000_000
"""Less than that on the disk is little, whoever took the rest."""

TOLD_EVERY_S = 3600.0
"""The log is not told every minute what it was told before."""

PRUNED_AT_ONCE = 500
"""Archived events deleted in one transaction, a few milliseconds."""

_DAY_MS = 24 * 3600 * 1000
_MB = 1_000_000


class Upkeep:
    """Belongs to the publisher's thread."""

    def __init__(
        self, outbox: Outbox, events: EventsConfig, troubles: Troubles, real_ms: Callable[[], int]
    ) -> None:
        self._outbox = outbox
        self._archive_days = events.archive_days
        self._limit_bytes = events.disk_limit_mb * _MB
        self._troubles = troubles
        self._real_ms = real_ms
        self._next_age_s = 0.0
        self._next_space_s = 0.0
        self._told = (False, False)
        self._tell_again_s = 0.0

    def look(self, now_s: float) -> None:
        """Do what is due. On a disk that is full even deleting may fail; it is tried again when it is due again."""
        with suppress(DiskFull):
            if now_s >= self._next_age_s:
                self._next_age_s = now_s + ARCHIVE_CHECK_S
                self.prune_by_age()
            if now_s >= self._next_space_s:
                self._next_space_s = now_s + SPACE_CHECK_S
                self.prune_by_space(now_s)

    def prune_by_age(self) -> None:
        """Forget what was acknowledged `archive_days` ago."""
        now_ms = self._real_ms()
        if now_ms >= RELEASED_REAL_MS:
            self._outbox.redate_archive(RELEASED_REAL_MS, now_ms)
        self._outbox.prune_archive(now_ms - self._archive_days * _DAY_MS)

    def prune_by_space(self, now_s: float) -> None:
        """Give up archive, oldest first, while the outbox takes more room than it may; and say how it stands."""
        space = self._outbox.space()
        while space.used_bytes > self._limit_bytes and self._outbox.prune_oldest(PRUNED_AT_ONCE):
            space = self._outbox.space()
        self._tell(space, now_s)

    def _tell(self, space: Space, now_s: float) -> None:
        over = space.used_bytes > self._limit_bytes
        free_bytes = read_space(self._outbox.path.parent).free_bytes
        low = space.used_bytes > LOW_SHARE * self._limit_bytes or free_bytes < FREE_LOW_BYTES
        self._troubles.note(Trouble.DISK_LOW, present=low)
        self._troubles.note(Trouble.DISK_LIMIT, present=over)
        if self._told == (over, low) and now_s < self._tell_again_s:
            return
        self._told, self._tell_again_s = (over, low), now_s + TOLD_EVERY_S
        used = f"{space.used_bytes / _MB:.0f} MB of {self._limit_bytes / _MB:.0f}"
        if over:
            log.error(
                "outbox: %s are taken by %d events that nobody has acknowledged; they are kept, and new ones too, "
                "until the disk is full. Let them be delivered, or raise events.disk_limit_mb",
                used,
                space.waiting,
            )
        elif low:
            log.warning(
                "outbox: %s are taken, %d MB are free on the disk: %d events wait, %d are in the archive",
                used,
                free_bytes // _MB,
                space.waiting,
                space.archived,
            )
