"""The chains of all boards: what follows what, and what does not.

A pure state machine: tokens and time go in, findings come out. Each event is counted
exactly once and in order, however often and in whatever order it arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from central.verify import Received

MAX_WAITING = 4096
"""Events of one chain that may wait for those before them: twice what a board has in flight."""

GAP_ALERT_S = 60.0
"""A gap that lasts longer than a resend takes is worth a person's attention."""


class Verdict(StrEnum):
    """What became of a token in its chain."""

    COUNTED = "counted"
    REDELIVERED = "redelivered"
    WAITING = "waiting"
    FORKED = "forked"
    """Another token claims the same place: both are kept, neither is believed from here on."""
    BROKEN = "broken"
    """Its `prev` is not the hash of the event before it."""
    OVERFLOWING = "overflowing"
    """Too many wait already; it will be sent again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on one token."""

    verdict: Verdict
    received: Received
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a chain is waiting for."""

    device: str
    chain: str
    first_seq: int
    last_seq: int
    since_s: float


@dataclass(slots=True)
class _Chain:
    """One board's chain as far as it is known."""

    device: str
    chain: str
    seq: int = 0
    hash: str | None = None
    """Of `seq`; None where that event itself was never seen (lost, or before this ledger joined)."""
    hashes: dict[int, str] = field(default_factory=dict)
    """Of everything counted."""
    waiting: dict[int, Received] = field(default_factory=dict)
    waiting_since_s: float = 0.0
    lost: int = 0


class Ledger:
    """Every chain by board. `join` begins each unknown chain at the first event seen, not at its beginning."""

    def __init__(self, *, join: bool = False) -> None:
        self._join = join
        self._chains: dict[tuple[str, str], _Chain] = {}

    def take(self, received: Received) -> tuple[Finding, ...]:
        """Put a verified token into its chain; the findings that follow, in chain order."""
        event = received.event
        chain = self._chain(received)
        known = chain.hashes.get(event.seq) or (
            chain.waiting[event.seq].hash if event.seq in chain.waiting else None
        )
        if known is not None:
            same = known == received.hash
            return (Finding(Verdict.REDELIVERED if same else Verdict.FORKED, received),)
        if event.seq <= chain.seq:
            return (Finding(Verdict.REDELIVERED, received, "from before this ledger's time"),)
        if len(chain.waiting) >= MAX_WAITING:
            return (Finding(Verdict.OVERFLOWING, received),)
        if not chain.waiting:
            chain.waiting_since_s = received.arrived_s
        chain.waiting[event.seq] = received
        findings = tuple(self._advance(chain, received.arrived_s))
        if event.seq in chain.waiting:
            return (*findings, Finding(Verdict.WAITING, received, f"for seq {chain.seq + 1}"))
        return findings

    def gaps(self, now_s: float) -> tuple[Gap, ...]:
        """Chains that have waited for a missing event longer than GAP_ALERT_S."""
        return tuple(
            Gap(chain.device, chain.chain, chain.seq + 1, min(chain.waiting) - 1, chain.waiting_since_s)
            for chain in self._chains.values()
            if chain.waiting and now_s - chain.waiting_since_s > GAP_ALERT_S
        )

    def waiting_count(self) -> int:
        """Events that wait for those before them."""
        return sum(len(chain.waiting) for chain in self._chains.values())

    def lost_count(self) -> int:
        """Events that are gone for good, by their board's own signed word."""
        return sum(chain.lost for chain in self._chains.values())

    def _chain(self, received: Received) -> _Chain:
        key = (received.device, received.event.chain)
        if key not in self._chains:
            seq = received.event.seq - 1 if self._join else 0
            self._chains[key] = _Chain(received.device, received.event.chain, seq)
        return self._chains[key]

    def _advance(self, chain: _Chain, now_s: float) -> Iterator[Finding]:
        """Count what fits, in order; step over what the board says is gone for good."""
        while chain.waiting:
            lowest = min(chain.waiting)
            if lowest > chain.seq + 1:
                gone_below = max(received.event.low for received in chain.waiting.values())
                if gone_below <= chain.seq + 1:
                    return
                stop = min(lowest, gone_below)
                chain.lost += stop - chain.seq - 1
                chain.seq, chain.hash = stop - 1, None
                continue
            received = chain.waiting.pop(lowest)
            chain.waiting_since_s = now_s
            if chain.hash is not None and received.event.prev != chain.hash:
                yield Finding(Verdict.BROKEN, received, "prev is not the hash of the event before it")
                # The place is taken by what was signed; what follows is judged against it.
            else:
                yield Finding(Verdict.COUNTED, received)
            chain.seq, chain.hash = lowest, received.hash
            chain.hashes[lowest] = received.hash
