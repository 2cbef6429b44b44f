"""What each board has by its own signed word and this database has not: after a restore, above all.

A board keeps what was receipted in its archive for some weeks, and sends it again when it
is asked to; what comes fills its place, whatever was thought of it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from central.gone import Reason
from central.store import tables


@dataclass(frozen=True, slots=True)
class Missing:
    """What one chain lacks."""

    device: str
    chain: str
    stored_seq: int
    """Up to here everything is stored or accounted for."""
    head_seq: int | None
    """That the board has signed last; None where it has signed none of this chain here."""
    ranges: tuple[range, ...]
    other_history: bool
    """The board has signed another hash for a place that is stored."""

    @property
    def count(self) -> int:
        return sum(len(places) for places in self.ranges)

    @property
    def resend_from(self) -> int | None:
        """From where the board must send again."""
        return self.ranges[0].start if self.ranges else None


def reconcile(connection: Connection, device: str | None = None) -> Iterator[Missing]:
    """Every chain that lacks something, board by board."""
    chain, head = tables.chain.c, tables.head.c
    heads = select(head.device, head.chain, head.seq, head.hash)
    told = {(row.device, row.chain): row for row in connection.execute(heads)}
    stored = {
        (row.device, row.chain): row for row in connection.execute(select(tables.chain).order_by(chain.id))
    }
    for key in sorted(told.keys() | stored.keys()):
        if device is not None and key[0] != device:
            continue
        row, signed = stored.get(key), told.get(key)
        seq = 0 if row is None else row.seq
        ranges = () if row is None else _lost(connection, row.id)
        here = {} if row is None else _stored_hashes(connection, row.id, seq)
        if signed is not None:
            ranges = (*ranges, *_holes(seq, signed.seq, sorted(here)))
        elif here:
            ranges = (*ranges, *_holes(seq, max(here), sorted(here)))
        known = None if row is None or signed is None else _hash(connection, row.id, signed.seq)
        other = signed is not None and known is not None and known != signed.hash
        if ranges or other:
            yield Missing(*key, seq, None if signed is None else signed.seq, ranges, other)


def _holes(stored_seq: int, last_seq: int, here: list[int]) -> Iterator[range]:
    """What lies between, beyond `stored_seq` and up to `last_seq`."""
    start = stored_seq + 1
    for seq in (*(one for one in here if one <= last_seq), last_seq + 1):
        if start < seq:
            yield range(start, seq)
        start = seq + 1


def _lost(connection: Connection, chain_id: int) -> tuple[range, ...]:
    """What was given up for lost: a board's archive may have it still."""
    gone = tables.gone.c
    rows = connection.execute(
        select(gone.first_seq, gone.last_seq)
        .where(gone.chain_id == chain_id, gone.reason == Reason.LOST.value)
        .order_by(gone.first_seq)
    )
    return tuple(range(first, last + 1) for first, last in rows)


def _stored_hashes(connection: Connection, chain_id: int, after_seq: int) -> dict[int, str]:
    event = tables.event.c
    rows = connection.execute(
        select(event.seq, event.hash).where(event.chain_id == chain_id, event.seq > after_seq)
    )
    return {row.seq: row.hash for row in rows}


def _hash(connection: Connection, chain_id: int, seq: int) -> str | None:
    event = tables.event.c
    return connection.execute(select(event.hash).where(event.chain_id == chain_id, event.seq == seq)).scalar()
