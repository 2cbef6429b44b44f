"""What boards say of themselves: state and health unsigned, and signed heads, which bind them.

A signed head tells what there must be. Held against what is stored, it shows what is still
on its way, what a restored database has lost, and a board that tells another history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from central.consume import Message
from central.evidence import Alert, Notice, raise_alerts
from central.registry import Registry
from central.store import tables
from central.store.statements import insert_or
from edge.errors import Refusal, TokenRefused
from edge.trust.identity import device_urn, site_urn
from edge.trust.jws import parse_members, verify
from edge.trust.receipts import Head, parse_head
from edge.trust.tokens import HEAD_TYP

BOARD_TOPIC = re.compile(r"hadir/v1/([a-z0-9][a-z0-9-]{0,31})/up/(status|health)")

MAX_BYTES = 8 * 1024
"""Of a status or a health report; ours have under 2 KiB."""

_BOOT = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a board said of itself."""

    device: str
    kind: str
    """status or health"""
    members: Mapping[str, Any]
    text: str
    head: Head | None
    head_token: str | None


def read(message: Message, registry: Registry) -> Said:
    """A status or health message, with its head verified. Raises TokenRefused."""
    match = BOARD_TOPIC.fullmatch(message.topic)
    if match is None:
        raise TokenRefused(Refusal.WRONG_OWNER, f"{ascii(message.topic)[:80]} is no board's topic")
    if len(message.payload) > MAX_BYTES:
        raise TokenRefused(Refusal.TOO_LARGE, f"{len(message.payload)} bytes, at most {MAX_BYTES}")
    members = parse_members(message.payload, match[2])
    token = members.get("head")
    head = None if token is None else _verified_head(token, match[1], registry)
    return Said(match[1], match[2], members, json.dumps(members), head, None if head is None else token)


def note(connection: Connection, said: Sequence[Said], now_ms: int) -> None:
    """Store what boards said, the furthest head of each chain, and alerts of heads that do not fit what is stored."""
    for one in sorted(
        said, key=lambda one: one.device
    ):  # every consumer is told all: two must not wait for each other
        if one.kind == "health":
            row = {"device": one.device, "health": one.text, "health_ms": now_ms}
            insert_or(connection, tables.board, [row], {"health": "excluded", "health_ms": "excluded"})
        else:
            _note_status(connection, one, now_ms)
        if one.head is not None and one.head_token is not None:
            _note_head(connection, one.device, one.head, one.head_token, now_ms)


def _note_status(connection: Connection, said: Said, now_ms: int) -> None:
    """A `lost` or `offline` counts only of the connection that said `online` last: wills come late."""
    state, boot, conn = (said.members.get(name) for name in ("state", "boot", "conn"))
    if state not in {"online", "offline", "lost"} or type(conn) is not int or not 0 <= conn < 2**31:
        return
    if not isinstance(boot, str) or not _BOOT.fullmatch(boot):
        return
    board = tables.board.c
    last = connection.execute(select(board.boot, board.conn).where(board.device == said.device)).first()
    if state != "online" and last is not None and last.boot is not None and tuple(last) != (boot, conn):
        return
    row = {
        "device": said.device,
        "state": state,
        "boot": boot,
        "conn": conn,
        "status": said.text,
        "status_ms": now_ms,
    }
    insert_or(connection, tables.board, [row], {name: "excluded" for name in row if name != "device"})


def _note_head(connection: Connection, device: str, told: Head, token: str, now_ms: int) -> None:
    known, event, chain = tables.head.c, tables.event.c, tables.chain.c
    last = connection.execute(
        select(known.seq).where(known.device == device, known.chain == told.chain)
    ).scalar()
    if last is None or last < told.seq:
        row = {
            "device": device,
            "chain": told.chain,
            "seq": told.seq,
            "hash": told.hash,
            "issued_s": told.issued_s,
            "token": token,
            "told_ms": now_ms,
        }
        changes = {name: "excluded" for name in row if name not in {"device", "chain"}}
        insert_or(connection, tables.head, [row], changes)
    stored = connection.execute(
        select(event.hash)
        .join(tables.chain, chain.id == event.chain_id)
        .where(chain.device == device, chain.chain == told.chain, event.seq == told.seq)
    ).scalar()
    if stored is not None and stored != told.hash:
        detail = f"the board signs {told.hash} as the hash of seq {told.seq}, {stored} is stored"
        notice = Notice(Alert.ROLLED_BACK, device, detail, told.chain, told.seq)
        raise_alerts(connection, [notice], now_ms)


def _verified_head(token: Any, device: str, registry: Registry) -> Head:
    if not isinstance(token, str):
        raise TokenRefused(Refusal.MALFORMED, "head is no token")
    verified = verify(token, HEAD_TYP, registry.keys, max_bytes=MAX_BYTES)
    registration = registry.registrations[verified.kid]
    head = parse_head(verified.claims)
    if registration.device != device or head.issuer != device_urn(device):
        raise TokenRefused(Refusal.WRONG_OWNER, f"a head of {registration.device} came on {device}'s topic")
    if head.audience != site_urn(registration.site):
        raise TokenRefused(Refusal.WRONG_AUDIENCE, f"aud is {ascii(head.audience)[:80]}")
    if registration.revoked_at is not None:
        raise TokenRefused(Refusal.REVOKED_KEY, f"the key of {device} was revoked")
    return head
