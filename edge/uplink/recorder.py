"""From "somebody was recognised" to a signed event that is safe on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge import __version__
from edge.board.clock import Clock
from edge.errors import TokenRefused
from edge.records import (
    Attack,
    Attendance,
    ChainPosition,
    Direction,
    SignedToken,
    TamperKind,
    TimeReading,
)
from edge.steps import Step, reached
from edge.trust.events import (
    Claims,
    attack_claims,
    attendance_claims,
    clock_claims,
    resigned_claims,
    skip_claims,
    start_claims,
    tamper_claims,
)
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import parse_object, sign
from edge.trust.tokens import EVENT_TYP, KEY, SKIP
from edge.uplink.outbox import Aside, Outbox, Sign, StoredEvent

LEFT_BEHIND = frozenset({SKIP, KEY})
"""What speaks of its own chain alone, and would be untrue in another."""


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

        def claims(position: ChainPosition) -> Claims:
            return attendance_claims(
                self.identity,
                position,
                made,
                attendance,
                direction=self.direction,
                embedder=self.embedder[:16],
                gallery=self.gallery,
                diagnostics=self.diagnostics,
            )

        return self.outbox.append(self._signing(claims), made.real_ms)

    def attack(self, attack: Attack) -> StoredEvent:
        """Record that a picture of somebody was held up."""
        made = self.clock.read()

        def claims(position: ChainPosition) -> Claims:
            return attack_claims(
                self.identity, position, made, frames=attack.frames, seen_mono_ms=attack.seen_mono_ms
            )

        return self.outbox.append(self._signing(claims), made.real_ms)

    def start(self, version: str) -> StoredEvent:
        """Record that the daemon started, why, and whether its last run ended in good order."""
        made = self.clock.read()
        previous = self.outbox.previous_run()
        head = self.outbox.head()
        reached(Step.START_BEGUN)
        cause = "new" if previous is None else "restart" if previous.boot == made.boot else "boot"

        def claims(position: ChainPosition) -> Claims:
            clean = previous is None or previous.clean
            return start_claims(
                self.identity,
                position,
                made,
                cause=cause,
                clean=clean,
                version=version,
                last=head.seq or None,
            )

        stored = self.outbox.append(self._signing(claims), made.real_ms)
        self.outbox.mark_run(made.boot, clean=False)
        reached(Step.START_MARKED)
        return stored

    def clock_set(self, made: TimeReading, step_ms: int) -> StoredEvent:
        """Record that the clock was set, or jumped by so much; this reading shows what it is now."""

        def claims(position: ChainPosition) -> Claims:
            return clock_claims(self.identity, position, made, step_ms=step_ms)

        return self.outbox.append(self._signing(claims), made.real_ms)

    def tamper(self, kind: TamperKind, detail: str) -> StoredEvent:
        """Record that somebody, or a fault, did something to the board."""
        return self.outbox.append(self._signing_tamper(kind, detail), self.clock.read().real_ms)

    def skip(self, seq: int, token_hash: str, reason: str) -> StoredEvent:
        """Set an event aside that cannot be sent, and record that and why."""
        made = self.clock.read()

        def claims(position: ChainPosition) -> Claims:
            return skip_claims(self.identity, position, made, seq=seq, token_hash=token_hash, reason=reason)

        stored = self.outbox.append(self._signing(claims), made.real_ms, sets_aside=Aside(seq, token_hash))
        reached(Step.SET_ASIDE)
        return stored

    def new_chain(self, kind: TamperKind, detail: str) -> str:
        """Give up the chain for a new one, which begins by saying so; its name.

        What was not acknowledged is signed anew by `sign_former`.
        """
        made = self.clock.read()

        def start(position: ChainPosition) -> Claims:
            return start_claims(
                self.identity, position, made, cause=kind.value, clean=False, version=__version__, last=None
            )

        first = (self._signing(start), self._signing_tamper(kind, detail))
        return self.outbox.begin_new_chain(first, made.real_ms)

    def sign_former(self, limit: int) -> int:
        """Sign the oldest events of a chain that was given up anew, saying where they were; how many are done."""
        return self.outbox.sign_former(self._signing_former, limit)

    def _signing(self, claims: Callable[[ChainPosition], Claims]) -> Sign:
        def signed(position: ChainPosition) -> SignedToken:
            return sign(claims(position), self.identity.key, EVENT_TYP)

        return signed

    def _signing_tamper(self, kind: TamperKind, detail: str) -> Sign:
        made = self.clock.read()

        def claims(position: ChainPosition) -> Claims:
            return tamper_claims(self.identity, position, made, kind=kind, detail=detail)

        return self._signing(claims)

    def _signing_former(self, token: bytes) -> Sign | None:
        """None for what cannot be read, or must not be repeated; it is in the frozen file."""
        try:
            old = parse_object(token.split(b".")[1], "payload")
            (kind,) = old["events"]
            resigned_claims(old, ChainPosition(chain="", seq=1, prev=None, low=1))
        except (TokenRefused, LookupError, ValueError, TypeError, AttributeError):
            return None
        return None if kind in LEFT_BEHIND else self._signing(lambda place: resigned_claims(old, place))
