"""What a batch means for each chain that it touches, while that chain's row is locked.

Forks are found, places that were given up are filled, words of what will not come are
taken, and the chain is followed through everything that is stored by now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select

from central.chain import Head, Link, Passed, Verdict, advance, fits_between
from central.evidence import FORK_REASON, Alert, Notice, Refused, close_alert
from central.gone import Reason, add_lost, fill, passed_places, set_aside, still_lost
from central.store import tables
from central.store.statements import MAX_ROWS
from central.verify import Received
from edge.trust.tokens import SKIP, TAMPER, Place

FEW = 1000
"""So many waiting events of a chain are read at once; more are read by pages."""


@dataclass(slots=True)
class LockedChain:
    """A chain's row, and what this batch does to it."""

    id: int
    device: str
    name: str
    head: Head
    waiting: int
    """Stored events beyond the head."""
    since_ms: int | None
    """Since when the next one is waited for."""
    refused: int
    """Places that are passed because their token was refused."""
    inserted: list[Received] = field(default_factory=list)
    present: list[Received] = field(default_factory=list)
    """Whose places were taken before."""
    refused_here: list[Refused] = field(default_factory=list)
    """Which say that they belong here."""
    beyond: dict[int, Link] = field(default_factory=dict)
    """What was inserted beyond the head, by seq."""
    notices: list[Notice] = field(default_factory=list)
    forks: list[Refused] = field(default_factory=list)
    verdicts: dict[Verdict, int] = field(default_factory=lambda: defaultdict(int))

    def note(self, kind: Alert, seq: int, detail: str) -> None:
        self.notices.append(Notice(kind, self.device, detail, self.name, seq))


def take_in(connection: Connection, chain: LockedChain, now_ms: int) -> None:
    """What a batch says of one chain, before it is followed."""
    if chain.present:
        _compare(connection, chain)
    for one in chain.inserted:
        if one.event.seq <= chain.head.seq:
            _take_late(connection, chain, one, now_ms)
        else:
            chain.beyond[one.event.seq] = link_of(one)
        chain.head = replace(chain.head, low=max(chain.head.low, one.event.low))
        _take_word(connection, chain, one, now_ms)
    chain.waiting += len(chain.beyond)
    for refused in chain.refused_here:
        place = refused.place
        if place and set_aside(connection, chain.id, place.seq, refused.hash, Reason.REFUSED, now_ms):
            chain.refused += 1


def follow(connection: Connection, chains: Sequence[LockedChain], now_ms: int) -> None:
    """Advance each chain as far as everything that is stored allows."""
    passed = passed_places(connection, [chain.id for chain in chains])
    moving = []
    for chain in chains:
        places = passed[chain.id]
        for seq in places.keys() & chain.beyond.keys():
            del places[seq]
            _fill(connection, chain, seq, now_ms)
        next_seq = chain.head.seq + 1
        if next_seq in chain.beyond or next_seq in places or next_seq < chain.head.low:
            moving.append(chain)
    few = [chain.id for chain in moving if len(chain.beyond) < chain.waiting <= FEW]
    stored = stored_beyond(connection, few) if few else {}
    for chain in moving:
        if chain.waiting <= FEW:
            _advance(connection, chain, chain.beyond | stored.get(chain.id, {}), passed[chain.id], now_ms)
        else:
            _advance_by_pages(connection, chain, passed[chain.id], now_ms)


def hashes(connection: Connection, chain_id: int, seqs: Sequence[int]) -> dict[int, str]:
    """What is stored in these places."""
    event = tables.event.c
    found: dict[int, str] = {}
    for start in range(0, len(seqs), MAX_ROWS):
        some = seqs[start : start + MAX_ROWS]
        rows = connection.execute(
            select(event.seq, event.hash).where(event.chain_id == chain_id, event.seq.in_(some))
        )
        found |= {row.seq: row.hash for row in rows}
    return found


def stored_beyond(connection: Connection, chain_ids: Sequence[int]) -> dict[int, dict[int, Link]]:
    """What lies beyond the heads of these chains as they were before this batch."""
    event, chain = tables.event.c, tables.chain.c
    rows = connection.execute(
        select(event.chain_id, event.seq, event.prev, event.hash)
        .join(tables.chain, chain.id == event.chain_id)
        .where(chain.id.in_(chain_ids), event.seq > chain.seq)
    )
    found: dict[int, dict[int, Link]] = defaultdict(dict)
    for chain_id, seq, prev, hashed in rows:
        found[chain_id][seq] = Link(seq, prev, hashed)
    return found


def link_of(received: Received) -> Link:
    return Link(received.event.seq, received.event.prev, received.hash)


def _compare(connection: Connection, chain: LockedChain) -> None:
    """Redelivery or a fork, of tokens whose places were taken."""
    stored = hashes(connection, chain.id, sorted({one.event.seq for one in chain.present}))
    for one in chain.present:
        known = stored[one.event.seq]
        if known == one.hash:
            chain.verdicts[Verdict.REDELIVERED] += 1
            continue
        chain.verdicts[Verdict.FORKED] += 1
        chain.head = chain.head.hold(one.event.seq)
        chain.note(
            Alert.FORK, one.event.seq, f"two tokens in one place: {known} is stored, {one.hash} came later"
        )
        chain.forks.append(_fork_evidence(one))


def _take_late(connection: Connection, chain: LockedChain, one: Received, now_ms: int) -> None:
    """An event of a place that the chain has passed: lost or refused it was said to be."""
    seq, event = one.event.seq, tables.event.c
    rows = connection.execute(
        select(event.seq, event.hash, event.prev).where(
            event.chain_id == chain.id, event.seq.in_([seq - 1, seq + 1])
        )
    )
    around = {row.seq: row for row in rows}
    before = around[seq - 1].hash if seq - 1 in around else None
    after = around[seq + 1].prev if seq + 1 in around else None
    if not fits_between(link_of(one), before, after):
        chain.head = chain.head.hold(seq)
        chain.note(Alert.ALTERED, seq, "came late and does not fit between the events around it")
    chain.verdicts[Verdict.HELD if chain.head.holds(seq) else Verdict.COUNTED] += 1
    _fill(connection, chain, seq, now_ms)
    if seq == chain.head.seq:
        chain.head = replace(chain.head, hash=one.hash, linked=True)


def _fill(connection: Connection, chain: LockedChain, seq: int, now_ms: int) -> None:
    """What was gone has come."""
    reason = fill(connection, chain.id, seq)
    if reason is Reason.REFUSED:
        chain.refused -= 1
    elif reason is Reason.LOST and not still_lost(connection, chain.id):
        about = {"kind": Alert.LOST.value, "device": chain.device, "chain": chain.name}
        close_alert(connection, about, "all of it came after all", now_ms)


def _take_word(connection: Connection, chain: LockedChain, one: Received, now_ms: int) -> None:
    """What an event says beside having happened."""
    event = one.event
    if event.type == SKIP:
        skipped = event.payload["skipped"]
        set_aside(connection, chain.id, skipped["seq"], skipped["hash"], Reason.SKIPPED, now_ms)
        chain.note(Alert.SKIPPED, skipped["seq"], f"set aside by the board: {event.payload['reason']}")
    if event.type == TAMPER:
        chain.note(Alert.TAMPER, event.seq, f"{event.payload['kind']}: {event.payload['detail']}")
    if one.ahead:
        chain.note(
            Alert.AHEAD, event.seq, "dated ahead of its arrival, by a clock that calls itself synchronised"
        )


def _advance_by_pages(
    connection: Connection, chain: LockedChain, passed: Mapping[int, Passed], now_ms: int
) -> None:
    """For a chain in which very many wait: a gap has closed before a day's events, say."""
    event, low = tables.event.c, chain.head.low
    while True:
        rows = connection.execute(
            select(event.seq, event.prev, event.hash)
            .where(event.chain_id == chain.id, event.seq > chain.head.seq)
            .order_by(event.seq)
            .limit(FEW)
        )
        page = {row.seq: Link(*row) for row in rows}
        more = len(page) == FEW
        # What lies beyond this page is not lost, whatever `low` says: it was only not read yet.
        chain.head = replace(chain.head, low=min(low, max(page) + 1) if more else low)
        _advance(connection, chain, page, passed, now_ms)
        chain.head = replace(chain.head, low=low)
        if not more or page:  # what is left of a page waits for what is missing
            return


def _advance(
    connection: Connection,
    chain: LockedChain,
    waiting: dict[int, Link],
    passed: Mapping[int, Passed],
    now_ms: int,
) -> None:
    """Follow one chain through what waits, which is taken out of `waiting`."""
    done = advance(chain.head, waiting, lambda link: link, passed)
    if done.head.seq != chain.head.seq:
        chain.since_ms = None
    chain.head = done.head
    chain.waiting -= len(done.settled)
    for link, verdict in done.settled:
        chain.verdicts[verdict] += 1
        if verdict is Verdict.BROKEN:
            chain.note(Alert.ALTERED, link.seq, "prev is not the hash of the event before it")
    add_lost(connection, chain.id, done.lost, now_ms)
    for missing in done.lost:
        chain.note(Alert.LOST, missing.start, f"seq {missing.start} to {missing.stop - 1} are gone for good")


def _fork_evidence(received: Received) -> Refused:
    return Refused(
        topic=f"hadir/v1/{received.device}/up/event",
        payload=received.token.encode("ascii"),
        reason=FORK_REASON,
        detail=f"another token is in the place of seq {received.event.seq}",
        arrived_ms=round(received.arrived_s * 1000),
        device=received.device,
        place=Place(received.event.chain, received.event.seq),
        hash=received.hash,
    )
