"""The claims of every event that a board signs.

Plain functions of their arguments, time included. `made` is one look at the clocks, by
which the token is dated; `position` the place in the chain that the outbox gave.
`edge.trust.tokens` reads them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_bytes
from typing import Any

from edge.records import Attendance, ChainPosition, ClockState, Direction, TamperKind, TimeReading
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import VerificationKey, encode_base64url, jwk_of
from edge.trust.members import MAX_TEXT
from edge.trust.tokens import ATTACK, ATTENDANCE, CLOCK, ERASURE, KEY, SKIP, START, TAMPER

Claims = dict[str, Any]

_JTI_BYTES = 16


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
) -> Claims:
    """Somebody was recognised. `embedder` is the first 16 characters of its id.

    `toe` and `mono_ms` are of the moment when the face was seen, not of the signature.
    """
    members: Claims = {
        "direction": direction.value,
        "frames": attendance.frames,
        "embedder": embedder,
        "gallery": gallery,
    }
    if diagnostics:
        members |= {"similarity": round(attendance.similarity, 4), "margin": round(attendance.margin, 4)}
    claims = _seen(identity, position, made, ATTENDANCE, members, attendance.seen_mono_ms)
    return claims | _subject(attendance.person)


def attack_claims(
    identity: DeviceIdentity, position: ChainPosition, made: TimeReading, *, frames: int, seen_mono_ms: int
) -> Claims:
    """A picture, a screen or a mask was held up, seen on so many frames. It names nobody: nobody was there."""
    return _seen(identity, position, made, ATTACK, {"frames": frames}, seen_mono_ms)


def start_claims(
    identity: DeviceIdentity,
    position: ChainPosition,
    made: TimeReading,
    *,
    cause: str,
    clean: bool,
    version: str,
    last: int | None,
) -> Claims:
    """The daemon started: `cause` is new, boot or restart; `clean` tells how the last run ended.

    `last` is the seq at which the last run left the chain; left out on a new chain.
    """
    members: Claims = {"cause": cause, "clean": clean, "version": version}
    if last is not None:
        members["last"] = last
    return _now(identity, position, made, START, members)


def clock_claims(
    identity: DeviceIdentity, position: ChainPosition, made: TimeReading, *, step_ms: int
) -> Claims:
    """The clock was set, or jumped by `step_ms` (forwards is positive): this reading shows what it is now.

    `err_ms` is told whenever it is known, because the server dates other events of this boot by this one.
    """
    members: Claims = {"real_ms": made.real_ms, "step_ms": step_ms}
    if made.err_ms is not None:
        members["err_ms"] = made.err_ms
    return _now(identity, position, made, CLOCK, members)


def key_claims(
    identity: DeviceIdentity, position: ChainPosition, made: TimeReading, new: VerificationKey
) -> Claims:
    """The last token of the key of `identity`: the next event of the chain is signed by the new one."""
    members = {"old_kid": identity.key.kid, "new_jwk": jwk_of(new.public) | {"kid": new.kid}}
    return _now(identity, position, made, KEY, members)


def skip_claims(
    identity: DeviceIdentity,
    position: ChainPosition,
    made: TimeReading,
    *,
    seq: int,
    token_hash: str,
    reason: str,
) -> Claims:
    """An event of this chain was set aside: it cannot be sent. Its hash lets the server go on past it.

    In an object of its own, because `seq` beside it is this event's own place.
    """
    members = {"skipped": {"seq": seq, "hash": token_hash}, "reason": reason}
    return _now(identity, position, made, SKIP, members)


def erasure_claims(
    identity: DeviceIdentity, position: ChainPosition, made: TimeReading, *, person: str, version: int
) -> Claims:
    """This person's template is in no live file of the board, since this version of the gallery."""
    return _now(identity, position, made, ERASURE, {"version": version}) | _subject(person)


def tamper_claims(
    identity: DeviceIdentity, position: ChainPosition, made: TimeReading, *, kind: TamperKind, detail: str
) -> Claims:
    """Somebody, or a fault, did something to the board. Whatever the detail is, the event is well-formed."""
    shown = "".join(char if char.isprintable() else "?" for char in detail)[:MAX_TEXT]
    return _now(identity, position, made, TAMPER, {"kind": kind.value, "detail": shown or kind.value})


def resigned_claims(claims: Mapping[str, Any], position: ChainPosition) -> Claims:
    """An event of a chain that was given up, for its place in the new one.

    `was` is where it was *first* signed, also if this is the second time. `iat` stays: with `boot`, `mono_ms`
    and `clock` it is one look at the clocks, of when the event was made.
    """
    ((kind, old),) = claims["events"].items()
    event = {name: value for name, value in old.items() if name != "prev"} | _place(position)
    event["was"] = old.get("was", {"chain": old["chain"], "seq": old["seq"]})
    return dict(claims) | {"jti": _new_jti(), "events": {kind: event}}


def _now(
    identity: DeviceIdentity, position: ChainPosition, made: TimeReading, kind: str, members: Claims
) -> Claims:
    """An event about the moment in which it is made."""
    return _envelope(identity, made, kind, _chained(position, made, made.mono_ms) | members)


def _seen(
    identity: DeviceIdentity,
    position: ChainPosition,
    made: TimeReading,
    kind: str,
    members: Claims,
    seen_mono_ms: int,
) -> Claims:
    """An event about an earlier moment, before whose camera; `toe` is left out where the clock was never set."""
    claims = _envelope(identity, made, kind, _chained(position, made, seen_mono_ms) | members)
    if made.state is not ClockState.UNSYNCED:
        claims["toe"] = round((made.real_ms - (made.mono_ms - seen_mono_ms)) / 1000, 3)
    return claims


def _envelope(identity: DeviceIdentity, made: TimeReading, kind: str, event: Claims) -> Claims:
    return {
        "iss": identity.issuer,
        "aud": identity.audience,
        "iat": made.real_ms // 1000,
        "jti": _new_jti(),
        "events": {kind: event},
    }


def _chained(position: ChainPosition, made: TimeReading, mono_ms: int) -> Claims:
    """What every event of a chain carries."""
    event = _place(position) | {"boot": made.boot, "mono_ms": mono_ms, "clock": made.state.value}
    if made.state is ClockState.HOLDOVER:
        event["err_ms"] = made.err_ms
    return event


def _place(position: ChainPosition) -> Claims:
    place: Claims = {"chain": position.chain, "seq": position.seq}
    if position.prev is not None:
        place["prev"] = position.prev
    return place | {"low": position.low}


def _subject(person: str) -> Claims:
    return {"sub_id": {"format": "opaque", "id": person}}


def _new_jti() -> str:
    return encode_base64url(token_bytes(_JTI_BYTES))
