"""Every other event of a board: what its builder makes, and what a reader refuses of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Refusal, TokenRefused
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
from edge.trust.jws import SigningKey, sign
from edge.trust.members import MAX_INTEGER
from edge.trust.tokens import (
    ATTACK,
    ATTENDANCE,
    BOARD_TYPS,
    CLOCK,
    ERASURE,
    EVENT_TYP,
    KEY,
    MAX_EVENT_BYTES,
    SKIP,
    START,
    TAMPER,
    Place,
    parse_event,
)

CHAIN, PREV, BOOT = "A" * 22, "h" * 43, "0f3c9f0e-6a51-4b8e-9a57-1d0c6f2f5b11"
IDENTITY = DeviceIdentity("door-01", "hq", SigningKey.generate())
NEXT = SigningKey.generate()
NEXT_PUBLIC = NEXT.verification_key(BOARD_TYPS)
POSITION = ChainPosition(chain=CHAIN, seq=1837, prev=PREV, low=1790)
READINGS = {
    ClockState.SYNCED: TimeReading(1_764_000_001_000, 81_230_930, BOOT, ClockState.SYNCED, 4),
    ClockState.HOLDOVER: TimeReading(1_764_000_001_000, 81_230_930, BOOT, ClockState.HOLDOVER, 185),
    ClockState.UNSYNCED: TimeReading(1_764_000_001_000, 81_230_930, BOOT, ClockState.UNSYNCED, None),
}
SYNCED = READINGS[ClockState.SYNCED]

Make = Callable[[TimeReading], dict[str, Any]]

MAKERS: dict[str, Make] = {
    ATTENDANCE: lambda made: attendance_claims(
        IDENTITY,
        POSITION,
        made,
        Attendance(7, "E1042", 5, 0.7, 0.4, 81_230_412),
        direction=Direction.IN,
        embedder="e" * 16,
        gallery=42,
    ),
    START: lambda made: start_claims(
        IDENTITY, POSITION, made, cause="boot", clean=False, version="1.0", last=1836
    ),
    CLOCK: lambda made: clock_claims(IDENTITY, POSITION, made, step_ms=-3_600_000),
    KEY: lambda made: key_claims(IDENTITY, POSITION, made, NEXT_PUBLIC),
    SKIP: lambda made: skip_claims(
        IDENTITY, POSITION, made, seq=1830, token_hash="s" * 43, reason="too-large"
    ),
    ERASURE: lambda made: erasure_claims(IDENTITY, POSITION, made, person="E7", version=43),
    TAMPER: lambda made: tamper_claims(
        IDENTITY, POSITION, made, kind=TamperKind.FORK, detail="a receipt for seq 1901, mine ends at 1836"
    ),
    ATTACK: lambda made: attack_claims(IDENTITY, POSITION, made, frames=8, seen_mono_ms=81_230_412),
}

MEMBERS: dict[str, dict[str, Any]] = {
    CLOCK: {"real_ms": 1_764_000_001_000, "step_ms": -3_600_000, "err_ms": 4},
    KEY: {"old_kid": IDENTITY.key.kid, "new_jwk": NEXT.public_jwk},
    SKIP: {"skipped": {"seq": 1830, "hash": "s" * 43}, "reason": "too-large"},
    ERASURE: {"version": 43},
    TAMPER: {"kind": "fork", "detail": "a receipt for seq 1901, mine ends at 1836"},
    ATTACK: {"frames": 8},
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_each_event_has_exactly_the_members_of_the_design(kind: str) -> None:
    claims = MAKERS[kind](SYNCED)
    assert {name: claims[name] for name in ("iss", "aud", "iat")} == {
        "iss": "urn:hadir:device:door-01",
        "aud": "urn:hadir:site:hq",
        "iat": 1_764_000_001,
    }
    assert claims["events"] == {
        kind: {
            "chain": CHAIN,
            "seq": 1837,
            "prev": PREV,
            "low": 1790,
            "boot": BOOT,
            "mono_ms": 81_230_412 if kind == ATTACK else 81_230_930,
            "clock": "synced",
        }
        | MEMBERS[kind]
    }
    assert claims.get("sub_id") == ({"format": "opaque", "id": "E7"} if kind == ERASURE else None)
    assert claims.get("toe") == (1_764_000_000.482 if kind == ATTACK else None)


@pytest.mark.parametrize("state", ClockState)
@pytest.mark.parametrize("kind", MAKERS)
def test_whatever_a_builder_makes_is_read_again_and_small(kind: str, state: ClockState) -> None:
    claims = json.loads(json.dumps(MAKERS[kind](READINGS[state])))
    event = parse_event(claims)
    assert (event.type, event.seq, event.clock, event.payload) == (kind, 1837, state, claims["events"][kind])
    assert len(sign(claims, IDENTITY.key, EVENT_TYP).compact) < MAX_EVENT_BYTES / 2


def test_a_clock_event_tells_its_error_whenever_it_is_known() -> None:
    told = {state: MAKERS[CLOCK](made)["events"][CLOCK].get("err_ms") for state, made in READINGS.items()}
    assert told == {ClockState.SYNCED: 4, ClockState.HOLDOVER: 185, ClockState.UNSYNCED: None}


def test_no_private_key_leaves_in_a_key_event() -> None:
    assert "d" not in MAKERS[KEY](SYNCED)["events"][KEY]["new_jwk"]


@given(st.text())
def test_a_tampering_can_be_told_whatever_its_detail_is(detail: str) -> None:
    claims = tamper_claims(IDENTITY, POSITION, SYNCED, kind=TamperKind.DISK, detail=detail)
    assert parse_event(json.loads(json.dumps(claims))).payload["kind"] == "disk"


NEW_PLACE = ChainPosition(chain="B" * 22, seq=3, prev="p" * 43, low=1)


@pytest.mark.parametrize("kind", MAKERS)
def test_an_event_signed_anew_keeps_what_it_says_and_where_it_was(kind: str) -> None:
    old = MAKERS[kind](SYNCED)
    new = resigned_claims(old, NEW_PLACE)
    event = parse_event(json.loads(json.dumps(new)))
    assert (event.chain, event.seq, event.prev, event.low) == ("B" * 22, 3, "p" * 43, 1)
    assert event.was == Place(CHAIN, 1837)
    assert new["jti"] != old["jti"]
    places = {"chain", "seq", "prev", "low", "was"}
    for claims in (old, new):
        claims.pop("jti")
        for place in places & claims["events"][kind].keys():
            claims["events"][kind].pop(place)
    assert new == old


def test_an_event_signed_anew_twice_still_says_where_it_was_first() -> None:
    once = resigned_claims(MAKERS[ATTENDANCE](SYNCED), NEW_PLACE)
    twice = resigned_claims(once, ChainPosition(chain="C" * 22, seq=2, prev="q" * 43, low=1))
    assert twice["events"][ATTENDANCE]["was"] == {"chain": CHAIN, "seq": 1837}


def test_a_chain_begins_with_a_start_and_nothing_else() -> None:
    first = ChainPosition(chain=CHAIN, seq=1, prev=None, low=1)
    tampered = tamper_claims(IDENTITY, first, SYNCED, kind=TamperKind.DISK, detail="full")
    for claims in (
        tampered,
        tampered | {"events": {"urn:hadir:event:unheard:1": tampered["events"][TAMPER]}},
    ):
        with pytest.raises(TokenRefused, match="events: a chain begins with a start"):
            parse_event(claims)


BAD: dict[tuple[str, str], list[object]] = {
    (START, "cause"): [..., None, 1, "", "Boot", "boot\n"],
    (START, "clean"): [..., None, 1, "true"],
    (START, "version"): [..., None, 1, ""],
    (START, "last"): [None, 0, "5", 1.0],
    (CLOCK, "real_ms"): [..., None, -1, 1.5, True],
    (CLOCK, "step_ms"): [..., None, 0.5, -MAX_INTEGER - 1],
    (CLOCK, "err_ms"): [..., None, -1],
    (KEY, "old_kid"): [..., None, 1, "k" * 42],
    (KEY, "new_jwk"): [
        ...,
        None,
        [],
        {},
        {"kty": "EC"},
        {**NEXT.public_jwk, "d": "AA"},
        IDENTITY.key.public_jwk,
    ],
    (SKIP, "skipped"): [..., None, 5, {}, {"seq": 5}, {"hash": "s" * 43}, {"seq": 0, "hash": "s" * 43}],
    (SKIP, "reason"): [..., None, 1, "", "too large"],
    (ERASURE, "version"): [..., None, 0, "43"],
    (TAMPER, "kind"): [..., None, 1, "", "theft", ["disk"], {}],
    (TAMPER, "detail"): [..., None, 1, "", "a\nb", "x" * 257],
    (ATTACK, "frames"): [..., None, 0, 1001, True],
    (ATTENDANCE, "similarity"): [None, "0.7", 1.1, float("nan")],
    (ATTENDANCE, "margin"): [None, "0.7", 2.1],
    (ATTENDANCE, "liveness"): [None, "1", -0.1],
    (ATTENDANCE, "was"): [
        None,
        {},
        {"chain": CHAIN, "seq": 5},
        {"chain": "B" * 22},
        {"chain": "B" * 22, "seq": 0},
        {"chain": "B" * 22, "seq": 5, "hash": PREV},
    ],
}
"""By type and member, what must be refused; `...` takes the member away."""

INNER = {"skipped": {"seq", "hash"}, "was": {"chain", "seq", "hash"}}


def with_member(kind: str, name: str, value: object) -> dict[str, Any]:
    claims = copy.deepcopy(MAKERS[kind](SYNCED))
    claims["events"][kind][name] = value
    if value is ...:
        del claims["events"][kind][name]
    return claims


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(*where, value) for where, values in BAD.items() for value in values]
)
def test_a_member_that_is_missing_of_another_type_or_out_of_bounds_is_named(
    kind: str, name: str, value: object
) -> None:
    with pytest.raises(TokenRefused) as refused:
        parse_event(with_member(kind, name, value))
    assert refused.value.reason is Refusal.BAD_CLAIMS
    assert refused.value.detail.split(":", 1)[0] in {name, *INNER.get(name, ())}
    assert refused.value.detail.isprintable()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["name", "picture", "embedding", "exp", "ünbekannt\n"])
def test_a_member_that_a_known_type_does_not_have_is_refused(kind: str, name: str) -> None:
    """A name or a picture could travel in it, and another reader might act upon it."""
    with pytest.raises(TokenRefused, match="not known here") as refused:
        parse_event(with_member(kind, name, "x"))
    assert refused.value.detail.isprintable()


@pytest.mark.parametrize("kind", MAKERS)
def test_a_person_is_named_by_an_attendance_and_an_erasure_alone(kind: str) -> None:
    claims = MAKERS[kind](SYNCED)
    if claims.pop("sub_id", None) is None:
        claims["sub_id"] = {"format": "opaque", "id": "E1042"}
    with pytest.raises(TokenRefused, match="sub_id"):
        parse_event(claims)


def test_a_member_of_a_type_that_is_not_known_is_kept() -> None:
    claims = MAKERS[TAMPER](SYNCED)
    unheard = claims["events"][TAMPER] | {"wind": [1, {"gusts": True}]}
    claims["events"] = {"urn:hadir:event:weather:3": unheard}
    assert parse_event(claims).payload["wind"] == [1, {"gusts": True}]


def values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    )


@given(kind=st.sampled_from(sorted(MAKERS)), data=st.data(), value=values())
def test_one_arbitrary_member_makes_an_event_or_a_refusal(
    kind: str, data: st.DataObject, value: object
) -> None:
    names = sorted(MAKERS[kind](SYNCED)["events"][kind])
    try:
        parse_event(with_member(kind, data.draw(st.sampled_from(names) | st.text(max_size=8)), value))
    except TokenRefused as refused:
        assert refused.reason is Refusal.BAD_CLAIMS
        assert len(str(refused)) < 200
