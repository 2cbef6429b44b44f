"""What no message tells and somebody must notice: gaps that last, boards whose events do not come, revoked keys."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, and_, func, or_, select, update

from central.chain import GAP_ALERT_S
from central.evidence import Alert, Notice, raise_alerts
from central.store import tables
from central.store.statements import insert_new
from central.times import date_boot

BEHIND_ALERT_S = 600.0
"""A board resends after ten seconds what is not receipted; after ten minutes in silence it does not get through."""


def look_around(connection: Connection, now_ms: int) -> None:
    """Open and close alerts by what is stored now, and date what a `clock:1` in another chain can date."""
    raise_alerts(connection, [*_new_gaps(connection, now_ms), *_new_behind(connection, now_ms)], now_ms)
    _close_what_came(connection, now_ms)
    event, chain, clock = tables.event.c, tables.chain.c, tables.clock.c
    undated = connection.execute(
        select(clock.device, clock.boot)
        .distinct()
        .join(tables.event, and_(event.boot == clock.boot, event.at_ms.is_(None)))
        .join(tables.chain, and_(chain.id == event.chain_id, chain.device == clock.device))
    )
    for device, boot in undated.all():
        date_boot(connection, device, boot)


def note_revocations(connection: Connection, revoked: Mapping[str, str], now_ms: int) -> None:
    """Record of keys that are found revoked up to where their boards' chains are stored; the first record stays."""
    rows = []
    for kid, device in sorted(revoked.items()):
        stored = _ends(connection, device) or [(0, 0)]
        rows += [
            {"kid": kid, "chain_id": chain_id, "device": device, "seq": seq, "noted_ms": now_ms}
            for chain_id, seq in stored
        ]
    insert_new(connection, tables.revocation, rows, ["kid"])


def _ends(connection: Connection, device: str) -> list[tuple[int, int]]:
    event, chain = tables.event.c, tables.chain.c
    rows = connection.execute(
        select(chain.id, func.max(event.seq))
        .join(tables.event, event.chain_id == chain.id)
        .where(chain.device == device)
        .group_by(chain.id)
    )
    return [(chain_id, seq) for chain_id, seq in rows]


def _new_gaps(connection: Connection, now_ms: int) -> list[Notice]:
    """Chains that have waited too long for a missing event, and are not alerted of yet."""
    chain, event, alert = tables.chain.c, tables.event.c, tables.alert.c
    next_stored = (
        select(func.min(event.seq)).where(event.chain_id == chain.id, event.seq > chain.seq).scalar_subquery()
    )
    told = select(alert.kind).where(
        alert.kind == Alert.GAP.value,
        alert.device == chain.device,
        alert.chain == chain.chain,
        alert.seq == chain.seq + 1,
        alert.closed_ms.is_(None),
    )
    rows = connection.execute(
        select(chain.device, chain.chain, chain.seq, next_stored).where(
            chain.waiting > 0, chain.waiting_since_ms < now_ms - GAP_ALERT_S * 1000, ~told.exists()
        )
    )
    return [
        Notice(Alert.GAP, device, f"seq {seq + 1} to {following - 1} are missing", name, seq + 1)
        for device, name, seq, following in rows
    ]


def _new_behind(connection: Connection, now_ms: int) -> list[Notice]:
    """Boards that have signed more than is stored, and of which nothing has come since."""
    chain, head, event, alert = tables.chain.c, tables.head.c, tables.event.c, tables.alert.c
    came_since = select(event.seq).where(
        event.chain_id == chain.id, event.seq >= chain.seq, event.arrived_ms > head.told_ms
    )
    told = select(alert.kind).where(
        alert.kind == Alert.BEHIND.value,
        alert.device == head.device,
        alert.chain == head.chain,
        alert.closed_ms.is_(None),
    )
    same = and_(chain.device == head.device, chain.chain == head.chain)
    rows = connection.execute(
        select(head.device, head.chain, head.seq, func.coalesce(chain.seq, 0))
        .select_from(tables.head.outerjoin(tables.chain, same))
        .where(
            head.told_ms < now_ms - BEHIND_ALERT_S * 1000,
            or_(chain.seq.is_(None), chain.seq < head.seq),
            ~came_since.exists(),
            ~told.exists(),
        )
    )
    return [
        Notice(
            Alert.BEHIND,
            device,
            f"the board has signed seq {seq}, stored is up to {stored}",
            name,
            stored + 1,
        )
        for device, name, seq, stored in rows
    ]


def _close_what_came(connection: Connection, now_ms: int) -> None:
    """Close alerts of gaps, and of boards that were behind, once the chain has passed the place."""
    chain, alert = tables.chain.c, tables.alert.c
    passed = select(chain.id).where(
        chain.device == alert.device, chain.chain == alert.chain, chain.seq >= alert.seq
    )
    connection.execute(
        update(tables.alert)
        .where(
            alert.kind.in_([Alert.GAP.value, Alert.BEHIND.value]), alert.closed_ms.is_(None), passed.exists()
        )
        .values(closed_ms=now_ms, closed_why="the chain goes on")
    )
