"""The tokens of the boards: their names and limits, and how a reader takes an event apart.

An event is a Security Event Token (RFC 8417): one event a token. A type that is known
here has exactly the members that its version defines; another type is kept, with its
place in the chain, and not interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.errors import TokenRefused
from edge.records import ClockState, Direction, TamperKind
from edge.trust.jws import key_from_jwk
from edge.trust.members import MAX_INTEGER, bad, integer, nothing_else, number, take, text

EVENT_TYP = "secevent+jwt"
"""RFC 8417, section 2.3."""

HEAD_TYP = "hadir-head+jwt"
REPLY_TYP = "hadir-reply+jwt"
REPORT_TYP = "hadir-report+jwt"
ENROL_TYP = "hadir-enrol+jwt"

BOARD_TYPS = frozenset({EVENT_TYP, HEAD_TYP, REPLY_TYP, REPORT_TYP, ENROL_TYP})
"""What boards sign."""

MAX_EVENT_BYTES = 4096
"""The design's limit; an attendance has about 900."""

ATTENDANCE = "urn:hadir:event:attendance:1"
START = "urn:hadir:event:start:1"
CLOCK = "urn:hadir:event:clock:1"
KEY = "urn:hadir:event:key:1"
SKIP = "urn:hadir:event:skip:1"
ERASURE = "urn:hadir:event:erasure:1"
TAMPER = "urn:hadir:event:tamper:1"
ATTACK = "urn:hadir:event:attack:1"

PERSON_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Ids of people: employee numbers, which travel in every event."""

CHAIN_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")
"""16 bytes in base64url."""

HASH_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 bytes in base64url: SHA-256."""

KID_PATTERN = HASH_PATTERN
"""A key's RFC 7638 thumbprint."""

REASON_PATTERN = re.compile(r"[a-z][a-z-]{0,31}")
"""Reasons and causes: a word, which later versions may add to."""

MAX_FRAMES = 1000

_BOOT = re.compile(r"[A-Za-z0-9-]{1,64}")
_URN = re.compile(r"urn:hadir:event:[a-z]+:[0-9]{1,3}")

_ENVELOPE = frozenset({"iss", "aud", "iat", "jti", "toe", "sub_id", "events"})
_CHAINED = frozenset({"chain", "seq", "prev", "low", "boot", "mono_ms", "clock", "err_ms", "was"})
"""What any event may carry."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a chain; with the device, the identity of an event."""

    chain: str
    seq: int


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
    was: Place | None = None
    """Where it was first signed, if its chain was given up and it was signed anew in this one."""


def parse_event(claims: Mapping[str, Any]) -> Event:
    """An event from verified claims.

    Raises:
        TokenRefused: BAD_CLAIMS, naming the claim that is missing, unknown, of the wrong type or out of bounds.
    """
    nothing_else(claims, _ENVELOPE)
    events = take(claims, "events", dict)
    if len(events) != 1:
        raise bad("events", f"{len(events)} of them, exactly one is allowed")
    ((kind, payload),) = events.items()
    if not _URN.fullmatch(kind) or not isinstance(payload, dict):
        raise bad("events", "not a named event with members")
    seq = integer(payload, "seq", low=1)
    if seq == 1 and kind != START:
        raise bad("events", "a chain begins with a start")
    clock = _clock(payload)
    seen_s = number(claims, "toe", 0, MAX_INTEGER) if "toe" in claims else None
    event = Event(
        issuer=text(claims, "iss"),
        audience=text(claims, "aud"),
        issued_s=integer(claims, "iat"),
        jti=text(claims, "jti"),
        type=kind,
        chain=text(payload, "chain", CHAIN_PATTERN),
        seq=seq,
        prev=_prev(payload, seq),
        low=integer(payload, "low", low=1, high=seq),
        boot=text(payload, "boot", _BOOT),
        mono_ms=integer(payload, "mono_ms"),
        clock=clock,
        err_ms=integer(payload, "err_ms") if "err_ms" in payload else None,
        seen_s=None if clock is ClockState.UNSYNCED else seen_s,
        person=_person(claims),
        payload=payload,
        was=_was(payload),
    )
    if kind in _TYPES:
        _check_type(event, _TYPES[kind])
    return event


@dataclass(frozen=True, slots=True)
class _Type:
    """What makes a known type well-formed, beside what all events have."""

    members: frozenset[str]
    check: Callable[[Event], object]
    names_person: bool = False


def _check_type(event: Event, expected: _Type) -> None:
    if expected.names_person != (event.person is not None):
        raise bad("sub_id", "missing" if expected.names_person else "this type names nobody")
    nothing_else(event.payload, _CHAINED | expected.members)
    expected.check(event)


def _check_attendance(event: Event) -> None:
    payload = event.payload
    integer(payload, "frames", low=1, high=MAX_FRAMES)
    integer(payload, "gallery")
    text(payload, "embedder")
    if payload.get("direction") not in list(Direction):
        raise bad("direction", "not in, out or both")
    for name, low, high in (("similarity", -1, 1), ("margin", -2, 2), ("liveness", 0, 1)):
        if name in payload:
            number(payload, name, low, high)


def _check_start(event: Event) -> None:
    text(event.payload, "cause", REASON_PATTERN)
    take(event.payload, "clean", bool)
    text(event.payload, "version")
    if "last" in event.payload:
        integer(event.payload, "last", low=1)


def _check_clock(event: Event) -> None:
    integer(event.payload, "real_ms")
    integer(event.payload, "step_ms", low=-MAX_INTEGER)
    if event.clock is ClockState.SYNCED:
        integer(event.payload, "err_ms")


def _check_key(event: Event) -> None:
    old_kid = text(event.payload, "old_kid", KID_PATTERN)
    try:
        new = key_from_jwk(take(event.payload, "new_jwk", dict), BOARD_TYPS)
    except TokenRefused as refused:
        raise bad("new_jwk", refused.detail) from refused
    if new.kid == old_kid:
        raise bad("new_jwk", "the old key again")


def _check_skip(event: Event) -> None:
    skipped = take(event.payload, "skipped", dict)
    nothing_else(skipped, {"seq", "hash"})
    integer(skipped, "seq", low=1)
    text(skipped, "hash", HASH_PATTERN)
    text(event.payload, "reason", REASON_PATTERN)


def _check_erasure(event: Event) -> None:
    integer(event.payload, "version", low=1)


def _check_tamper(event: Event) -> None:
    if event.payload.get("kind") not in list(TamperKind):
        raise bad("kind", f"not one of {', '.join(TamperKind)}")
    text(event.payload, "detail")


def _check_attack(event: Event) -> None:
    integer(event.payload, "frames", low=1, high=MAX_FRAMES)


_TYPES: Mapping[str, _Type] = {
    ATTENDANCE: _Type(
        frozenset({"direction", "frames", "embedder", "gallery", "similarity", "margin", "liveness"}),
        _check_attendance,
        names_person=True,
    ),
    START: _Type(frozenset({"cause", "clean", "version", "last"}), _check_start),
    CLOCK: _Type(frozenset({"real_ms", "step_ms"}), _check_clock),
    KEY: _Type(frozenset({"old_kid", "new_jwk"}), _check_key),
    SKIP: _Type(frozenset({"skipped", "reason"}), _check_skip),
    ERASURE: _Type(frozenset({"version"}), _check_erasure, names_person=True),
    TAMPER: _Type(frozenset({"kind", "detail"}), _check_tamper),
    ATTACK: _Type(frozenset({"frames"}), _check_attack),
}


def _prev(payload: Mapping[str, Any], seq: int) -> str | None:
    prev = text(payload, "prev", HASH_PATTERN) if "prev" in payload else None
    if (prev is None) != (seq == 1):
        raise bad("prev", "missing" if prev is None else "the first event has none before it")
    return prev


def _was(payload: Mapping[str, Any]) -> Place | None:
    if "was" not in payload:
        return None
    was = take(payload, "was", dict)
    nothing_else(was, {"chain", "seq"})
    place = Place(chain=text(was, "chain", CHAIN_PATTERN), seq=integer(was, "seq", low=1))
    if place.chain == payload["chain"]:
        raise bad("was", "of this very chain")
    return place


def _person(claims: Mapping[str, Any]) -> str | None:
    if "sub_id" not in claims:
        return None
    subject = take(claims, "sub_id", dict)
    nothing_else(subject, {"format", "id"})
    if subject.get("format") != "opaque":  # RFC 9493, section 3.2.4
        raise bad("sub_id", "format is not opaque")
    return text(subject, "id", PERSON_PATTERN)


def _clock(payload: Mapping[str, Any]) -> ClockState:
    value = payload.get("clock")
    if value not in list(ClockState):
        raise bad("clock", "not synced, holdover or unsynced")
    if value == ClockState.HOLDOVER and "err_ms" not in payload:
        raise bad("err_ms", "missing, and in holdover nothing else tells how good the time is")
    return ClockState(value)
