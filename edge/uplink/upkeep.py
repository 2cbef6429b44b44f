"""Keeps the outbox's size within bounds: the archive's age, its room, and warnings long before either matters.

What was not acknowledged is never deleted here, however much there is of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.board.clock import RELEASED_REAL_MS
from edge.config import EventsConfig
from edge.uplink.outbox import Outbox, Space
from edge.uplink.troubles import Trouble, Troubles

log = logging.getLogger(__name__)

ARCHIVE_CHECK_S = 3600.0
SPACE_CHECK_S = 60.0

LOW_SHARE = 0.5
"""Of the room that the outbox may take: from here on it warns."""

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

    def look(self, now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._next_age_s:
            self._next_age_s = now_s + ARCHIVE_CHECK_S
            self.prune_by_age()
        if now_s >= self._next_space_s:
            self._next_space_s = now_s + SPACE_CHECK_S
            self.prune_by_space()

    def prune_by_age(self) -> None:
        """Forget what was acknowledged `archive_days` ago."""
        now_ms = self._real_ms()
        if now_ms >= RELEASED_REAL_MS:
            self._outbox.redate_archive(RELEASED_REAL_MS, now_ms)
        self._outbox.prune_archive(now_ms - self._archive_days * _DAY_MS)

    def prune_by_space(self) -> None:
        """Give up archive, oldest first, while the outbox takes more room than it may; and say how it stands."""
        space = self._outbox.space()
        while space.used_bytes > self._limit_bytes and self._outbox.prune_oldest(PRUNED_AT_ONCE):
            space = self._outbox.space()
        self._tell(space)

    def _tell(self, space: Space) -> None:
        over = space.used_bytes > self._limit_bytes
        low = space.used_bytes > LOW_SHARE * self._limit_bytes
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
                "outbox: %s are taken: %d events wait, %d are in the archive",
                used,
                space.waiting,
                space.archived,
            )
        self._troubles.note(Trouble.DISK_LOW, present=low)
        self._troubles.note(Trouble.DISK_LIMIT, present=over)
