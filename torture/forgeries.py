"""Messages that must not be believed, most of them signed by a key that may sign: what is wrong is their meaning.

Each family changes one thing. A message says what may become of it: the reasons under
which it may be kept as evidence, or that it is known or waits for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from edge.errors import Refusal
from edge.records import Attendance, ChainPosition, ClockState, Direction, SignedToken, TimeReading
from edge.trust.events import attendance_claims, start_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, decode_base64url, encode_base64url, sign
from edge.trust.receipts import RECEIPT_TYP, head_claims, receipt_claims
from edge.trust.tokens import EVENT_TYP, HEAD_TYP

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's base point (FIPS 186-4, D.1.2.3): with (r, s) also (r, order - s) is a signature."""

KNOWN = "known"
"""The very token that is stored already, by its hash."""
WAITING = "waiting"
"""Signed by whom it says, in a place of a chain that has nothing before it: stored, and never counted."""

AHEAD = "ahead"
"""In its place and rightly signed, but dated after its arrival: stored, flagged, and its time not believed."""

MAX_AHEAD_S = 300

JUNK_BYTES = 3000
DEEP = 200

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A message, and what may become of it."""

    family: str
    topic: str
    payload: bytes
    allowed: frozenset[str]
    signed: bool
    """Whether a registered key has signed it, so that only its meaning is wrong."""


@dataclass(slots=True)
class Party:
    """A board with its own key and an honest chain so far."""

    identity: DeviceIdentity
    chain: str
    tokens: list[SignedToken]

    @property
    def device(self) -> str:
        return self.identity.device

    def topic(self, kind: str = "event") -> str:
        return f"hadir/v1/{self.device}/up/{kind}"

    def position(self, seq: int | None = None) -> ChainPosition:
        """The next place, or another with a `prev` of nothing."""
        if seq is not None:
            return ChainPosition(self.chain, seq, "f" * 43, 1)
        prev = self.tokens[-1].hash if self.tokens else None
        return ChainPosition(self.chain, len(self.tokens) + 1, prev, 1)

    def go_on(self, now_s: int) -> SignedToken:
        """One more honest event."""
        at = self.position()
        if at.seq == 1:
            claims = start_claims(
                self.identity, at, reading(now_s), cause="new", clean=True, version="1", last=None
            )
        else:
            claims = attendance(self.identity, at, now_s)
        self.tokens.append(sign(claims, self.identity.key, EVENT_TYP))
        return self.tokens[-1]


def reading(now_s: float) -> TimeReading:
    return TimeReading(int(now_s * 1000), 9_000, "hostile-boot", ClockState.SYNCED, 5)


def attendance(identity: DeviceIdentity, at: ChainPosition, now_s: float, person: str = "E1042") -> Claims:
    """Somebody came, by this board's word."""
    return attendance_claims(
        identity,
        at,
        reading(now_s),
        Attendance(1, person, 4, 0.7, 0.4, 8_000),
        direction=Direction.IN,
        embedder="e" * 16,
        gallery=1,
    )


@dataclass(frozen=True, slots=True)
class World:
    """Everybody whose keys and tokens a forger may have."""

    parties: Sequence[Party]
    revoked: Party
    """Its key was revoked."""
    limited: Party
    """Its key speaks for another chain only."""
    early: Party
    """Its clock is ahead, and calls itself synchronised."""
    fleet_keys: Mapping[str, SigningKey]
    """Of the fleet, by use: what one key may sign another may not."""
    random: Random
    now_s: float

    def pair(self) -> tuple[Party, Party]:
        one, other = self.random.sample(list(self.parties), 2)
        return one, other

    def place(self, party: Party) -> ChainPosition:
        """Anywhere in or behind its chain."""
        return party.position(self.random.randint(2, len(party.tokens) + 5))

    def claims(self, party: Party) -> Claims:
        return attendance(party.identity, self.place(party), self.now_s, f"X{self.random.randrange(10**6)}")


Make = Callable[[World, Party, Party], tuple[str, bytes]]
"""A topic and a payload, from what one party has and another is."""


def _signed(claims: Claims, party: Party, typ: str = EVENT_TYP) -> bytes:
    return sign(claims, party.identity.key, typ).compact.encode()


def _member(claims: Claims, name: str, value: object) -> Claims:
    ((kind, event),) = claims["events"].items()
    changed = event | {name: value}
    return claims | {"events": {kind: {key: kept for key, kept in changed.items() if kept is not ...}}}


def _own(change: Callable[[World, Claims], Claims]) -> Make:
    """A token of a board on its own topic, with something of its claims changed."""
    return lambda world, mine, _: (mine.topic(), _signed(change(world, world.claims(mine)), mine))


def _another_name(world: World, mine: Party, other: Party) -> tuple[str, bytes]:
    identity = DeviceIdentity(other.device, other.identity.site, mine.identity.key)
    claims = attendance(identity, world.place(other), world.now_s)
    return world.random.choice([mine, other]).topic(), _signed(claims, mine)


def _another_topic(world: World, mine: Party, other: Party) -> tuple[str, bytes]:
    return other.topic(), world.random.choice(mine.tokens).compact.encode()


def _another_chain(world: World, mine: Party, other: Party) -> tuple[str, bytes]:
    """In the chain of another board: to the server a chain of this board, of which nothing else is there."""
    at = ChainPosition(other.chain, world.random.randint(2, 10**6), "f" * 43, 1)
    return mine.topic(), _signed(attendance(mine.identity, at, world.now_s), mine)


def _another_use(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    key = world.fleet_keys[world.random.choice(sorted(world.fleet_keys))]
    return mine.topic(), sign(world.claims(mine), key, EVENT_TYP).compact.encode()


def _another_typ(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    typ = world.random.choice([HEAD_TYP, RECEIPT_TYP, "JWT", "hadir-reply+jwt", "SECEVENT+JWT"])
    return mine.topic(), _signed(world.claims(mine), mine, typ)


def _malleated(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    return mine.topic(), malleated(world.random.choice(mine.tokens).compact)


def malleated(token: str) -> bytes:
    """The same token with the other signature that ECDSA allows."""
    signing_input, _, signature = token.rpartition(".")
    raw = decode_base64url(signature.encode())
    other = ORDER - int.from_bytes(raw[32:], "big")
    return f"{signing_input}.{encode_base64url(raw[:32] + other.to_bytes(32, 'big'))}".encode()


def _by_revoked(world: World, _: Party, __: Party) -> tuple[str, bytes]:
    return world.revoked.topic(), _signed(world.claims(world.revoked), world.revoked)


def _by_limited(world: World, _: Party, __: Party) -> tuple[str, bytes]:
    return world.limited.topic(), _signed(world.claims(world.limited), world.limited)


def _ahead(world: World, _: Party, __: Party) -> tuple[str, bytes]:
    ahead_s = MAX_AHEAD_S + world.random.randint(60, 10**6)
    return world.early.topic(), world.early.go_on(int(world.now_s + ahead_s)).compact.encode()


def _altered(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    header, payload, signature = world.random.choice(mine.tokens).compact.split(".")
    claims = json.loads(decode_base64url(payload.encode())) | {"iat": world.random.randrange(10**9)}
    return mine.topic(), f"{header}.{encode_base64url(json.dumps(claims).encode())}.{signature}".encode()


def _header(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    """Rightly signed before its header was made to promise something."""
    header: Claims = {"alg": "ES256", "typ": EVENT_TYP, "kid": mine.identity.key.kid}
    header |= world.random.choice(PROMISES)
    rest = _signed(world.claims(mine), mine).partition(b".")[2]
    return mine.topic(), encode_base64url(json.dumps(header).encode()).encode() + b"." + rest


def _junk(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    return mine.topic(), world.random.randbytes(world.random.randrange(JUNK_BYTES))


def _cut(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    token = _signed(world.claims(mine), mine)
    return mine.topic(), token[: world.random.randrange(len(token))]


def _long(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    return mine.topic(), _signed(_member(world.claims(mine), "wind", "x" * 2 * JUNK_BYTES), mine)


def _deep(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    nested = json.loads("[" * DEEP + "]" * DEEP)
    return mine.topic(), _signed(_member(world.claims(mine), "wind", nested), mine)


PROMISES: Sequence[Claims] = (
    {"alg": "none"},
    {"alg": "HS256"},
    {"jku": "https://example.org/keys"},
    {"crit": ["exp"]},
    {"b64": False},
    {"x5c": []},
)

REQUIRED = ("iss", "aud", "iat", "jti", "sub_id", "events")
MEMBERS = (
    "chain",
    "seq",
    "prev",
    "low",
    "boot",
    "mono_ms",
    "clock",
    "direction",
    "frames",
    "embedder",
    "gallery",
)

IN_MEANING: Mapping[str, tuple[Make, set[str]]] = {
    "another board's name": (_another_name, {Refusal.WRONG_OWNER}),
    "on another board's topic": (_another_topic, {Refusal.WRONG_OWNER}),
    "another board's chain": (_another_chain, {WAITING}),
    "a key of another use": (_another_use, {Refusal.UNKNOWN_KEY}),
    "another typ": (_another_typ, {Refusal.WRONG_TYPE}),
    "another audience": (
        _own(lambda world, claims: claims | {"aud": f"urn:hadir:site:s{world.random.randrange(9)}"}),
        {Refusal.WRONG_AUDIENCE},
    ),
    "a malleated signature": (_malleated, {KNOWN}),
    "a claim missing": (
        _own(lambda world, claims: _lacking(claims, world.random.choice(REQUIRED))),
        {Refusal.BAD_CLAIMS},
    ),
    "a member missing": (
        _own(lambda world, claims: _member(claims, world.random.choice(MEMBERS), ...)),
        {Refusal.BAD_CLAIMS},
    ),
    "a claim too many": (
        _own(lambda world, claims: claims | {world.random.choice(["exp", "nbf", "sub", "name"]): 2**31}),
        {Refusal.BAD_CLAIMS},
    ),
    "a member too many": (
        _own(lambda world, claims: _member(claims, world.random.choice(["name", "picture", "x"]), "y")),
        {Refusal.BAD_CLAIMS},
    ),
    "a member of another kind": (
        _own(lambda world, claims: _member(claims, world.random.choice(MEMBERS), [None, {"a": -1}])),
        {Refusal.BAD_CLAIMS},
    ),
    "a key that was revoked": (_by_revoked, {Refusal.REVOKED_KEY}),
    "a key of another chain": (_by_limited, {Refusal.WRONG_USE}),
    "300 s in the future": (_ahead, {AHEAD}),
    "nested too deep": (_deep, {Refusal.MALFORMED}),
    "too long": (_long, {Refusal.TOO_LARGE}),
}
"""Signed by a key that exists: what is wrong is what they mean."""

IN_FORM: Mapping[str, tuple[Make, set[str]]] = {
    "altered": (_altered, {Refusal.BAD_SIGNATURE}),
    "another header": (_header, {Refusal.WRONG_ALGORITHM, Refusal.FORBIDDEN_HEADER}),
    "junk": (_junk, {Refusal.MALFORMED}),
    "cut off": (_cut, {Refusal.MALFORMED, Refusal.BAD_SIGNATURE}),
}


def events(world: World, count: int) -> list[Hostile]:
    """So many, two thirds of them rightly signed and wrong in meaning."""
    made = []
    for number in range(count):
        signed = number % 3 != 0
        family, (make, allowed) = world.random.choice(list((IN_MEANING if signed else IN_FORM).items()))
        topic, payload = make(world, *world.pair())
        made.append(Hostile(family, topic, payload, frozenset(allowed), signed))
    return made


def said(world: World, kind: str, count: int) -> list[Hostile]:
    """States or health reports, with heads that are wrong in two thirds of them."""
    made = []
    for number in range(count):
        mine, other = world.pair()
        signed = number % 3 != 0
        family, payload = (_wrong_head if signed else _wrong_state)(world, mine, other)
        made.append(Hostile(family, mine.topic(kind), payload, frozenset(Refusal), signed))
    return made


def _wrong_head(world: World, mine: Party, other: Party) -> tuple[str, bytes]:
    right = head_claims(
        mine.identity, mine.chain, len(mine.tokens), mine.tokens[-1].hash, reading(world.now_s)
    )
    own, its = mine.identity.key, other.identity.key
    heads: dict[str, tuple[Claims, SigningKey, str]] = {
        "another board's head": (
            head_claims(other.identity, other.chain, 5, other.tokens[4].hash, reading(world.now_s)),
            its,
            HEAD_TYP,
        ),
        "a head in another board's name": (right | {"iss": other.identity.issuer}, own, HEAD_TYP),
        "a head for another site": (right | {"aud": "urn:hadir:site:branch"}, own, HEAD_TYP),
        "a head by a key of another use": (right, world.fleet_keys["gallery"], HEAD_TYP),
        "a head of another typ": (right, own, world.random.choice([EVENT_TYP, RECEIPT_TYP])),
        "a head that lacks a claim": (_lacking(right, world.random.choice(list(right))), own, HEAD_TYP),
        "a head with a claim too many": (right | {"exp": 1}, own, HEAD_TYP),
        "a head by a revoked key": (
            right | {"iss": world.revoked.identity.issuer},
            world.revoked.identity.key,
            HEAD_TYP,
        ),
    }
    family = world.random.choice(sorted(heads))
    claims, key, typ = heads[family]
    return family, json.dumps(_state(world, sign(claims, key, typ).compact)).encode()


def _wrong_state(world: World, mine: Party, _: Party) -> tuple[str, bytes]:
    number = world.random.randrange(10**9)
    states: dict[str, bytes] = {
        "junk": world.random.randbytes(world.random.randrange(1, JUNK_BYTES)),
        "not an object": json.dumps([number]).encode(),
        "nested too deep": b'{"head":' + b"[" * DEEP + b"]" * DEEP + b"," + b'"n":%d}' % number,
        "a member twice": b'{"state":"online","state":"lost","n":%d}' % number,
        "an infinite number": b'{"conn":1e999,"n":%d}' % number,
        "a head that is none": json.dumps(_state(world, {"seq": number})).encode(),
        "too long": json.dumps({"x": "y" * 3 * JUNK_BYTES, "n": number}).encode(),
    }
    family = world.random.choice(sorted(states))
    return family, states[family]


def _state(world: World, head: object) -> Claims:
    return {
        "state": "online",
        "boot": "hostile-boot",
        "conn": world.random.randrange(1, 10**6),
        "version": "1",
        "head": head,
    }


def _lacking(claims: Claims, name: str) -> Claims:
    return {key: value for key, value in claims.items() if key != name}


def receipts(world: World, board: Party, genuine: Sequence[bytes], count: int) -> list[Hostile]:
    """Receipts for this board that it must not act upon: old ones, and forged ones."""
    made = []
    for number in range(count):
        right = receipt_claims(
            "urn:hadir:central:central-1",
            board.device,
            int(world.now_s),
            chain=board.chain,
            seq=world.random.randint(1, 10**6),
            head_hash=encode_base64url(world.random.randbytes(32)),
        )
        key = world.fleet_keys["receipt"]
        forged: dict[str, bytes] = {
            "by a key of another use": sign(right, world.fleet_keys["command"], RECEIPT_TYP).compact.encode(),
            "by the board itself": sign(right, board.identity.key, RECEIPT_TYP).compact.encode(),
            "for another board": sign(
                right | {"aud": "urn:hadir:device:door-09"}, key, RECEIPT_TYP
            ).compact.encode(),
            "of another typ": sign(right, key, "hadir-command+jwt").compact.encode(),
            "a claim missing": sign(
                _lacking(right, world.random.choice(list(right))), key, RECEIPT_TYP
            ).compact.encode(),
            "a claim too many": sign(right | {"exp": 1}, key, RECEIPT_TYP).compact.encode(),
            "of another chain": sign(right | {"chain": "A" * 22}, key, RECEIPT_TYP).compact.encode(),
            "junk": world.random.randbytes(world.random.randrange(1, JUNK_BYTES)),
        }
        if genuine:
            forged["rolled back"] = world.random.choice(genuine)
        family = sorted(forged)[number % len(forged)]
        topic = f"hadir/v1/{board.device}/down/receipt"
        made.append(Hostile(family, topic, forged[family], frozenset(), family != "junk"))
    return made
