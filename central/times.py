"""When an event happened, and how good that is.

A board dates an event itself while its clock is synchronised, or was in this boot. What it
made before, `clock:1` dates: the event's CLOCK_BOOTTIME and that of the `clock:1` of the
same boot lie so many milliseconds apart. What no clock dates lies between its neighbours
in the chain, or is unknown; for payroll it takes a person's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, bindparam, or_, select, update

from central.store import tables
from central.store.statements import insert_new
from central.verify import Received
from edge.records import ClockState
from edge.trust.tokens import CLOCK

DRIFT_PPM = 50
"""What a board's crystal may be off by, as the boards themselves reckon it in holdover."""


class Quality(StrEnum):
    """How a time is known."""

    SYNCED = "synced"
    """By the board's synchronised clock, or what it kept of it in this boot, with its error."""
    CORRECTED = "corrected"
    """Reckoned from a later or earlier `clock:1` of the same boot."""
    ATTESTED = "attested"
    """By a person's word."""
    BOUNDED = "bounded"
    """Between its neighbours in the chain; for payroll it takes a person's word."""
    UNKNOWN = "unknown"
    """Before its arrival, and that is all; for payroll it takes a person's word."""


@dataclass(frozen=True, slots=True)
class Dated:
    """When, in milliseconds since 1970, to how many milliseconds, and how that is known."""

    at_ms: int
    err_ms: int | None
    quality: Quality


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What a `clock:1` said while synchronised."""

    mono_ms: int
    real_ms: int
    err_ms: int

    def date(self, mono_ms: int) -> Dated:
        """Another moment of the same boot."""
        apart_ms = mono_ms - self.mono_ms
        err_ms = self.err_ms + abs(apart_ms) * DRIFT_PPM // 1_000_000 + 1
        return Dated(self.real_ms + apart_ms, err_ms, Quality.CORRECTED)


def own_date(received: Received) -> Dated | None:
    """As the board dated it; None where its clock was not to be believed, or is ahead of ours against its word."""
    event = received.event
    if event.clock is ClockState.UNSYNCED or received.ahead:
        return None
    at_ms = event.issued_s * 1000 if event.seen_s is None else round(event.seen_s * 1000)
    return Dated(at_ms, event.err_ms, Quality.SYNCED)


def best_date(mono_ms: int, readings: Sequence[ClockReading]) -> Dated | None:
    """By the reading that dates it most exactly; None where there is none."""
    return min(
        (reading.date(mono_ms) for reading in readings), key=lambda dated: dated.err_ms or 0, default=None
    )


def clock_row(chain_id: int, received: Received) -> dict[str, object] | None:
    """The row of `clock` that an event gives; None where it is no `clock:1`, or its clock is not to be believed."""
    event = received.event
    if event.type != CLOCK or event.clock is not ClockState.SYNCED or received.ahead:
        return None
    return {
        "chain_id": chain_id,
        "seq": event.seq,
        "device": received.device,
        "boot": event.boot,
        "mono_ms": event.mono_ms,
        "real_ms": event.payload["real_ms"],
        "err_ms": event.payload["err_ms"],
    }


def date_boots(connection: Connection, arrived: Iterable[tuple[int, Received]]) -> None:
    """Note what these events say of clocks, and date what that can date.

    To be called while their chains are locked: of two consumers, one with the event and
    one with its `clock:1`, the second then sees what the first has stored.
    """
    arrived = list(arrived)
    rows = [
        row for row in (clock_row(chain_id, received) for chain_id, received in arrived) if row is not None
    ]
    insert_new(connection, tables.clock, rows, ["seq"])
    unsynced = {
        (received.device, received.event.boot)
        for _, received in arrived
        if received.event.clock is not ClockState.SYNCED
    }
    for device, boot in sorted(unsynced | {(str(row["device"]), str(row["boot"])) for row in rows}):
        date_boot(connection, device, boot)


def date_boot(connection: Connection, device: str, boot: str) -> None:
    """Date the events of a boot that no clock dated, or the clock in holdover worse than `clock:1` can."""
    event, chain, clock = tables.event.c, tables.chain.c, tables.clock.c
    rows = connection.execute(
        select(clock.mono_ms, clock.real_ms, clock.err_ms).where(clock.device == device, clock.boot == boot)
    )
    readings = [ClockReading(*row) for row in rows]
    if not readings:
        return
    found = connection.execute(
        select(event.chain_id, event.seq, event.mono_ms, event.at_ms, event.err_ms, event.quality)
        .join(tables.chain, chain.id == event.chain_id)
        .where(
            chain.device == device,
            event.boot == boot,
            event.clock != ClockState.SYNCED.value,
            or_(event.quality.is_(None), event.quality != Quality.ATTESTED.value),
        )
    ).all()
    changes = []
    for row in found:
        dated = best_date(row.mono_ms, readings)
        if dated is not None and (
            row.err_ms is None or row.at_ms is None or (dated.err_ms or 0) < row.err_ms
        ):
            changes.append(
                {
                    "of_chain": row.chain_id,
                    "of_seq": row.seq,
                    "at_ms": dated.at_ms,
                    "err_ms": dated.err_ms,
                    "quality": dated.quality.value,
                }
            )
    if changes:
        connection.execute(_REDATE, changes)


_REDATE = update(tables.event).where(
    tables.event.c.chain_id == bindparam("of_chain"), tables.event.c.seq == bindparam("of_seq")
)
