"""From "somebody was recognised" to a signed event that is safe on disk."""

from __future__ import annotations

from dataclasses import dataclass

from edge.board.clock import Clock
from edge.records import Attendance, ChainPosition, Direction, SignedToken
from edge.steps import Step, reached
from edge.trust.events import attendance_claims, start_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import sign
from edge.trust.tokens import EVENT_TYP
from edge.uplink.outbox import Outbox, StoredEvent


@dataclass(frozen=True, slots=True)
class Recorder:
    """Signs and stores what this board has to tell. Returns only when it is durable."""

    outbox: Outbox
    identity: DeviceIdentity
    clock: Clock
    direction: Direction
    embedder: str
    """The embedder id, whole; the event carries its first 16 characters."""
    gallery: int
    """Version of the gallery in use."""
    diagnostics: bool

    def attendance(self, attendance: Attendance) -> StoredEvent:
        """Record that somebody passed."""
        reached(Step.ATTENDANCE_DECIDED)
        made = self.clock.read()

        def signed(position: ChainPosition) -> SignedToken:
            claims = attendance_claims(
                self.identity,
                position,
                made,
                attendance,
                direction=self.direction,
                embedder=self.embedder[:16],
                gallery=self.gallery,
                diagnostics=self.diagnostics,
            )
            return sign(claims, self.identity.key, EVENT_TYP)

        return self.outbox.append(signed, made.real_ms)

    def start(self, version: str) -> StoredEvent:
        """Record that the daemon started, why, and whether its last run ended in good order."""
        made = self.clock.read()
        previous = self.outbox.previous_run()
        head = self.outbox.head()
        reached(Step.START_BEGUN)
        cause = "new" if previous is None else "restart" if previous.boot == made.boot else "boot"

        def signed(position: ChainPosition) -> SignedToken:
            claims = start_claims(
                self.identity,
                position,
                made,
                cause=cause,
                clean=previous is None or previous.clean,
                version=version,
                last=head.seq or None,
            )
            return sign(claims, self.identity.key, EVENT_TYP)

        stored = self.outbox.append(signed, made.real_ms)
        self.outbox.mark_run(made.boot, clean=False)
        reached(Step.START_MARKED)
        return stored
