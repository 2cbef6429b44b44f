"""Places of a chain without an event: lost for good, set aside by the board, or refused here.

Any of them may come after all: then the place is filled, and nothing says that it was gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from sqlalchemy import Connection, delete, select

from central.chain import Passed
from central.store import tables
from central.store.statements import insert_new
from edge.trust.receipts import MAX_REFUSED, RefusedEvent


class Reason(StrEnum):
    """Why there is no event in a place."""

    LOST = "lost"
    """Its board has signed that it holds nothing below a later place, and it never came."""
    SKIPPED = "skipped"
    """Its board has signed that it set the event aside, because the broker would not take it."""
    REFUSED = "refused"
    """A token came that says it belongs there, and is not believed: it is in `evidence`."""


def set_aside(
    connection: Connection, chain_id: int, seq: int, token_hash: str | None, reason: Reason, now_ms: int
) -> bool:
    """Note that the chain goes on over this place; whether it was noted: not where an event or another note is."""
    event, gone = tables.event.c, tables.gone.c
    taken = select(event.seq).where(event.chain_id == chain_id, event.seq == seq)
    noted = select(gone.first_seq).where(
        gone.chain_id == chain_id, gone.first_seq <= seq, gone.last_seq >= seq
    )
    if connection.execute(taken.union_all(noted)).first() is not None:
        return False
    row = _row(chain_id, range(seq, seq + 1), reason, now_ms, token_hash)
    return bool(insert_new(connection, tables.gone, [row], ["first_seq"]))


def add_lost(connection: Connection, chain_id: int, ranges: Sequence[range], now_ms: int) -> None:
    """Note runs of places that never came."""
    rows = [_row(chain_id, missing, Reason.LOST, now_ms) for missing in ranges]
    insert_new(connection, tables.gone, rows, ["first_seq"])


def fill(connection: Connection, chain_id: int, seq: int) -> Reason | None:
    """What was gone came after all; why it was thought gone, None where it was not."""
    gone = tables.gone.c
    covering = (gone.chain_id == chain_id, gone.first_seq <= seq, gone.last_seq >= seq)
    row = connection.execute(select(tables.gone).where(*covering)).first()
    if row is None:
        return None
    connection.execute(delete(tables.gone).where(gone.chain_id == chain_id, gone.first_seq == row.first_seq))
    parts = (range(row.first_seq, seq), range(seq + 1, row.last_seq + 1))
    rows = [_row(chain_id, part, Reason(row.reason), row.noted_ms) for part in parts if part]
    insert_new(connection, tables.gone, rows, ["first_seq"])
    return Reason(row.reason)


def still_lost(connection: Connection, chain_id: int) -> bool:
    """Whether anything of this chain is given up for lost."""
    gone = tables.gone.c
    found = select(gone.first_seq).where(gone.chain_id == chain_id, gone.reason == Reason.LOST.value).limit(1)
    return connection.execute(found).first() is not None


def passed_places(connection: Connection, chain_ids: Sequence[int]) -> Mapping[int, dict[int, Passed]]:
    """By chain and seq, what lies beyond the stored head of these chains and is stepped over."""
    gone, chain = tables.gone.c, tables.chain.c
    rows = connection.execute(
        select(gone.chain_id, gone.first_seq, gone.reason, gone.hash)
        .join(tables.chain, chain.id == gone.chain_id)
        .where(chain.id.in_(chain_ids), gone.first_seq > chain.seq, gone.reason != Reason.LOST.value)
    )
    found: dict[int, dict[int, Passed]] = {chain_id: {} for chain_id in chain_ids}
    for row in rows:
        found[row.chain_id][row.first_seq] = Passed(row.hash, vouched=row.reason == Reason.SKIPPED)
    return found


def refused_events(
    connection: Connection, chain_id: int, device: str, chain: str, up_to: int
) -> tuple[RefusedEvent, ...]:
    """What of this chain was refused up to the receipt's place: the latest, as many as a receipt names."""
    gone, evidence = tables.gone.c, tables.evidence.c
    rows = connection.execute(
        select(gone.first_seq, gone.hash, evidence.reason)
        .join(
            tables.evidence,
            (evidence.device == device)
            & (evidence.chain == chain)
            & (evidence.seq == gone.first_seq)
            & (evidence.hash == gone.hash),
        )
        .where(gone.chain_id == chain_id, gone.reason == Reason.REFUSED.value, gone.first_seq <= up_to)
        .order_by(gone.first_seq.desc(), evidence.id)
        .limit(4 * MAX_REFUSED)
    )
    reasons = {(row.first_seq, row.hash): row.reason for row in rows}
    latest = sorted(reasons, reverse=True)[:MAX_REFUSED]
    return tuple(RefusedEvent(seq, hashed, reasons[seq, hashed]) for seq, hashed in sorted(latest))


def _row(
    chain_id: int, places: range, reason: Reason, now_ms: int, token_hash: str | None = None
) -> dict[str, object]:
    return {
        "chain_id": chain_id,
        "first_seq": places.start,
        "last_seq": places.stop - 1,
        "reason": reason.value,
        "hash": token_hash,
        "noted_ms": now_ms,
    }
