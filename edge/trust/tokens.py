"""The claims of everything that a board signs, and how a reader takes them apart.

An event is a Security Event Token (RFC 8417): one event a token. Builders and parser are
plain functions of their arguments, time included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

from edge.errors import Refusal, TokenRefused
from edge.records import Attendance, ChainPosition, ClockState, Direction, TimeReading
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import encode_base64url

EVENT_TYP = "secevent+jwt"
"""RFC 8417, section 2.3."""

HEAD_TYP = "hadir-head+jwt"

MAX_EVENT_BYTES = 4096
"""The design's limit; an attendance has about 900."""

ATTENDANCE = "urn:hadir:event:attendance:1"
START = "urn:hadir:event:start:1"

PERSON_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Ids of people: employee numbers, which travel in every event."""

MAX_INTEGER = 2**53 - 1
"""The largest that every JSON reader keeps exactly (RFC 8259, section 6)."""

CHAIN_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")
"""16 bytes in base64url."""

_HASH = re.compile(r"[A-Za-z0-9_-]{43}")
_BOOT = re.compile(r"[A-Za-z0-9-]{1,64}")
_URN = re.compile(r"urn:hadir:event:[a-z]+:[0-9]{1,3}")
_JTI_BYTES = 16


@dataclass(frozen=True, slots=True)
class Event:
    """What an event token says, checked in type and bounds; not yet whether it may say so."""

    issuer: str
    audience: str
    issued_s: int
    jti: str
    type: str
    """The event's URN; types that are not known here are kept and not interpreted."""
    chain: str
    seq: int
    prev: str | None
    low: int
    boot: str
    mono_ms: int
    clock: ClockState
    err_ms: int | None
    seen_s: float | None
    """`toe`: when it happened; None where the board's clock could not be believed."""
    person: str | None
    payload: Mapping[str, Any]
    """The event's own members, whole."""


def attendance_claims(
    identity: DeviceIdentity,
    position: ChainPosition,
    made: TimeReading,
    attendance: Attendance,
    *,
    direction: Direction,
    embedder: str,
    gallery: int,
    diagnostics: bool = False,
) -> dict[str, Any]:
    """Somebody was recognised. `embedder` is the first 16 characters of its id.

    `toe` and `mono_ms` are of the moment when the face was seen, not of the signature.
    """
    seen_real_ms = made.real_ms - (made.mono_ms - attendance.seen_mono_ms)
    event = _chained(position, made, attendance.seen_mono_ms) | {
        "direction": direction.value,
        "frames": attendance.frames,
        "embedder": embedder,
        "gallery": gallery,
    }
    if diagnostics:
        event |= {"similarity": round(attendance.similarity, 4), "margin": round(attendance.margin, 4)}
    claims = _envelope(identity, made, ATTENDANCE, event)
    claims["sub_id"] = {"format": "opaque", "id": attendance.person}
    if made.state is not ClockState.UNSYNCED:
        claims["toe"] = round(seen_real_ms / 1000, 3)
    return claims


def start_claims(
    identity: DeviceIdentity,
    position: ChainPosition,
    made: TimeReading,
    *,
    cause: str,
    clean: bool,
    version: str,
    last: int | None,
) -> dict[str, Any]:
    """The daemon started: `cause` is new, boot or restart; `clean` tells how the last run ended.

    `last` is the seq at which the last run left the chain; left out on a new chain.
    """
    event = _chained(position, made, made.mono_ms) | {"cause": cause, "clean": clean, "version": version}
    if last is not None:
        event["last"] = last
    return _envelope(identity, made, START, event)


def head_claims(
    identity: DeviceIdentity, chain: str, seq: int, head_hash: str | None, made: TimeReading
) -> dict[str, Any]:
    """Where this board's chain ends."""
    claims = {
        "iss": identity.issuer,
        "aud": identity.audience,
        "iat": made.real_ms // 1000,
        "chain": chain,
        "seq": seq,
    }
    return claims if head_hash is None else claims | {"hash": head_hash}


def parse_event(claims: Mapping[str, Any]) -> Event:
    """An event from verified claims.

    Raises:
        TokenRefused: BAD_CLAIMS, naming the claim that is missing, of the wrong type or out of bounds.
    """
    events = _take(claims, "events", dict)
    if len(events) != 1:
        raise _bad("events", f"{len(events)} of them, exactly one is allowed")
    ((kind, payload),) = events.items()
    if not _URN.fullmatch(kind) or not isinstance(payload, dict):
        raise _bad("events", "not a named event with members")
    seq = _integer(payload, "seq", low=1)
    prev = _text(payload, "prev", _HASH) if "prev" in payload else None
    if (prev is None) != (seq == 1):
        raise _bad("prev", "missing" if prev is None else "the first event has none before it")
    clock = _clock(payload)
    if clock is ClockState.HOLDOVER and "err_ms" not in payload:
        raise _bad("err_ms", "missing, and in holdover nothing else tells how good the time is")
    seen_s = _seconds(claims, "toe") if "toe" in claims else None
    person = _person(claims)
    if (kind == ATTENDANCE) and person is None:
        raise _bad("sub_id", "missing")
    if kind == ATTENDANCE:
        _check_attendance(payload)
    return Event(
        issuer=_text(claims, "iss"),
        audience=_text(claims, "aud"),
        issued_s=_integer(claims, "iat"),
        jti=_text(claims, "jti"),
        type=kind,
        chain=_text(payload, "chain", CHAIN_PATTERN),
        seq=seq,
        prev=prev,
        low=_integer(payload, "low", low=1, high=seq),
        boot=_text(payload, "boot", _BOOT),
        mono_ms=_integer(payload, "mono_ms"),
        clock=clock,
        err_ms=_integer(payload, "err_ms") if "err_ms" in payload else None,
        seen_s=None if clock is ClockState.UNSYNCED else seen_s,
        person=person,
        payload=payload,
    )


def _envelope(
    identity: DeviceIdentity, made: TimeReading, kind: str, event: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "iss": identity.issuer,
        "aud": identity.audience,
        "iat": made.real_ms // 1000,
        "jti": encode_base64url(token_bytes(_JTI_BYTES)),
        "events": {kind: dict(event)},
    }


def _chained(position: ChainPosition, made: TimeReading, mono_ms: int) -> dict[str, Any]:
    """What every event of a chain carries."""
    event: dict[str, Any] = {"chain": position.chain, "seq": position.seq}
    if position.prev is not None:
        event["prev"] = position.prev
    event |= {"low": position.low, "boot": made.boot, "mono_ms": mono_ms, "clock": made.state.value}
    if made.state is ClockState.HOLDOVER:
        event["err_ms"] = made.err_ms
    return event


def _check_attendance(payload: Mapping[str, Any]) -> None:
    _integer(payload, "frames", low=1, high=1000)
    _integer(payload, "gallery")
    _text(payload, "embedder")
    if payload.get("direction") not in list(Direction):
        raise _bad("direction", "not in, out or both")


def _person(claims: Mapping[str, Any]) -> str | None:
    if "sub_id" not in claims:
        return None
    subject = _take(claims, "sub_id", dict)
    if subject.get("format") != "opaque":  # RFC 9493, section 3.2.4
        raise _bad("sub_id", "format is not opaque")
    return _text(subject, "id", PERSON_PATTERN)


def _clock(payload: Mapping[str, Any]) -> ClockState:
    value = payload.get("clock")
    if value not in list(ClockState):
        raise _bad("clock", "not synced, holdover or unsynced")
    return ClockState(value)


def _take(claims: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in claims:
        raise _bad(name, "missing")
    value = claims[name]
    if type(value) is not kind:
        raise _bad(name, f"not a {kind.__name__}")
    return value


def _integer(claims: Mapping[str, Any], name: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    value: int = _take(claims, name, int)
    if not low <= value <= high:
        raise _bad(name, f"{str(value)[:20]} is not from {low} to {high}")
    return value


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if type(value) not in (int, float) or not 0 <= value <= MAX_INTEGER:
        raise _bad(name, "not a number of seconds")
    return float(value)


def _text(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str] | None = None) -> str:
    value: str = _take(claims, name, str)
    if not 1 <= len(value) <= 256 or not value.isprintable():  # noqa: PLR2004 - ours have at most 64
        raise _bad(name, "not 1 to 256 printable characters")
    if pattern is not None and not pattern.fullmatch(value):
        raise _bad(name, f"does not match {pattern.pattern}")
    return value


def _bad(name: str, why: str) -> TokenRefused:
    return TokenRefused(Refusal.BAD_CLAIMS, f"{name}: {why}")
