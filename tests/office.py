"""A board's chain of real tokens for the server's tests, a server without a broker, and what it stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from central.consume import Message
from central.keyring import Keyring
from central.query import StoredEvent, events
from central.server import Server, Signer
from central.store import tables
from central.store.database import reading
from edge.records import (
    Attendance,
    ChainPosition,
    ClockState,
    Direction,
    SignedToken,
    TamperKind,
    TimeReading,
)
from edge.trust.events import (
    attendance_claims,
    clock_claims,
    key_claims,
    resigned_claims,
    skip_claims,
    start_claims,
    tamper_claims,
)
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, parse_object, sign
from edge.trust.receipts import RECEIPT_TYP, Receipt, head_claims, verify_receipt
from edge.trust.tokens import BOARD_TYPS, EVENT_TYP, HEAD_TYP

NOW_MS = 1_764_000_000_000
"""When the clocks of the tests begin: 2025-11-24 16:00 UTC."""

SYNCED, HOLDOVER, UNSYNCED = ClockState.SYNCED, ClockState.HOLDOVER, ClockState.UNSYNCED


@dataclass
class Chain:
    """A board's chain as it grows; the board's clock is moved by hand."""

    device: str = "door-01"
    chain: str = "A" * 22
    key: SigningKey = field(default_factory=SigningKey.generate)
    boot: str = "boot-1"
    mono_ms: int = 1000
    real_ms: int = NOW_MS
    clock: ClockState = SYNCED
    err_ms: int | None = 5
    low: int = 1
    site: str = "hq"
    tokens: list[SignedToken] = field(default_factory=list)

    @property
    def identity(self) -> DeviceIdentity:
        return DeviceIdentity(self.device, self.site, self.key)

    @property
    def made(self) -> TimeReading:
        err_ms = None if self.clock is UNSYNCED else self.err_ms
        return TimeReading(self.real_ms, self.mono_ms, self.boot, self.clock, err_ms)

    @property
    def position(self) -> ChainPosition:
        prev = self.tokens[-1].hash if self.tokens else None
        return ChainPosition(self.chain, len(self.tokens) + 1, prev, min(self.low, len(self.tokens) + 1))

    def later(self, seconds: float) -> None:
        """Both clocks go on."""
        self.mono_ms += round(seconds * 1000)
        self.real_ms += round(seconds * 1000)

    def reboot(self, boot: str, clock: ClockState = SYNCED) -> None:
        self.boot, self.mono_ms, self.clock = boot, 1000, clock

    def start(self, cause: str = "new") -> Message:
        last = len(self.tokens) or None
        claims = start_claims(
            self.identity, self.position, self.made, cause=cause, clean=True, version="1", last=last
        )
        return self.add(claims)

    def attend(self, person: str = "E1042", direction: Direction = Direction.IN) -> Message:
        seen = Attendance(1, person, 4, 0.7, 0.4, self.mono_ms)
        claims = attendance_claims(
            self.identity, self.position, self.made, seen, direction=direction, embedder="e" * 16, gallery=1
        )
        return self.add(claims)

    def set_clock(self, real_ms: int, err_ms: int = 10) -> Message:
        """`clock:1`, on becoming synchronised."""
        step_ms, self.real_ms = real_ms - self.real_ms, real_ms
        self.clock, self.err_ms = SYNCED, err_ms
        return self.add(clock_claims(self.identity, self.position, self.made, step_ms=step_ms))

    def hand_over(self, new: SigningKey) -> Message:
        message = self.add(
            key_claims(self.identity, self.position, self.made, new.verification_key(BOARD_TYPS))
        )
        self.key = new
        return message

    def skip(self, seq: int) -> Message:
        claims = skip_claims(
            self.identity,
            self.position,
            self.made,
            seq=seq,
            token_hash=self.tokens[seq - 1].hash,
            reason="too-large",
        )
        return self.add(claims)

    def tamper(self, detail: str) -> Message:
        return self.add(
            tamper_claims(self.identity, self.position, self.made, kind=TamperKind.FORK, detail=detail)
        )

    def sign_anew(self, token: SignedToken) -> Message:
        """What another chain of this board held."""
        claims = parse_object(token.compact.split(".")[1].encode(), "payload")
        return self.add(resigned_claims(claims, self.position))

    def add(self, claims: Mapping[str, Any]) -> Message:
        self.tokens.append(sign(claims, self.key, EVENT_TYP))
        return self.message(len(self.tokens))

    def message(self, seq: int) -> Message:
        """The token of this place, once more."""
        return message(self.device, self.tokens[seq - 1].compact)

    def head(self, seq: int | None = None) -> str:
        """The signed head, now or as it was."""
        seq = len(self.tokens) if seq is None else seq
        token_hash = self.tokens[seq - 1].hash if seq else None
        return sign(
            head_claims(self.identity, self.chain, seq, token_hash, self.made), self.key, HEAD_TYP
        ).compact

    def status(self, state: str = "online", conn: int = 1, boot: str | None = None) -> Message:
        members = {
            "state": state,
            "boot": boot or self.boot,
            "conn": conn,
            "version": "1",
            "head": self.head(),
        }
        return Message(f"hadir/v1/{self.device}/up/status", json.dumps(members).encode(), lambda: None)

    def fork(self) -> Chain:
        """A second writer of this chain, from here on: a card that was cloned."""
        return replace(self, tokens=list(self.tokens))


def message(device: str, token: str | bytes, kind: str = "event") -> Message:
    payload = token.encode() if isinstance(token, str) else token
    return Message(f"hadir/v1/{device}/up/{kind}", payload, lambda: None)


def register(path: Path, *chains: Chain, **changes: object) -> Path:
    """Write `devices.jwks` with the keys of these boards; `changes` are of the last."""
    entries: list[dict[str, Any]] = [
        chain.key.public_jwk
        | {"device": chain.device, "site": "hq", "chain": None, "first_seq": None}
        | {"last_seq": None, "revoked_at": None}
        for chain in chains
    ]
    entries[-1] |= changes
    path.write_text(json.dumps({"keys": entries}))
    return path


def versioned(path: Path, version: int) -> Path:
    """The same file, as provisioning writes it after so many changes."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    return path


@dataclass
class Desk:
    """Where a server takes messages from and puts receipts: what a broker would carry, written down."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    receipts: list[Receipt] = field(default_factory=list)
    idle: bool = True
    waiting: list[Message] = field(default_factory=list)

    def left(self) -> list[Message]:
        """What is here already, for who stops taking."""
        return self.waiting

    def publish_retained(self, topic: str, payload: str) -> None:
        device = topic.split("/")[2]
        keys = {self.key.kid: self.key.verification_key(frozenset({RECEIPT_TYP}))}
        self.receipts.append(verify_receipt(payload, keys, device))


@dataclass
class Office:
    """A server on a database, with a clock that is moved by hand and no broker."""

    engine: Engine
    devices: Path
    desk: Desk = field(default_factory=Desk)
    now_s: float = NOW_MS / 1000 + 60

    def __post_init__(self) -> None:
        self.keyring = Keyring(self.devices)
        self.server = Server(
            self.engine, self.keyring, Signer("central-1", self.desk.key), now=lambda: self.now_s
        )

    def take(self, *messages: Message) -> list[Receipt]:
        """One batch, and what was receipted after it."""
        self.desk.receipts.clear()
        self.server.turn(self.desk, messages, threading.Event())  # type: ignore[arg-type]
        return list(self.desk.receipts)

    def look_around(self, later_s: float = 10.0) -> None:
        """A turn without messages, so much later."""
        self.now_s += later_s
        self.take()

    def events(self, **options: Any) -> list[StoredEvent]:
        with reading(self.engine) as connection:
            return list(events(connection, **options))

    def beliefs(self) -> list[tuple[str, int, str]]:
        """First letter of the chain, seq and belief of all that is stored, in order of place."""
        found = ((event.chain[0], event.seq, event.belief.value) for event in self.events())
        return sorted(found)

    def alerts(self, *, closed: bool = False) -> list[tuple[str, str, int]]:
        """Kind, board and place of alerts that are open, or closed."""
        alert = tables.alert.c
        state = alert.closed_ms.is_not(None) if closed else alert.closed_ms.is_(None)
        with reading(self.engine) as connection:
            rows = connection.execute(select(alert.kind, alert.device, alert.seq).where(state))
            return sorted((row.kind, row.device, row.seq) for row in rows)

    def evidence(self) -> list[tuple[str, str, int | None]]:
        """Board, reason and claimed place of what is kept and not believed."""
        evidence = tables.evidence.c
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(evidence.device, evidence.reason, evidence.seq).order_by(evidence.id)
            )
            return [(row.device, row.reason, row.seq) for row in rows]
