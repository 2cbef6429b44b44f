"""Which events are on their way on one connection, and which may follow: arithmetic, time an argument.

An event is *in flight* until its PUBACK, and *outstanding* until it is covered: by a
receipt, or, where PUBACKs count as delivery, by that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

STALL_S = 10.0
"""Without progress for so long, everything outstanding is sent again (the design's 10 s)."""

STALL_MAX_S = 600.0
"""So long at most between two such repetitions; the first doubles up to it."""

NOT_AUTHORIZED = 0x87


@dataclass(slots=True)
class Window:
    """What is known about the events of one connection."""

    in_flight_max: int
    """The broker's Receive Maximum, or our own window."""
    outstanding_max: int | None = None
    """Most events unreceipted; None where PUBACKs count as delivery."""
    covered_seq: int = 0
    """Everything up to here has been delivered, or so far as was asked again."""
    cursor: int = 0
    """Everything up to here was handed to this connection."""
    more: bool = True
    """Whether the outbox may hold something beyond the cursor."""
    in_flight: dict[int, int] = field(default_factory=dict)
    """Message id to seq."""
    retries: dict[int, float] = field(default_factory=dict)
    """Seq to the time from which it may be sent again."""
    paused_until_s: float = 0.0
    repeated: int = 0
    """How often in a row it was sent again for want of receipts."""
    _sending: set[int] = field(default_factory=set)
    _waiting_since_s: float | None = None
    _patience_s: float = STALL_S

    def start_at(self, covered_seq: int) -> None:
        """Begin behind what was delivered."""
        self.covered_seq = self.cursor = covered_seq
        self.more = True
        self._waiting_since_s = None

    def room(self, now_s: float) -> int:
        """How many more events may be sent now."""
        if now_s < self.paused_until_s or not self.more:
            return 0
        room = self.in_flight_max - len(self.in_flight)
        if self.outstanding_max is not None:
            room = min(room, self.covered_seq + self.outstanding_max - self.cursor)
        return max(room, 0)

    def is_sending(self, seq: int) -> bool:
        """Whether it is in flight on this connection."""
        return seq in self._sending

    def sent(self, mid: int, seq: int, now_s: float) -> None:
        """An event went out under this message id."""
        self.in_flight[mid] = seq
        self._sending.add(seq)
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s

    def answered(self, mid: int) -> int | None:
        """The event whose PUBACK came; None for other messages."""
        seq = self.in_flight.pop(mid, None)
        if seq is not None:
            self._sending.discard(seq)
        return seq

    def refused(self, seq: int, reason: int, again_at_s: float) -> None:
        """Keep an event that the broker did not take, and send it again later."""
        self.retries[seq] = again_at_s
        if reason == NOT_AUTHORIZED:
            self.paused_until_s = again_at_s

    def covered(self, seq: int, now_s: float) -> None:
        """A receipt covers everything up to `seq`."""
        if seq <= self.covered_seq:
            return
        self.covered_seq = seq
        self.more = True
        self.repeated = 0
        self._patience_s = STALL_S
        self._waiting_since_s = now_s if self.cursor > seq else None

    def rewind_when_due(self, now_s: float) -> bool:
        """Go back to what must be sent again; True if that is for want of receipts."""
        due = [seq for seq, again_at_s in self.retries.items() if now_s >= again_at_s]
        for seq in due:
            del self.retries[seq]
        if due:
            self.cursor = min(self.cursor, min(due) - 1)
            self.more = True
        return self._rewind_if_stalled(now_s)

    def _rewind_if_stalled(self, now_s: float) -> bool:
        since_s = self._waiting_since_s
        if self.outstanding_max is None or since_s is None or self.cursor <= self.covered_seq:
            return False
        if now_s < self.paused_until_s or now_s - since_s < self._patience_s:
            return False
        self.cursor, self.more, self._waiting_since_s = self.covered_seq, True, None
        self._patience_s = min(2 * self._patience_s, STALL_MAX_S) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self.repeated += 1
        return True
