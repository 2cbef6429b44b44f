"""What is stored, with how it is believed and how good its time is; and who was in on a day.

Belief is not a column: it follows from the chain's row, from releases, and for an event that
was signed anew from the event that it was. So it is the same for every reader, at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, exists, func, or_, select

from central.store import tables
from central.times import Quality


class Belief(StrEnum):
    """Whether an event counts."""

    COUNTED = "counted"
    WAITING = "waiting"
    """For events before it."""
    HELD = "held"
    """At or after the place of a fork or a break, and not released."""
    REPEATED = "repeated"
    """Signed anew in another chain, and the event that it was is counted."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it is told."""

    device: str
    type: str
    person: str | None
    direction: str | None
    at_ms: int | None
    err_ms: int | None
    quality: Quality
    earliest_ms: int | None
    """Of an event that no clock dates: its dated neighbour before it in the chain."""
    latest_ms: int
    """The dated neighbour after it, or its arrival."""
    arrived_ms: int
    belief: Belief
    chain: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Presence:
    """A person's first in and last out of a day; None where there was none."""

    person: str
    first_in_ms: int | None
    last_out_ms: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """From the first moment to before the last."""

    begin_ms: int
    end_ms: int


def day(when: date, zone: ZoneInfo) -> Span:
    """A day of this zone, which has 23 or 25 hours where clocks change."""
    begin, end = (datetime.combine(one, time(), zone) for one in (when, when + timedelta(days=1)))
    return Span(round(begin.timestamp() * 1000), round(end.timestamp() * 1000))


def events(
    connection: Connection, *conditions: ColumnElement[bool], device: str | None = None
) -> Iterator[StoredEvent]:
    """Stored events that meet these conditions, in the order in which they happened, as far as that is known."""
    event, chain = tables.event.c, tables.chain.c
    statement = (
        select(tables.event, chain.device, chain.chain, _belief().label("belief"))
        .join(tables.chain, chain.id == event.chain_id)
        .where(*conditions)
        .order_by(func.coalesce(event.at_ms, event.arrived_ms), chain.device, event.chain_id, event.seq)
    )
    if device is not None:
        statement = statement.where(chain.device == device)
    for row in connection.execute(statement):
        found = StoredEvent(
            device=row.device,
            type=row.type,
            person=row.person,
            direction=row.direction,
            at_ms=row.at_ms,
            err_ms=row.err_ms,
            quality=Quality.UNKNOWN if row.quality is None else Quality(row.quality),
            earliest_ms=row.at_ms,
            latest_ms=row.arrived_ms if row.at_ms is None else row.at_ms,
            arrived_ms=row.arrived_ms,
            belief=Belief(row.belief),
            chain=row.chain,
            seq=row.seq,
            hash=row.hash,
        )
        yield found if row.at_ms is not None else _bounded(connection, row.chain_id, found)


def of_day(span: Span) -> ColumnElement[bool]:
    """Happened then, or arrived then without a time of its own."""
    event = tables.event.c
    return or_(
        and_(event.at_ms >= span.begin_ms, event.at_ms < span.end_ms),
        and_(event.at_ms.is_(None), event.arrived_ms >= span.begin_ms, event.arrived_ms < span.end_ms),
    )


def undated() -> ColumnElement[bool]:
    """Has no time that a clock or a person vouches for."""
    return tables.event.c.at_ms.is_(None)


def arrived_since(since_ms: int) -> ColumnElement[bool]:
    return tables.event.c.arrived_ms >= since_ms


def who_was_in(connection: Connection, span: Span) -> Sequence[Presence]:
    """Everybody of whom a counted attendance happened then. What has no time is not in it: see `undated`."""
    event, chain = tables.event.c, tables.chain.c
    rows = connection.execute(
        select(
            event.person,
            func.min(case((event.direction != "out", event.at_ms))),
            func.max(case((event.direction != "in", event.at_ms))),
        )
        .join(tables.chain, chain.id == event.chain_id)
        .where(
            event.person.is_not(None),
            event.direction.is_not(None),
            event.at_ms >= span.begin_ms,
            event.at_ms < span.end_ms,
            _counted(tables.event, tables.chain),
        )
        .group_by(event.person)
        .order_by(event.person)
    )
    return [Presence(*row) for row in rows]


def _counted(event: FromClause, chain: FromClause) -> ColumnElement[bool]:
    """In its place in an unbroken chain, or released; a repetition of the same moment changes no first and last."""
    release = tables.release.c
    released = exists().where(
        release.device == chain.c.device,
        release.chain == chain.c.chain,
        release.first_seq <= event.c.seq,
        release.last_seq >= event.c.seq,
    )
    return and_(
        event.c.seq <= chain.c.seq,
        or_(chain.c.held_from.is_(None), event.c.seq < chain.c.held_from, released),
    )


def _belief() -> ColumnElement[str]:
    event, chain = tables.event, tables.chain
    repeated = and_(event.c.was_chain.is_not(None), or_(_counts_as_it_was(), _counts_elsewhere()))
    return case(
        (event.c.seq > chain.c.seq, Belief.WAITING.value),
        (~_counted(event, chain), Belief.HELD.value),
        (repeated, Belief.REPEATED.value),
        else_=Belief.COUNTED.value,
    )


def _counts_as_it_was() -> ColumnElement[bool]:
    """The event in the place that `was` names is this one, and counts."""
    event = tables.event
    before, its_chain = event.alias("before"), tables.chain.alias("its_chain")
    in_that_place = and_(its_chain.c.chain == event.c.was_chain, before.c.seq == event.c.was_seq)
    return _counts(before, its_chain, in_that_place)


def _counts_elsewhere() -> ColumnElement[bool]:
    """It was signed anew twice, and counts in the chain that was begun here first."""
    event = tables.event
    other, its_chain = event.alias("other"), tables.chain.alias("other_chain")
    same = and_(
        other.c.was_chain == event.c.was_chain,
        other.c.was_seq == event.c.was_seq,
        other.c.chain_id < event.c.chain_id,
    )
    return _counts(other, its_chain, same)


def _counts(other: FromClause, its_chain: FromClause, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether another event of this board is of the same moment as `event`, meets the condition, and counts.

    A place alone tells nothing: a clone's event may be in it.
    """
    event = tables.event.c
    return (
        exists()
        .select_from(other.join(its_chain, its_chain.c.id == other.c.chain_id))
        .where(
            condition,
            its_chain.c.device == tables.chain.c.device,
            other.c.boot == event.boot,
            other.c.mono_ms == event.mono_ms,
            other.c.type == event.type,
            other.c.person.is_not_distinct_from(event.person),
            _counted(other, its_chain),
        )
        .correlate(tables.event, tables.chain)
    )


def _bounded(connection: Connection, chain_id: int, found: StoredEvent) -> StoredEvent:
    """Between which dated neighbours of its chain it lies."""
    event = tables.event.c
    dated = select(event.at_ms).where(event.chain_id == chain_id, event.at_ms.is_not(None)).limit(1)
    earliest = connection.execute(dated.where(event.seq < found.seq).order_by(event.seq.desc())).scalar()
    latest = connection.execute(dated.where(event.seq > found.seq).order_by(event.seq)).scalar()
    return replace(
        found,
        quality=Quality.UNKNOWN if earliest is None else Quality.BOUNDED,
        earliest_ms=earliest,
        latest_ms=found.arrived_ms if latest is None else min(latest, found.arrived_ms),
    )
