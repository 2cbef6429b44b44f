"""The rules of one chain, apart from where it is kept: what follows what, and what becomes of what does not.

*Held back.* Two tokens in one place, or a `prev` that does not fit, show that two parties
sign this chain: a cloned card, a stolen key. Which of them is the board cannot be told
from here, so that from that place on nothing more of this chain is counted, by whichever
signer; all of it is kept, for a person to decide. Other chains go on, also this board's
next one, which it begins when it learns of the fork.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, TypeVar

GAP_ALERT_S = 60.0
"""A gap that lasts longer than a resend takes is worth a person's attention."""

T = TypeVar("T")


class Verdict(StrEnum):
    """What became of a token in its chain."""

    COUNTED = "counted"
    REDELIVERED = "redelivered"
    WAITING = "waiting"
    FORKED = "forked"
    """Another token claims the same place: both are kept, neither is believed from here on."""
    BROKEN = "broken"
    """Its `prev` is not the hash of the event before it."""
    HELD = "held"
    """At or after the place of a fork or a break."""
    OVERFLOWING = "overflowing"
    """Too many of its board wait already; it is not kept, and must be sent again."""


@dataclass(frozen=True, slots=True)
class Link:
    """An event as a part of its chain."""

    seq: int
    prev: str | None
    hash: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A place whose event is not believed or not to come, and over which the chain goes on."""

    hash: str | None
    """Of its token, where that is known."""
    vouched: bool
    """Whether the board itself has signed that hash, so that the next event must follow it."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain was followed."""

    seq: int = 0
    hash: str | None = None
    """Of `seq`; None where its token was never seen (lost, or before the reader joined)."""
    linked: bool = True
    """Whether `hash` must be the next event's `prev`; not where the token of that hash is not believed."""
    low: int = 1
    """The highest that a verified token of this chain has named: below it, nothing more is to come."""
    held_from: int | None = None

    def hold(self, seq: int) -> Head:
        """Nothing from this place on is counted."""
        return replace(self, held_from=seq if self.held_from is None else min(seq, self.held_from))

    def holds(self, seq: int) -> bool:
        return self.held_from is not None and seq >= self.held_from


@dataclass(slots=True)
class Advance(Generic[T]):
    """What following a chain as far as it goes has shown."""

    head: Head
    settled: list[tuple[T, Verdict]] = field(default_factory=list)
    """In the order of the chain: counted, broken or held."""
    lost: list[range] = field(default_factory=list)
    """Places below `low` that never came."""


def advance(
    head: Head,
    waiting: MutableMapping[int, T],
    link_of: Callable[[T], Link],
    passed: Mapping[int, Passed] | None = None,
) -> Advance[T]:
    """Follow a chain through what waits, by seq; what is settled is taken out of `waiting`.

    Steps over what `passed` names, and over what lies below `low`, as far as nothing waits there.
    """
    done: Advance[T] = Advance(head)
    passed = passed or {}
    while True:
        seq = done.head.seq + 1
        item = waiting.pop(seq, None)
        if item is not None:
            done.head, verdict = settle(done.head, link_of(item))
            done.settled.append((item, verdict))
        elif seq in passed:
            place = passed[seq]
            done.head = replace(done.head, seq=seq, hash=place.hash, linked=place.vouched)
        elif seq < done.head.low:
            stop = min((done.head.low, *(other for other in (*waiting, *passed) if other > seq)))
            done.lost.append(range(seq, stop))
            done.head = replace(done.head, seq=stop - 1, hash=None)
        else:
            return done


def settle(head: Head, link: Link) -> tuple[Head, Verdict]:
    """The verdict on the event that is next in its chain, which takes its place whatever the verdict."""
    fits = head.hash is None or not head.linked or link.prev == head.hash
    moved = replace(head, seq=link.seq, hash=link.hash, linked=True)
    if head.holds(link.seq):
        return moved, Verdict.HELD
    return (moved, Verdict.COUNTED) if fits else (moved.hold(link.seq), Verdict.BROKEN)


def fits_between(link: Link, before: str | None, prev_of_next: str | None) -> bool:
    """Whether an event that comes late fits its neighbours, where they are known."""
    return before in (None, link.prev) and prev_of_next in (None, link.hash)
