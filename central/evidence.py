"""What is stored and not believed, and what a person must look at.

Stored is not believed: a refused token is kept byte for byte, with the reason, and
receipted, so that no board's queue stands still for it. Everything odd is one row of
`alert`, which counts how often it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import Connection, null, update

from central.store import tables
from central.store.statements import insert_new, insert_or
from central.verify import EVENT_TOPIC
from edge.errors import TokenRefused
from edge.trust.jws import parse_object, token_hash
from edge.trust.members import MAX_INTEGER
from edge.trust.tokens import CHAIN_PATTERN, MAX_EVENT_BYTES, Place

MAX_DETAIL = 300

MAX_TOPIC = 200


class Alert(StrEnum):
    """Kinds of what a person must look at. Those of refused tokens have the reason's own name."""

    GAP = "gap"
    """Events do not come, for longer than a resend takes."""
    FORK = "fork"
    """Two tokens claim one place."""
    ALTERED = "altered"
    """A token does not follow the one before it."""
    LOST = "lost"
    """The board itself says that events are gone for good."""
    SKIPPED = "skipped"
    """The board set an event aside, because the broker would not take it."""
    AHEAD = "ahead"
    """Dated after its arrival by a clock that calls itself synchronised."""
    TAMPER = "tamper"
    """The board reports that something was touched."""
    BEHIND = "behind"
    """The board has signed a head beyond what is stored here."""
    ROLLED_BACK = "rolled-back"
    """The board's signed head is not what is stored here: another history."""


_TOPIC = re.compile(r"hadir/v1/([a-z0-9][a-z0-9-]{0,31})/up/(?:event|status|health)")

FORK_REASON = "fork"
"""Of evidence whose signature holds, and whose place is taken by another token."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is not believed, as it arrived."""

    topic: str
    payload: bytes
    reason: str
    detail: str
    arrived_ms: int
    device: str
    """Of the topic, which the broker lets only this board write to; empty where that is no board's."""
    place: Place | None
    """Where it says that it belongs."""
    hash: str | None

    @property
    def sha256(self) -> str:
        return sha256(self.payload).hexdigest()


@dataclass(frozen=True, slots=True)
class Notice:
    """One reason to look at something."""

    kind: str
    device: str
    detail: str
    chain: str = ""
    seq: int = 0
    evidence: int | None = None


def refused(topic: str, payload: bytes, error: TokenRefused, arrived_ms: int) -> Refused:
    """What is kept of a message that was refused."""
    match = _TOPIC.fullmatch(topic)
    # A status or a health report has no place in a chain, whatever can be read into it.
    place, hashed = claimed_place(payload) if EVENT_TOPIC.fullmatch(topic) else (None, None)
    return Refused(
        topic=ascii(topic)[1:-1][:MAX_TOPIC],
        payload=payload,
        reason=error.reason.value,
        detail=error.detail[:MAX_DETAIL],
        arrived_ms=arrived_ms,
        device="" if match is None else match[1],
        place=place,
        hash=hashed,
    )


def claimed_place(payload: bytes) -> tuple[Place | None, str | None]:
    """The place that a token claims, and its hash, proven by nothing; None where it cannot be read."""
    if len(payload) > MAX_EVENT_BYTES:
        return None, None
    try:
        _, body, _ = payload.split(b".")
        hashed = token_hash(payload.decode("ascii"))
        (event,) = parse_object(body, "payload")["events"].values()
        chain, seq = event["chain"], event["seq"]
    except (ValueError, KeyError, TypeError, AttributeError, TokenRefused):
        return None, None
    if not isinstance(chain, str) or not CHAIN_PATTERN.fullmatch(chain) or type(seq) is not int:
        return None, None
    return (Place(chain, seq), hashed) if 1 <= seq <= MAX_INTEGER else (None, None)


def keep(connection: Connection, messages: Sequence[Refused]) -> None:
    """Store refused messages, each once however often it comes, with an alert for each board and reason."""
    ordered = sorted(messages, key=lambda one: (one.device, one.sha256, one.reason))
    rows = {(one.device, one.sha256, one.reason): _row(one) for one in ordered}
    kept = insert_new(connection, tables.evidence, list(rows.values()), ["id", "device", "reason"])
    latest = {(row.device, row.reason): row.id for row in sorted(kept, key=lambda row: int(row.id))}
    raise_alerts(
        connection,
        [
            Notice(one.reason, one.device, one.detail, evidence=latest.get((one.device, one.reason)))
            for one in ordered
            if one.reason != FORK_REASON  # has an alert of its own, with the place
        ],
        max((one.arrived_ms for one in ordered), default=0),
    )


def raise_alerts(connection: Connection, notices: Iterable[Notice], now_ms: int) -> None:
    """Open an alert, or count it again; one that was closed is open again."""
    counted: dict[tuple[str, str, str, int], dict[str, object]] = {}
    for notice in notices:
        key = (notice.kind, notice.device, notice.chain, notice.seq)
        before = counted.get(key)
        counted[key] = _alert_row(notice, now_ms, 1 if before is None else int(str(before["count"])) + 1)
    alert = tables.alert.c
    rows = [counted[key] for key in sorted(counted)]
    for row in rows:  # one by one: few, and each adds its own count
        changes: dict[str, object] = {
            "last_ms": "excluded",
            "detail": "excluded",
            "count": alert.count + row["count"],
        }
        if row["evidence"] is not None:
            changes["evidence"] = "excluded"
        insert_or(connection, tables.alert, [row], changes | {"closed_ms": null(), "closed_why": null()})


def close_alert(connection: Connection, key: Mapping[str, object], why: str, now_ms: int) -> int:
    """Close the open alerts with these columns; how many there were."""
    statement = update(tables.alert).where(
        tables.alert.c.closed_ms.is_(None), *(tables.alert.c[name] == value for name, value in key.items())
    )
    return connection.execute(statement.values(closed_ms=now_ms, closed_why=why[:MAX_DETAIL])).rowcount


def _row(one: Refused) -> dict[str, object]:
    return {
        "device": one.device,
        "topic": one.topic,
        "sha256": one.sha256,
        "payload": one.payload[:MAX_EVENT_BYTES],
        "reason": one.reason,
        "detail": one.detail,
        "chain": None if one.place is None else one.place.chain,
        "seq": None if one.place is None else one.place.seq,
        "hash": one.hash,
        "arrived_ms": one.arrived_ms,
    }


def _alert_row(notice: Notice, now_ms: int, count: int) -> dict[str, object]:
    return {
        "kind": notice.kind,
        "device": notice.device,
        "chain": notice.chain,
        "seq": notice.seq,
        "detail": notice.detail[:MAX_DETAIL],
        "count": count,
        "first_ms": now_ms,
        "last_ms": now_ms,
        "evidence": notice.evidence,
    }
