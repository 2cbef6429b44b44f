"""Writes docs/events/vectors.json: tokens to test another implementation of the event contract with (`make docs`).

Nothing in it is by chance: keys are made from their names, signatures by RFC 6979, so that
every run writes the same file. Its private keys are published, and worth nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from edge.errors import Refusal
from edge.records import Attendance, ChainPosition, ClockState, Direction, TamperKind, TimeReading
from edge.trust.events import (
    attack_claims,
    attendance_claims,
    clock_claims,
    erasure_claims,
    key_claims,
    resigned_claims,
    skip_claims,
    start_claims,
    tamper_claims,
)
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, decode_base64url, encode_base64url, token_hash
from edge.trust.receipts import RECEIPT_TYP, RefusedEvent, central_urn, head_claims, receipt_claims
from edge.trust.tokens import ATTENDANCE, BOARD_TYPS, EVENT_TYP, HEAD_TYP, MAX_EVENT_BYTES

TARGET = Path(__file__).with_name("events") / "vectors.json"

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's base point (FIPS 186-4, D.1.2.3)."""

MADE_S = 1_764_000_001
ARRIVED_S = MADE_S + 2
CHAIN, NEW_CHAIN, PREV = "chain-of-test-vectors0", "chain-after-the-fork00", "p" * 43
BOOT = "0f3c9f0e-6a51-4b8e-9a57-1d0c6f2f5b11"

Claims = dict[str, Any]


def derived_key(name: str) -> SigningKey:
    """A P-256 key that everybody knows."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % (ORDER - 1) + 1
    return SigningKey.of(ec.derive_private_key(number, ec.SECP256R1()))


DOOR, NEXT, OLD, OTHER, STRANGER, RECEIPTS, COMMANDS = (
    derived_key(name)
    for name in ("door-01", "door-01 next", "door-01 old", "door-02", "stranger", "receipt", "command")
)
ED = SigningKey.of(ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"door-03").digest()))
REVOKED = derived_key("door-01 stolen")
IDENTITY = DeviceIdentity("door-01", "hq", DOOR)


def signed(
    claims: Mapping[str, Any] | bytes, key: SigningKey, typ: str | None = EVENT_TYP, **header: Any
) -> str:
    """A compact JWS; `header` adds to the protected header or changes it, None takes a member away."""
    protected = {"alg": key.algorithm, "typ": typ, "kid": key.kid} | header
    head = _json({name: value for name, value in protected.items() if value is not None})
    payload = claims if isinstance(claims, bytes) else _json(claims)
    signing_input = f"{encode_base64url(head)}.{encode_base64url(payload)}"
    return f"{signing_input}.{encode_base64url(raw_signature(signing_input.encode(), key))}"


def raw_signature(signing_input: bytes, key: SigningKey) -> bytes:
    """r and s, 32 bytes each (RFC 7518, section 3.4), or Ed25519's 64."""
    if isinstance(key.private, ed25519.Ed25519PrivateKey):
        return key.private.sign(signing_input)
    numbers = decode_dss_signature(der_signature(signing_input, key.private))
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def der_signature(signing_input: bytes, private: ec.EllipticCurvePrivateKey) -> bytes:
    """The same signature every time (RFC 6979)."""
    return private.sign(signing_input, ec.ECDSA(SHA256(), deterministic_signing=True))


def malleated(token: str) -> str:
    """The same token with the other signature that ECDSA allows, (r, order - s)."""
    signing_input, _, signature = token.rpartition(".")
    raw = decode_base64url(signature.encode())
    other = ORDER - int.from_bytes(raw[32:], "big")
    return f"{signing_input}.{encode_base64url(raw[:32] + other.to_bytes(32, 'big'))}"


def reading(state: ClockState = ClockState.SYNCED, made_s: int = MADE_S) -> TimeReading:
    """The clocks when a token was made."""
    err_ms = {ClockState.SYNCED: 4, ClockState.HOLDOVER: 185, ClockState.UNSYNCED: None}[state]
    return TimeReading(made_s * 1000, 81_230_930, BOOT, state, err_ms)


def position(seq: int = 7, chain: str = CHAIN) -> ChainPosition:
    """A place in a chain that begins at 1."""
    return ChainPosition(chain, seq, PREV if seq > 1 else None, 1)


def attendance(
    identity: DeviceIdentity = IDENTITY,
    at: ChainPosition | None = None,
    made: TimeReading | None = None,
    person: str = "E1042",
    diagnostics: bool = False,
) -> Claims:
    """Somebody came."""
    return attendance_claims(
        identity,
        at or position(),
        made or reading(),
        Attendance(1, person, 5, 0.7124, 0.4, 81_230_412),
        direction=Direction.IN,
        embedder="6c1f0a3b5d7e9012",
        gallery=42,
        diagnostics=diagnostics,
    )


def start(at: ChainPosition, identity: DeviceIdentity = IDENTITY) -> Claims:
    """The daemon started."""
    new = at.seq == 1
    last = None if new else at.seq - 1
    cause = "new" if new else "boot"
    return start_claims(identity, at, reading(), cause=cause, clean=True, version="1.0", last=last)


def named(name: str, claims: Claims) -> Claims:
    """With a `jti` that is not drawn but follows from the vector's name."""
    return claims | {"jti": encode_base64url(hashlib.sha256(name.encode()).digest()[:16])}


def with_member(name: str, value: object, claims: Claims | None = None) -> Claims:
    """The event's member changed or added; None takes it away."""
    claims = claims or attendance()
    ((kind, event),) = claims["events"].items()
    changed = event | {name: value}
    return claims | {"events": {kind: {key: kept for key, kept in changed.items() if kept is not None}}}


def without(name: str) -> Claims:
    """An attendance that lacks a claim."""
    return {key: value for key, value in attendance().items() if key != name}


GOOD: Mapping[str, Claims] = {
    "an attendance": attendance(),
    "an attendance in holdover": attendance(made=reading(ClockState.HOLDOVER)),
    "an attendance by a clock that was never set": attendance(made=reading(ClockState.UNSYNCED)),
    "an attendance with diagnostics": attendance(diagnostics=True),
    "an attendance of ten years ago": attendance(made=reading(made_s=MADE_S - 315_360_000)),
    "the start of a chain": start(position(1)),
    "a later start": start(position()),
    "a clock that was set": clock_claims(IDENTITY, position(), reading(), step_ms=86_400_000),
    "a change of keys": key_claims(IDENTITY, position(), reading(), NEXT.verification_key(BOARD_TYPS)),
    "an event set aside": skip_claims(
        IDENTITY, position(), reading(), seq=5, token_hash="s" * 43, reason="too-large"
    ),
    "an erasure": erasure_claims(IDENTITY, position(), reading(), person="E7", version=43),
    "a tampering": tamper_claims(
        IDENTITY, position(), reading(), kind=TamperKind.CAMERA, detail="covered for 60 s"
    ),
    "an attack": attack_claims(IDENTITY, position(), reading(), frames=8, seen_mono_ms=81_230_412),
    "an attendance signed anew after a fork": resigned_claims(attendance(), position(3, NEW_CHAIN)),
    "a type that is not known, stored and not interpreted": attendance()
    | {"events": {"urn:hadir:event:weather:2": attendance()["events"][ATTENDANCE] | {"wind": [1]}}},
}
"""By door-01's key on door-01's topic. All are believed."""

BAD_CLAIMS: Mapping[str, Claims] = {
    "no event": attendance() | {"events": {}},
    "two events": attendance() | {"events": attendance()["events"] | start(position())["events"]},
    "an event without a name of ours": attendance()
    | {"events": {"attendance": attendance()["events"][ATTENDANCE]}},
    "an expiry": attendance() | {"exp": MADE_S + 600},
    "a name beside the employee number": with_member("name", "Jane Doe"),
    "no iss": without("iss"),
    "no aud": without("aud"),
    "aud as a list": attendance() | {"aud": ["urn:hadir:site:hq"]},
    "no iat": without("iat"),
    "no jti": without("jti"),
    "toe as text": attendance() | {"toe": "2025-11-24T16:00:00Z"},
    "an attendance of nobody": without("sub_id"),
    "a person by another format": attendance() | {"sub_id": {"format": "email", "id": "E1042"}},
    "a person with a path for an id": attendance() | {"sub_id": {"format": "opaque", "id": "../E1042"}},
    "a start that names somebody": start(position()) | {"sub_id": {"format": "opaque", "id": "E1042"}},
    "seq as text": with_member("seq", "7"),
    "seq 0": with_member("seq", 0),
    "seq beyond 2^53 - 1": with_member("seq", 2**53),
    "no chain": with_member("chain", None),
    "no prev": with_member("prev", None),
    "a prev before the first": with_member("prev", PREV, start(position(1))),
    "a chain that begins with an attendance": attendance(at=position(1)),
    "low above seq": with_member("low", 8),
    "a clock state that does not exist": with_member("clock", "exact"),
    "holdover without its error": with_member("clock", "holdover"),
    "a direction that does not exist": with_member("direction", "sideways"),
    "no frames": with_member("frames", 0),
    "was in its own chain": with_member("was", {"chain": CHAIN, "seq": 5}),
    "a start without its cause": with_member("cause", None, start(position())),
    "a synchronised clock without its error": with_member(
        "err_ms", None, clock_claims(IDENTITY, position(), reading(), step_ms=500)
    ),
    "a private key": with_member(
        "new_jwk",
        NEXT.public_jwk | {"d": "A" * 43},
        key_claims(IDENTITY, position(), reading(), NEXT.verification_key(BOARD_TYPS)),
    ),
    "the old key for the new one": with_member(
        "new_jwk",
        DOOR.public_jwk,
        key_claims(IDENTITY, position(), reading(), NEXT.verification_key(BOARD_TYPS)),
    ),
    "an event set aside without its hash": with_member(
        "skipped",
        {"seq": 5},
        skip_claims(IDENTITY, position(), reading(), seq=5, token_hash="s" * 43, reason="too-large"),
    ),
    "a kind of tampering that does not exist": with_member(
        "kind", "theft", tamper_claims(IDENTITY, position(), reading(), kind=TamperKind.DISK, detail="full")
    ),
}
"""Signed by the right key on the right topic, and refused as bad-claims."""


def events() -> Iterator[Claims]:
    """Every event vector, good ones first."""
    for name, claims in GOOD.items():
        yield _believed(name, signed(named(name, claims), DOOR))
    by_old = "the last event that an old key may sign"
    yield _believed(by_old, signed(named(by_old, attendance(at=position(6))), OLD))
    by_ed, third = "an attendance signed with Ed25519", DeviceIdentity("door-03", "hq", ED)
    yield _believed(by_ed, signed(named(by_ed, attendance(third)), ED), "door-03")
    ahead = signed(named("ahead", attendance(made=reading(made_s=ARRIVED_S + 301))), DOOR)
    yield _believed("dated more than 300 s after its arrival", ahead) | {"flagged": True}
    first = signed(named("an attendance", attendance()), DOOR)
    yield _believed("the first one with its other signature: a redelivery", malleated(first))
    for name, claims in BAD_CLAIMS.items():
        made = claims if "jti" not in claims else named(name, claims)
        yield _refused(name, signed(made, DOOR), Refusal.BAD_CLAIMS)
    for name, (reason, token) in wrongly_signed().items():
        yield _refused(name, token, reason)
    topics = {"hadir/v1/door-02/up/event", "hadir/v1/door-01/up/health", "hadir/v1/door-01/up/event/more"}
    for topic in sorted(topics):
        yield _refused(f"on the topic {topic}", first, Refusal.WRONG_OWNER, topic)


def wrongly_signed() -> dict[str, tuple[Refusal, str]]:
    """Tokens whose form, header, key or signature is wrong, by what it is."""
    good = named("an attendance", attendance())
    token = signed(good, DOOR)
    header, payload, signature = token.split(".")
    double = _json(good)[:-1] + b',"iat":1}'
    weather = good | {"events": {"urn:hadir:event:weather:2": good["events"][ATTENDANCE] | {"wind": 1}}}
    deep = _json(weather).replace(b'"wind":1', b'"wind":' + b"[" * 20 + b"]" * 20)
    huge = _json(weather).replace(b'"wind":1', b'"wind":1e999')
    long = with_member("wind", "x" * MAX_EVENT_BYTES, weather)
    other_person = _json(good).replace(b"E1042", b"E9999")
    der = der_signature(f"{header}.{payload}".encode(), _private(DOOR))
    by_stranger = raw_signature(f"{header}.{payload}".encode(), STRANGER)
    other = DeviceIdentity("door-02", "hq", OTHER)
    return {
        f"more than {MAX_EVENT_BYTES} bytes": (Refusal.TOO_LARGE, signed(long, DOOR)),
        "two parts": (Refusal.MALFORMED, f"{header}.{payload}"),
        "no signature": (Refusal.MALFORMED, f"{header}.{payload}."),
        "padded base64url": (Refusal.MALFORMED, f"{header}.{payload}.{signature}=="),
        "a line end after it": (Refusal.MALFORMED, token + "\n"),
        "plain base64": (Refusal.MALFORMED, f"{header}.{payload}.+/{signature[2:]}"),
        "a header that is no JSON": (Refusal.MALFORMED, f"{encode_base64url(b'{')}.{payload}.{signature}"),
        "a payload that is no object": (Refusal.MALFORMED, signed(b"[]", DOOR)),
        "a claim given twice": (Refusal.MALFORMED, signed(double, DOOR)),
        "nested more than 16 deep": (Refusal.MALFORMED, signed(deep, DOOR)),
        "a number that is infinite": (Refusal.MALFORMED, signed(huge, DOOR)),
        "typ JWT": (Refusal.WRONG_TYPE, signed(good, DOOR, "JWT")),
        "no typ": (Refusal.WRONG_TYPE, signed(good, DOOR, None)),
        "a head's typ": (Refusal.WRONG_TYPE, signed(good, DOOR, HEAD_TYP)),
        "a key that nobody registered": (Refusal.UNKNOWN_KEY, signed(good, STRANGER)),
        "no kid": (Refusal.UNKNOWN_KEY, signed(good, DOOR, kid=None)),
        "alg none": (Refusal.WRONG_ALGORITHM, signed(good, DOOR, alg="none")),
        "alg HS256": (Refusal.WRONG_ALGORITHM, signed(good, DOOR, alg="HS256")),
        "alg EdDSA for a P-256 key": (Refusal.WRONG_ALGORITHM, signed(good, DOOR, alg="EdDSA")),
        "a key of its own in the header": (
            Refusal.FORBIDDEN_HEADER,
            signed(good, STRANGER, kid=DOOR.kid, jwk=STRANGER.public_jwk),
        ),
        "a place where its key is": (
            Refusal.FORBIDDEN_HEADER,
            signed(good, DOOR, jku="https://example.org/keys"),
        ),
        "an extension that must be understood": (
            Refusal.FORBIDDEN_HEADER,
            signed(good, DOOR, crit=["exp"], exp=1),
        ),
        "a certificate in the header": (Refusal.FORBIDDEN_HEADER, signed(good, DOOR, x5c=["MIIB"])),
        "another person under the old signature": (
            Refusal.BAD_SIGNATURE,
            f"{header}.{encode_base64url(other_person)}.{signature}",
        ),
        "r and s of zero": (Refusal.BAD_SIGNATURE, f"{header}.{payload}.{encode_base64url(bytes(64))}"),
        "a signature in DER": (Refusal.BAD_SIGNATURE, f"{header}.{payload}.{encode_base64url(der)}"),
        "signed by another key": (
            Refusal.BAD_SIGNATURE,
            f"{header}.{payload}.{encode_base64url(by_stranger)}",
        ),
        "a key after its last place": (Refusal.WRONG_USE, signed(named("late", attendance()), OLD)),
        "a key of another chain": (
            Refusal.WRONG_USE,
            signed(named("chain", attendance(at=position(5, NEW_CHAIN))), OLD),
        ),
        "another board's key": (Refusal.WRONG_OWNER, signed(good, OTHER)),
        "another board's name": (Refusal.WRONG_OWNER, signed(named("iss", attendance(other)), DOOR)),
        "a key that was revoked": (
            Refusal.REVOKED_KEY,
            signed(named("revoked", attendance(DeviceIdentity("door-01", "hq", REVOKED))), REVOKED),
        ),
        "another site": (
            Refusal.WRONG_AUDIENCE,
            signed(named("aud", attendance(DeviceIdentity("door-01", "branch", DOOR))), DOOR),
        ),
    }


def chains() -> Iterator[Claims]:
    """Tokens of one chain in the order of their arrival, and what becomes of them."""
    whole = _chain(5)
    forked = signed(named("fork", attendance(at=_at(4, whole[2]), person="E9999")), DOOR)
    cut = signed(named("cut", attendance(at=ChainPosition(CHAIN, 4, PREV, 1))), DOOR)
    low = signed(named("low", attendance(at=ChainPosition(CHAIN, 6, token_hash(whole[4]), 4))), DOOR)
    yield _ordered("whole", whole, [1, 2, 3, 4, 5])
    yield _ordered("out of order", [whole[index] for index in (0, 2, 1, 4, 3)], [1, 2, 3, 4, 5])
    yield _ordered("sent again", [*whole[:3], *whole[1:], malleated(whole[4])], [1, 2, 3, 4, 5])
    yield _ordered("one is missing", [*whole[:2], *whole[3:]], [1, 2], waits_for=3)
    yield _ordered("another token in the place of 4", [*whole, forked], [1, 2, 3, 4, 5], alert="forked")
    yield _ordered("prev of 4 is not the hash of 3", [*whole[:3], cut], [1, 2, 3], alert="broken")
    yield _ordered(
        "3 is gone for good, by the low of 6", [*whole[:2], *whole[3:], low], [1, 2, 4, 5, 6], lost=[3]
    )


def receipts() -> Iterator[Claims]:
    """What a board takes and refuses."""
    whole = _chain(5)
    claims = receipt_claims(
        central_urn("central-1"), "door-01", ARRIVED_S, chain=CHAIN, seq=5, head_hash=token_hash(whole[4])
    )
    refused = receipt_claims(
        central_urn("central-1"),
        "door-01",
        ARRIVED_S,
        chain=CHAIN,
        seq=5,
        head_hash=token_hash(whole[4]),
        refused=[RefusedEvent(3, token_hash(whole[2]), Refusal.BAD_CLAIMS)],
    )
    yield _receipt("everything up to 5", signed(claims, RECEIPTS, RECEIPT_TYP))
    yield _receipt("with a refusal", signed(refused, RECEIPTS, RECEIPT_TYP))
    wrong: Mapping[str, tuple[Refusal, str]] = {
        "by a key of commands": (Refusal.WRONG_USE, signed(claims, COMMANDS, RECEIPT_TYP)),
        "by a board": (Refusal.UNKNOWN_KEY, signed(claims, DOOR, RECEIPT_TYP)),
        "as an event": (Refusal.WRONG_TYPE, signed(claims, RECEIPTS, EVENT_TYP)),
        "for another board": (
            Refusal.WRONG_AUDIENCE,
            signed(claims | {"aud": "urn:hadir:device:door-02"}, RECEIPTS, RECEIPT_TYP),
        ),
        "without a hash": (
            Refusal.BAD_CLAIMS,
            signed({name: claims[name] for name in claims if name != "hash"}, RECEIPTS, RECEIPT_TYP),
        ),
        "for nothing": (Refusal.BAD_CLAIMS, signed(claims | {"seq": 0}, RECEIPTS, RECEIPT_TYP)),
        "with more than it says": (Refusal.BAD_CLAIMS, signed(claims | {"more": 1}, RECEIPTS, RECEIPT_TYP)),
        "refusing what it does not cover": (
            Refusal.BAD_CLAIMS,
            signed(refused | {"seq": 2}, RECEIPTS, RECEIPT_TYP),
        ),
    }
    for name, (reason, token) in wrong.items():
        yield _receipt(name, token, reason)


def heads() -> Iterator[Claims]:
    """What a board says of its chain."""
    at_5 = head_claims(IDENTITY, CHAIN, 5, token_hash(_chain(5)[4]), reading())
    empty = head_claims(IDENTITY, CHAIN, 0, None, reading())
    yield _head("at 5", signed(at_5, DOOR, HEAD_TYP))
    yield _head("of a chain without an event", signed(empty, DOOR, HEAD_TYP))
    yield _head("as an event", signed(at_5, DOOR, EVENT_TYP), Refusal.WRONG_TYPE)
    yield _head("by the receipt key", signed(at_5, RECEIPTS, HEAD_TYP), Refusal.UNKNOWN_KEY)
    yield _head("without its hash", signed(empty | {"seq": 5}, DOOR, HEAD_TYP), Refusal.BAD_CLAIMS)
    yield _head("with a hash of nothing", signed(at_5 | {"seq": 0}, DOOR, HEAD_TYP), Refusal.BAD_CLAIMS)


def vectors() -> str:
    """The whole file."""
    registered = [
        _registered(DOOR, "door-01"),
        _registered(NEXT, "door-01"),
        _registered(OLD, "door-01") | {"chain": CHAIN, "first_seq": 1, "last_seq": 6},
        _registered(OTHER, "door-02"),
        _registered(ED, "door-03"),
        _registered(REVOKED, "door-01") | {"revoked_at": MADE_S - 60},
    ]
    fleet = [
        key.public_jwk | {"hadir_use": use} for use, key in (("receipt", RECEIPTS), ("command", COMMANDS))
    ]
    content = {
        "about": "Test vectors of docs/events.md, made by docs/vectors.py. The keys are worth nothing.",
        "arrived_s": ARRIVED_S,
        "devices": {"keys": registered},
        "fleet_keys": {"keys": fleet},
        "private_keys": {"door-01": _private_jwk(DOOR), "receipt": _private_jwk(RECEIPTS)},
        "events": list(events()),
        "chains": list(chains()),
        "receipts": list(receipts()),
        "heads": list(heads()),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _chain(length: int) -> list[str]:
    tokens = [signed(named("1", start(position(1))), DOOR)]
    for seq in range(2, length + 1):
        tokens.append(signed(named(str(seq), attendance(at=_at(seq, tokens[-1]))), DOOR))
    return tokens


def _at(seq: int, before: str) -> ChainPosition:
    return ChainPosition(CHAIN, seq, token_hash(before), 1)


def _believed(name: str, token: str, device: str = "door-01") -> Claims:
    topic = f"hadir/v1/{device}/up/event"
    return {"name": name, "topic": topic, "token": token, "hash": token_hash(token), "refused": None}


def _refused(name: str, token: str, reason: Refusal, topic: str = "hadir/v1/door-01/up/event") -> Claims:
    return {"name": name, "topic": topic, "token": token, "refused": reason.value}


def _ordered(
    name: str, tokens: list[str], counted: list[int], *, waits_for: int | None = None, **found: Any
) -> Claims:
    hashes = [token_hash(token) for token in tokens]
    outcome = {"counted": counted, "waits_for": waits_for, "lost": [], "alert": None} | found
    return {"name": name, "topic": "hadir/v1/door-01/up/event", "tokens": tokens, "hashes": hashes} | outcome


def _receipt(name: str, token: str, reason: Refusal | None = None) -> Claims:
    return {"name": name, "device": "door-01", "token": token, "refused": reason}


def _head(name: str, token: str, reason: Refusal | None = None) -> Claims:
    return {"name": name, "token": token, "refused": reason}


def _registered(key: SigningKey, device: str) -> Claims:
    limits: Claims = {"chain": None, "first_seq": None, "last_seq": None, "revoked_at": None}
    return key.public_jwk | {"device": device, "site": "hq"} | limits


def _private(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    return key.private


def _private_jwk(key: SigningKey) -> Claims:
    number = _private(key).private_numbers().private_value
    return key.public_jwk | {"d": encode_base64url(number.to_bytes(32, "big"))}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


if __name__ == "__main__":
    TARGET.write_text(vectors(), encoding="utf-8")
