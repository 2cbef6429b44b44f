"""Which event may be what breaks the connection: it is sent alone, and set aside if it does it again.

A broker may hang up on a packet that it cannot digest, and would do so for ever, with
everything behind that event. So what was in flight at three ends of a connection in a
row is sent alone, and only what was alone in flight at three more is set aside: a broker
that is restarted now and then must not cost anybody an event.
"""

from __future__ import annotations

from collections.abc import Collection

IN_A_ROW = 3

INNOCENT = frozenset({0x00, 0x8B, 0x8D, 0x8E, 0x98, 0x9C, 0x9D})
"""Reasons of an end (MQTT 5, section 3.14.2.1) that no event brings about: ours, server shutting down, keep alive
timeout, session taken over, administrative action, another server."""


class Suspects:
    """Remembers what was in flight when connections ended; lives as long as the publisher."""

    def __init__(self) -> None:
        self._suspected: set[int] = set()
        self._ends = 0
        self._ends_alone = 0

    @property
    def alone(self) -> int | None:
        """The event to be sent with no other beside it; None where there is no suspicion."""
        return min(self._suspected) if self._ends >= IN_A_ROW and self._suspected else None

    def ended(self, in_flight: Collection[int], reason: int) -> int | None:
        """A connection ended; the event to set aside, if there is one."""
        if reason in INNOCENT or not in_flight:
            return None
        alone = self.alone
        if alone is None:
            again = self._suspected & set(in_flight)
            self._suspected, self._ends = (again, self._ends + 1) if again else (set(in_flight), 1)
            return None
        self._ends_alone += 1
        if self._ends_alone < IN_A_ROW:
            return None
        self.cleared(alone)
        return alone

    def cleared(self, seq: int) -> None:
        """The broker answered for it, or it was set aside."""
        self._suspected.discard(seq)
        self._ends_alone = 0
        if not self._suspected:
            self._ends = 0
