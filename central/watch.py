"""The chains of all boards in memory, for who looks on: what follows what, and what does not.

A pure state machine: tokens and time go in, findings come out. Each event is counted at
most once, however often and in whatever order it arrives, and in order unless its board
had given it up for lost. It forgets at the end of the process; `central.ledger` does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from central.chain import GAP_ALERT_S, Head, Link, Verdict, advance, fits_between
from central.verify import Received

MAX_WAITING = 4096
"""Events of one board that may wait for those before them: twice what a board has in flight."""

MAX_CHAINS = 64
"""Of one board, whose key may begin chains; a chain is born with a card, not with an event."""

KEPT_HASHES = 4096
"""Of each chain's latest events: as far back as a board can send again unasked. About 1 MB a busy board."""

KEPT_GAPS = 256
"""Runs of lost events in each chain that are still looked for."""


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


@dataclass(frozen=True, slots=True)
class _Gone:
    """A run of places that a board gave up for lost."""

    seqs: range
    last_hash: str | None = None
    """Of the last of them, by the word of the event that follows; None while that is not known."""

    def without(self, received: Received) -> tuple[_Gone, ...]:
        """What is still missing once this one of them came."""
        seq = received.event.seq
        before = _Gone(range(self.seqs.start, seq), received.event.prev)
        after = _Gone(range(seq + 1, self.seqs.stop), self.last_hash)
        return tuple(part for part in (before, after) if part.seqs)


@dataclass(slots=True)
class _Chain:
    """One board's chain as far as it is known."""

    device: str
    chain: str
    head: Head
    hashes: dict[int, str] = field(default_factory=dict)
    """Of the latest events that took their places, oldest first."""
    others: dict[str, int] = field(default_factory=dict)
    """By hash, the places of tokens that came second to theirs, oldest first."""
    waiting: dict[int, Received] = field(default_factory=dict)
    waiting_since_s: float = 0.0
    gone: list[_Gone] = field(default_factory=list)
    """In order; what has not come since."""
    lost: int = 0

    def hold(self, seq: int) -> None:
        self.head = self.head.hold(seq)

    def place(self, received: Received) -> None:
        """This token has taken its place."""
        self.hashes[received.event.seq] = received.hash
        if len(self.hashes) > KEPT_HASHES:
            del self.hashes[next(iter(self.hashes))]

    def settle(self, received: Received) -> None:
        """It is next in the chain; what was lost before it has its word on how that ended."""
        self.place(received)
        for index, gone in enumerate(self.gone):
            if gone.seqs.stop == received.event.seq:
                self.gone[index] = replace(gone, last_hash=received.event.prev)

    def known(self, seq: int) -> str | None:
        """The hash of what is in this place, counted or waiting."""
        return self.waiting[seq].hash if seq in self.waiting else self.hashes.get(seq)


class Ledger:
    """Every chain by board. `join` begins each unknown chain at the first event seen, not at its beginning."""

    def __init__(self, *, join: bool = False) -> None:
        self._join = join
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._chain_counts: Counter[str] = Counter()
        self._waiting_counts: Counter[str] = Counter()

    def take(self, received: Received) -> tuple[Finding, ...]:
        """Put a verified token into its chain; the findings that follow, in chain order."""
        event = received.event
        chain = self._chain(received)
        if chain is None:
            return (Finding(Verdict.OVERFLOWING, received, f"more than {MAX_CHAINS} chains of one board"),)
        known = chain.known(event.seq)
        if known is not None:
            return (_again(chain, received, known),)
        if event.seq <= chain.head.seq:
            return (_late(chain, received),)
        chain.head = replace(chain.head, low=max(chain.head.low, event.low))
        findings = list(self._advance(chain, received.arrived_s))
        if event.seq > chain.head.seq + 1 and self._waiting_counts[chain.device] >= MAX_WAITING:
            return (*findings, Finding(Verdict.OVERFLOWING, received, f"{MAX_WAITING} wait already"))
        if not chain.waiting:
            chain.waiting_since_s = received.arrived_s
        chain.waiting[event.seq] = received
        self._waiting_counts[chain.device] += 1
        findings += self._advance(chain, received.arrived_s)
        if event.seq in chain.waiting:
            findings.append(Finding(Verdict.WAITING, received, f"for seq {chain.head.seq + 1}"))
        return tuple(findings)

    def gaps(self, now_s: float) -> tuple[Gap, ...]:
        """Chains that have waited for a missing event longer than GAP_ALERT_S."""
        return tuple(
            Gap(chain.device, chain.chain, chain.head.seq + 1, min(chain.waiting) - 1, chain.waiting_since_s)
            for chain in self._chains.values()
            if chain.waiting and now_s - chain.waiting_since_s > GAP_ALERT_S
        )

    def waiting_count(self) -> int:
        """Events that wait for those before them."""
        return self._waiting_counts.total()

    def lost_count(self) -> int:
        """Events that are gone for good, by their board's own signed word, and did not come after all."""
        return sum(chain.lost for chain in self._chains.values())

    def _chain(self, received: Received) -> _Chain | None:
        """The token's chain, begun where it is new; None where its board has begun too many."""
        key = (received.device, received.event.chain)
        if key not in self._chains:
            if self._chain_counts[received.device] >= MAX_CHAINS:
                return None
            self._chain_counts[received.device] += 1
            seq = received.event.seq - 1 if self._join else 0
            self._chains[key] = _Chain(received.device, received.event.chain, Head(seq))
        return self._chains[key]

    def _advance(self, chain: _Chain, now_s: float) -> Iterator[Finding]:
        """Settle what is next, in order; step over what the board says is gone for good."""
        if not chain.waiting:
            return
        done = advance(chain.head, chain.waiting, _link)
        chain.head = done.head
        for missing in done.lost:
            chain.gone = [*chain.gone, _Gone(missing)][-KEPT_GAPS:]
            chain.lost += missing.stop - missing.start
        for received, verdict in done.settled:
            self._waiting_counts[chain.device] -= 1
            chain.waiting_since_s = now_s
            chain.settle(received)
            yield Finding(verdict, received, _why(chain, verdict))


def _link(received: Received) -> Link:
    return Link(received.event.seq, received.event.prev, received.hash)


def _why(chain: _Chain, verdict: Verdict) -> str:
    if verdict is Verdict.HELD:
        return f"since seq {chain.head.held_from}"
    return "prev is not the hash of the event before it" if verdict is Verdict.BROKEN else ""


def _again(chain: _Chain, received: Received, known: str) -> Finding:
    """The verdict on a token whose place is taken by one with this hash."""
    if known == received.hash:
        return Finding(Verdict.REDELIVERED, received)
    if received.hash in chain.others:
        return Finding(Verdict.REDELIVERED, received, "of a fork that was told before")
    chain.others[received.hash] = received.event.seq
    if len(chain.others) > KEPT_HASHES:
        del chain.others[next(iter(chain.others))]
    chain.hold(received.event.seq)
    return Finding(Verdict.FORKED, received, f"the other token of this place has hash {known}")


def _late(chain: _Chain, received: Received) -> Finding:
    """The verdict on a token of a place that the chain has passed without knowing its hash."""
    seq = received.event.seq
    index = next((index for index, gone in enumerate(chain.gone) if seq in gone.seqs), None)
    if index is None:
        return Finding(Verdict.REDELIVERED, received, "older than what this ledger remembers")
    gone = chain.gone[index]
    after = gone.last_hash if seq + 1 == gone.seqs.stop else None
    fits = fits_between(_link(received), chain.hashes.get(seq - 1), after)
    chain.gone[index : index + 1] = gone.without(received)
    del chain.gone[:-KEPT_GAPS]
    chain.lost -= 1
    chain.place(received)
    if chain.head.holds(seq):
        return Finding(Verdict.HELD, received, f"since seq {chain.head.held_from}")
    if not fits:
        chain.hold(seq)
        return Finding(Verdict.BROKEN, received, "it does not fit between the events around it")
    return Finding(Verdict.COUNTED, received, "late: it had been given up for lost")
