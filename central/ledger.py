"""The chains of all boards in the database: a batch of messages goes in, whole or not at all.

Any number of consumers share one database, and events of one chain may reach different
ones in any order. Each inserts what it has, then locks the rows of the chains that it
touched, in one order, and follows each chain as far as everything that is stored by then
allows. Whoever locks a chain second sees what the first has stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from central.chain import Head, Verdict
from central.evidence import Refused, keep, raise_alerts
from central.follow import LockedChain, follow, hashes, take_in
from central.gone import refused_events
from central.keyring import note_handovers
from central.steps import Step
from central.store import tables
from central.store.statements import MAX_ROWS, chain_ids, insert_new
from central.times import date_boots, own_date
from central.verify import Received, event_name
from edge.errors import Refusal
from edge.steps import reached
from edge.trust.receipts import RefusedEvent
from edge.trust.tokens import ATTENDANCE

Key = tuple[str, str]
"""A device and its chain."""


@dataclass(frozen=True, slots=True)
class Due:
    """A receipt that a chain is owed."""

    chain_id: int
    device: str
    chain: str
    seq: int
    hash: str
    refused: tuple[RefusedEvent, ...]


@dataclass(slots=True)
class Outcome:
    """What a batch has become."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    """Of the verified tokens of this batch, and of those that waited for them."""
    refused: int = 0
    due: list[Due] = field(default_factory=list)


def begin_chains(connection: Connection, keys: Iterable[Key], now_ms: int) -> dict[Key, int]:
    """The ids of these chains; those that are new begin here.

    In a transaction of its own: a row that others wait for is not held through a whole batch.
    """
    wanted = sorted(set(keys))
    known = chain_ids(connection, wanted)
    new = [
        {"device": device, "chain": name, "begun_ms": now_ms} | _columns(Head(), 0, None, 0)
        for device, name in wanted
        if (device, name) not in known
    ]
    insert_new(connection, tables.chain, new, ["id"])
    return chain_ids(connection, wanted) if new else known


def place_of(one: Refused) -> Key | None:
    """The chain that a refused message belongs to by its own word; None where it has none."""
    return None if one.place is None or not one.device else (one.device, one.place.chain)


def store(
    connection: Connection,
    ids: Mapping[Key, int],
    received: Sequence[Received],
    refused: Sequence[Refused],
    now_ms: int,
) -> Outcome:
    """Store a batch in the transaction of this connection. `ids` holds every chain that it touches."""
    known, refused = _known_of_revoked(connection, ids, refused)
    keep(connection, refused)
    first, doubled = _first_of_each_place(ids, received)
    rows = [_event_row(chain_id, one) for chain_id, one in first]
    inserted = insert_new(connection, tables.event, rows, ["chain_id", "seq"])
    reached(Step.EVENTS_INSERTED)
    belonging = [(chain_id, one) for one in refused if (chain_id := _chain_id(ids, one)) is not None]
    chains = _lock(connection, known | {chain_id for chain_id, _ in (*first, *belonging)})
    _hand_out(chains, first, doubled, {(row.chain_id, row.seq) for row in inserted})
    for chain_id, one in belonging:
        chains[chain_id].refused_here.append(one)
    for chain in chains.values():
        take_in(connection, chain, now_ms)
    follow(connection, list(chains.values()), now_ms)
    _write(connection, list(chains.values()), now_ms)
    reached(Step.HEADS_MOVED)
    return _outcome(connection, chains.values(), len(refused))


def _outcome(connection: Connection, chains: Iterable[LockedChain], refused: int) -> Outcome:
    outcome = Outcome(refused=refused)
    for chain in chains:
        outcome.verdicts.update(chain.verdicts)
        outcome.verdicts[Verdict.WAITING] += sum(seq > chain.head.seq for seq in chain.beyond)
        if chain.head.hash is not None:
            outcome.due.append(_due(connection, chain, chain.head.hash))
    return outcome


def _due(connection: Connection, chain: LockedChain, head_hash: str) -> Due:
    seq = chain.head.seq
    named = refused_events(connection, chain.id, chain.device, chain.name, seq) if chain.refused else ()
    return Due(chain.id, chain.device, chain.name, seq, head_hash, named)


def _first_of_each_place(
    ids: Mapping[Key, int], received: Sequence[Received]
) -> tuple[list[tuple[int, Received]], list[tuple[int, Received]]]:
    """The first of each place, in the order in which everybody inserts; and what claims a place once more."""
    first: dict[tuple[int, int], tuple[int, Received]] = {}
    doubled = []
    for one in received:
        chain_id = ids[one.device, one.event.chain]
        if (chain_id, one.event.seq) in first:
            doubled.append((chain_id, one))
        else:
            first[chain_id, one.event.seq] = (chain_id, one)
    return [first[key] for key in sorted(first)], doubled


def _hand_out(
    chains: Mapping[int, LockedChain],
    first: Iterable[tuple[int, Received]],
    doubled: Iterable[tuple[int, Received]],
    inserted: set[tuple[int, int]],
) -> None:
    for chain_id, one in first:
        chain = chains[chain_id]
        (chain.inserted if (chain_id, one.event.seq) in inserted else chain.present).append(one)
    for chain_id, one in doubled:
        chains[chain_id].present.append(one)


def _lock(connection: Connection, wanted: set[int]) -> dict[int, LockedChain]:
    """The rows of these chains, in order, so that two consumers never wait for each other.

    SQLite has one writer at a time, and its dialect leaves FOR UPDATE out.
    """
    rows: list[Row[Any]] = []
    numbers = sorted(wanted)
    for start in range(0, len(numbers), MAX_ROWS):
        some = numbers[start : start + MAX_ROWS]
        statement = select(tables.chain).where(tables.chain.c.id.in_(some)).order_by(tables.chain.c.id)
        rows += connection.execute(statement.with_for_update())
    return {
        row.id: LockedChain(
            id=row.id,
            device=row.device,
            name=row.chain,
            head=Head(row.seq, row.hash, row.linked, row.low, row.held_from),
            waiting=row.waiting,
            since_ms=row.waiting_since_ms,
            refused=row.refused,
        )
        for row in rows
    }


def _known_of_revoked(
    connection: Connection, ids: Mapping[Key, int], refused: Sequence[Refused]
) -> tuple[set[int], list[Refused]]:
    """Take out what was stored before its key was revoked: it only comes again, and is receipted again."""
    known: set[int] = set()
    left = []
    for one in refused:
        chain_id = _chain_id(ids, one) if one.reason == Refusal.REVOKED_KEY else None
        if chain_id is not None and one.place is not None:
            stored = hashes(connection, chain_id, [one.place.seq])
            if stored.get(one.place.seq) == one.hash:
                known.add(chain_id)
                continue
        left.append(one)
    return known, left


def _chain_id(ids: Mapping[Key, int], one: Refused) -> int | None:
    key = place_of(one)
    return None if key is None else ids.get(key)


def _write(connection: Connection, chains: Sequence[LockedChain], now_ms: int) -> None:
    """The chains' rows, the evidence and alerts of this batch, and what its clocks date."""
    rows = []
    for chain in chains:
        since_ms = (chain.since_ms or now_ms) if chain.waiting else None
        rows.append({"this": chain.id} | _columns(chain.head, chain.waiting, since_ms, chain.refused))
    if rows:
        connection.execute(_MOVE, rows)
    keep(connection, [one for chain in chains for one in chain.forks])
    raise_alerts(connection, [notice for chain in chains for notice in chain.notices], now_ms)
    inserted = [(chain.id, one) for chain in chains for one in chain.inserted]
    note_handovers(connection, inserted)
    date_boots(connection, inserted)


_MOVE = update(tables.chain).where(tables.chain.c.id == bindparam("this"))


def _columns(head: Head, waiting: int, since_ms: int | None, refused: int) -> dict[str, object]:
    return {
        "seq": head.seq,
        "hash": head.hash,
        "linked": head.linked,
        "low": head.low,
        "held_from": head.held_from,
        "waiting": waiting,
        "waiting_since_ms": since_ms,
        "refused": refused,
    }


def _event_row(chain_id: int, received: Received) -> dict[str, object]:
    event, dated = received.event, own_date(received)
    return {
        "chain_id": chain_id,
        "seq": event.seq,
        "hash": received.hash,
        "prev": event.prev,
        "token": received.token,
        "type": event_name(event.type),
        "person": event.person,
        "direction": event.payload["direction"] if event.type == ATTENDANCE else None,
        "boot": event.boot,
        "mono_ms": event.mono_ms,
        "clock": event.clock.value,
        "at_ms": None if dated is None else dated.at_ms,
        "err_ms": None if dated is None else dated.err_ms,
        "quality": None if dated is None else dated.quality.value,
        "was_chain": None if event.was is None else event.was.chain,
        "was_seq": None if event.was is None else event.was.seq,
        "arrived_ms": round(received.arrived_s * 1000),
    }
