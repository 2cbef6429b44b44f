"""Whether the stored chains are whole, shown from the stored bytes alone.

Nothing that a column says is believed: each token is verified anew, hashed, and held
against its place, the token before it, the columns that reports are made from, the chain's
row, and the heads that its board has signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from central.registry import Registry
from central.store import tables
from central.times import Quality, own_date
from central.verify import Received, event_name, verify_event
from edge.errors import TokenRefused

PAGE = 1000
MAX_PROBLEMS = 20
"""Told of one chain; the rest is counted."""


@dataclass(slots=True)
class Proof:
    """What walking one chain has shown."""

    device: str
    chain: str
    events: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    gone: int = 0
    """Places without an event that are accounted for: lost, skipped or refused."""
    signed_seq: int | None = None
    """How far the board has signed that the chain goes; beyond `last_seq` something is missing, or on its way."""
    problems: list[str] = field(default_factory=list)
    more: int = 0
    """Problems beyond those told."""

    @property
    def whole(self) -> bool:
        return not self.problems

    def blame(self, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(what)
        else:
            self.more += 1


def prove(connection: Connection, registry: Registry, device: str | None = None) -> Iterator[Proof]:
    """Walk every chain, of one board or of all."""
    chain = tables.chain.c
    statement = select(tables.chain).order_by(chain.device, chain.id)
    if device is not None:
        statement = statement.where(chain.device == device)
    for row in connection.execute(statement).all():
        yield _walk(connection, registry, row)


def _walk(connection: Connection, registry: Registry, chain: Row[Any]) -> Proof:
    proof = Proof(chain.device, chain.chain)
    gone = _gone(connection, chain.id)
    proof.gone = sum(map(len, gone))
    signed = _signed_heads(connection, chain)
    proof.signed_seq = max(signed, default=None)
    if chain.held_from is not None and not _released(connection, chain):
        proof.blame(
            f"seq {chain.held_from}: a fork or a break; from here on nothing is counted, see the alerts"
        )
    expected, before = 1, None
    for row in _events(connection, chain.id):
        _check_hole(proof, range(expected, min(row.seq, chain.seq + 1)), gone)
        received = _verified(proof, registry, chain, row)
        if received is not None:
            follows = before is not None and row.seq == expected
            if follows and received.event.prev != before and not _held(chain, row.seq):
                proof.blame(f"seq {row.seq}: prev is not the hash of the event before it")
            if signed.get(row.seq, received.hash) != received.hash:
                proof.blame(f"seq {row.seq}: the board has signed another hash for this place")
            if row.seq == chain.seq and received.hash != chain.hash:
                proof.blame(f"seq {row.seq}: the chain's row has another hash")
        before = None if received is None else received.hash
        proof.events += 1
        proof.first_seq = row.seq if proof.first_seq is None else proof.first_seq
        proof.last_seq, expected = row.seq, row.seq + 1
    _check_hole(proof, range(expected, chain.seq + 1), gone)
    return proof


def _check_hole(proof: Proof, missing: range, gone: list[range]) -> None:
    if missing and not _accounted(missing, gone):
        proof.blame(f"seq {missing.start} to {missing.stop - 1}: missing, and nothing says why")


def _events(connection: Connection, chain_id: int) -> Iterator[Row[Any]]:
    event, last = tables.event.c, 0
    while True:
        statement = select(tables.event).where(event.chain_id == chain_id, event.seq > last)
        page = connection.execute(statement.order_by(event.seq).limit(PAGE)).all()
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1].seq


def _verified(proof: Proof, registry: Registry, chain: Row[Any], row: Row[Any]) -> Received | None:
    """The event, verified anew; None where it does not hold."""
    topic = f"hadir/v1/{chain.device}/up/event"
    try:
        # A key may have been revoked since: what arrived before stays believed.
        payload = row.token.encode("utf-8", "surrogatepass")
        received = verify_event(topic, payload, registry, row.arrived_ms / 1000, revoked_too=True)
    except TokenRefused as error:
        proof.blame(f"seq {row.seq}: {error}")
        return None
    for what in _disagreements(received, chain, row):
        proof.blame(f"seq {row.seq}: {what} is not what the token says")
    return received


def _disagreements(received: Received, chain: Row[Any], row: Row[Any]) -> Iterator[str]:
    """Columns that do not say what the token says."""
    event = received.event
    said: dict[str, object] = {
        "seq": event.seq,
        "hash": received.hash,
        "prev": event.prev,
        "type": event_name(event.type),
        "person": event.person,
        "boot": event.boot,
        "mono_ms": event.mono_ms,
        "clock": event.clock.value,
        "was_chain": None if event.was is None else event.was.chain,
        "was_seq": None if event.was is None else event.was.seq,
    }
    if row.direction is not None or event_name(event.type) == "attendance":
        said["direction"] = event.payload.get("direction")
    dated = own_date(received)
    if row.quality == Quality.SYNCED:
        said["at_ms"] = None if dated is None else dated.at_ms
    if event.chain != chain.chain:
        yield "chain"
    yield from (name for name, value in said.items() if getattr(row, name) != value)


def _released(connection: Connection, chain: Row[Any]) -> bool:
    """Whether a person has said that the place of the fork or break counts."""
    release = tables.release.c
    found = select(release.id).where(
        release.device == chain.device,
        release.chain == chain.chain,
        release.first_seq <= chain.held_from,
        release.last_seq >= chain.held_from,
    )
    return connection.execute(found.limit(1)).first() is not None


def _held(chain: Row[Any], seq: int) -> bool:
    return chain.held_from is not None and seq >= chain.held_from


def _gone(connection: Connection, chain_id: int) -> list[range]:
    gone = tables.gone.c
    rows = connection.execute(
        select(gone.first_seq, gone.last_seq).where(gone.chain_id == chain_id).order_by(gone.first_seq)
    )
    return [range(first, last + 1) for first, last in rows]


def _accounted(missing: range, gone: list[range]) -> bool:
    """Whether these ranges, in order, cover all of the missing places."""
    next_seq = missing.start
    for places in gone:
        if places.start <= next_seq < places.stop:
            next_seq = places.stop
    return next_seq >= missing.stop


def _signed_heads(connection: Connection, chain: Row[Any]) -> dict[int, str | None]:
    head = tables.head.c
    rows = connection.execute(
        select(head.seq, head.hash).where(head.device == chain.device, head.chain == chain.chain)
    )
    return {row.seq: row.hash for row in rows}
