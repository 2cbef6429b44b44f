"""The claims of events: their exact shape, and what a reader refuses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Refusal, TokenRefused
from edge.records import Attendance, ChainPosition, ClockState, Direction, TimeReading
from edge.trust.events import attendance_claims, start_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, decode_base64url, sign
from edge.trust.members import MAX_INTEGER
from edge.trust.tokens import (
    ATTENDANCE,
    EVENT_TYP,
    MAX_EVENT_BYTES,
    START,
    Event,
    parse_event,
)

CHAIN, PREV, BOOT = "A" * 22, "h" * 43, "0f3c9f0e-6a51-4b8e-9a57-1d0c6f2f5b11"
IDENTITY = DeviceIdentity("door-01", "hq", SigningKey.generate())
POSITION = ChainPosition(chain=CHAIN, seq=1837, prev=PREV, low=1790)
FIRST = ChainPosition(chain=CHAIN, seq=1, prev=None, low=1)
SOMEONE = Attendance(
    track=7, person="E1042", frames=5, similarity=0.71239, margin=0.40001, seen_mono_ms=81_230_412
)


SYNCED = TimeReading(1_764_000_001_000, 81_230_930, BOOT, ClockState.SYNCED, err_ms=4)
"""518 ms after the face was seen."""
HOLDOVER = TimeReading(1_764_000_001_000, 81_230_930, BOOT, ClockState.HOLDOVER, err_ms=185)
UNSYNCED = TimeReading(1_764_000_001_000, 81_230_930, BOOT, ClockState.UNSYNCED, err_ms=None)


def attendance(
    position: ChainPosition = POSITION,
    *,
    identity: DeviceIdentity = IDENTITY,
    reading: TimeReading = SYNCED,
    someone: Attendance = SOMEONE,
    direction: Direction = Direction.IN,
    gallery: int = 42,
    diagnostics: bool = False,
) -> dict[str, Any]:
    return attendance_claims(
        identity,
        position,
        reading,
        someone,
        direction=direction,
        embedder="e" * 16,
        gallery=gallery,
        diagnostics=diagnostics,
    )


def start(position: ChainPosition = FIRST, last: int | None = None) -> dict[str, Any]:
    return start_claims(IDENTITY, position, SYNCED, cause="new", clean=True, version="0.1", last=last)


def without_jti(claims: dict[str, Any]) -> dict[str, Any]:
    assert len(decode_base64url(claims.pop("jti").encode())) == 16
    return claims


def test_an_attendance_has_exactly_the_shape_of_the_design() -> None:
    assert without_jti(attendance()) == {
        "iss": "urn:hadir:device:door-01",
        "aud": "urn:hadir:site:hq",
        "iat": 1_764_000_001,
        "toe": 1_764_000_000.482,
        "sub_id": {"format": "opaque", "id": "E1042"},
        "events": {
            "urn:hadir:event:attendance:1": {
                "chain": CHAIN,
                "seq": 1837,
                "prev": PREV,
                "low": 1790,
                "boot": BOOT,
                "mono_ms": 81_230_412,
                "clock": "synced",
                "direction": "in",
                "frames": 5,
                "embedder": "e" * 16,
                "gallery": 42,
            }
        },
    }


def test_a_start_has_exactly_the_shape_of_the_design() -> None:
    assert without_jti(start()) == {
        "iss": "urn:hadir:device:door-01",
        "aud": "urn:hadir:site:hq",
        "iat": 1_764_000_001,
        "events": {
            "urn:hadir:event:start:1": {
                "chain": CHAIN,
                "seq": 1,
                "low": 1,
                "boot": BOOT,
                "mono_ms": 81_230_930,
                "clock": "synced",
                "cause": "new",
                "clean": True,
                "version": "0.1",
            }
        },
    }


def test_a_later_start_tells_where_the_last_run_ended() -> None:
    event = start(POSITION, last=1836)["events"][START]
    assert (event["seq"], event["prev"], event["last"]) == (1837, PREV, 1836)


def test_no_two_tokens_have_the_same_jti() -> None:
    assert attendance()["jti"] != attendance()["jti"]


def test_toe_is_when_the_face_was_seen_and_not_when_the_token_was_signed() -> None:
    """An hour in the dark: signed late, dated then."""
    late = TimeReading(
        real_ms=1_764_003_600_000,
        mono_ms=SOMEONE.seen_mono_ms + 3_600_000,
        boot=BOOT,
        state=ClockState.SYNCED,
        err_ms=4,
    )
    claims = attendance(reading=late)
    assert (claims["toe"], claims["iat"]) == (1_764_000_000.0, 1_764_003_600)
    assert claims["events"][ATTENDANCE]["mono_ms"] == SOMEONE.seen_mono_ms


def test_without_a_clock_the_time_is_left_out() -> None:
    claims = attendance(reading=UNSYNCED)
    assert "toe" not in claims
    event = claims["events"][ATTENDANCE]
    assert (event["clock"], event["mono_ms"], "err_ms" in event) == ("unsynced", 81_230_412, False)


def test_in_holdover_the_error_is_told() -> None:
    claims = attendance(reading=HOLDOVER)
    assert claims["toe"] == 1_764_000_000.482
    assert claims["events"][ATTENDANCE]["err_ms"] == 185
    assert "err_ms" not in attendance(reading=SYNCED)["events"][ATTENDANCE]


def test_how_alike_is_told_only_with_diagnostics() -> None:
    """It is derived from the face, and helps to tune an attack."""
    plain = attendance()["events"][ATTENDANCE]
    tuned = attendance(diagnostics=True)["events"][ATTENDANCE]
    assert tuned == plain | {"similarity": 0.7124, "margin": 0.4}
    assert not {"similarity", "margin", "liveness"} & plain.keys()


def test_the_longest_attendance_is_far_below_the_limit() -> None:
    identity = DeviceIdentity("d" * 32, "s" * 32, IDENTITY.key)
    someone = Attendance(7, "P" * 64, 1000, 0.7123, 0.4123, MAX_INTEGER)
    position = ChainPosition(CHAIN, MAX_INTEGER, PREV, MAX_INTEGER)
    reading = TimeReading(1_764_000_001_000, MAX_INTEGER, "b" * 64, ClockState.HOLDOVER, MAX_INTEGER)
    claims = attendance(
        position,
        identity=identity,
        someone=someone,
        reading=reading,
        direction=Direction.BOTH,
        gallery=MAX_INTEGER,
        diagnostics=True,
    )
    assert parse_event(claims).person == "P" * 64
    assert len(sign(claims, IDENTITY.key, EVENT_TYP).compact) < MAX_EVENT_BYTES / 2


def test_what_was_built_is_read_again() -> None:
    claims = json.loads(json.dumps(attendance(reading=HOLDOVER)))
    assert parse_event(claims) == Event(
        issuer="urn:hadir:device:door-01",
        audience="urn:hadir:site:hq",
        issued_s=1_764_000_001,
        jti=claims["jti"],
        type=ATTENDANCE,
        chain=CHAIN,
        seq=1837,
        prev=PREV,
        low=1790,
        boot=BOOT,
        mono_ms=81_230_412,
        clock=ClockState.HOLDOVER,
        err_ms=185,
        seen_s=1_764_000_000.482,
        person="E1042",
        payload=claims["events"][ATTENDANCE],
    )
    first = parse_event(start())
    assert (first.prev, first.person, first.seen_s, first.err_ms) == (None, None, None, None)


def test_an_event_of_an_unknown_type_is_kept_and_not_interpreted() -> None:
    claims = start(POSITION)
    claims["events"] = {"urn:hadir:event:tamper:2": claims["events"][START] | {"kind": [{"new": True}]}}
    event = parse_event(claims)
    assert (event.type, event.seq, event.payload["kind"]) == (
        "urn:hadir:event:tamper:2",
        1837,
        [{"new": True}],
    )


def test_a_time_by_a_clock_that_was_never_set_is_not_taken_over() -> None:
    claims = attendance()
    claims["events"][ATTENDANCE]["clock"] = "unsynced"
    assert parse_event(claims).seen_s is None


def changed(where: str, value: object) -> dict[str, Any]:
    """A good attendance in which one claim is another; `...` takes it away."""
    claims = copy.deepcopy(attendance())
    *path, name = where.split("/")
    place: dict[str, Any] = claims
    for step in path:
        place = place[ATTENDANCE if step == "event" else step]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return claims


MEMBERS: dict[str, list[object]] = {
    "iss": [..., None, 1, "", "x" * 257, "a\nb", ["urn:hadir:device:door-01"]],
    "aud": [..., None, 1, "", ["urn:hadir:site:hq"]],
    "iat": [..., None, "1764000001", 1.5, True, -1, MAX_INTEGER + 1],
    "jti": [..., None, 7, "", "a\u202eb", "\ud800"],
    "toe": [None, "now", True, -1, MAX_INTEGER * 2.0, float("inf"), float("nan")],
    "sub_id": [..., None, "E1042", {}, {"format": "email", "id": "E1042"}, {"format": "opaque"}],
    "sub_id/id": [None, 5, "", "x" * 65, "-E1", "E 1", "E1\n", "Ä", "../x", "<script>"],
    "events": [..., None, [], {}, "x", {"urn:hadir:event:attendance:1": []}, {"attendance": {}}],
    "events/second": [{}],
    "events/event/chain": [..., None, 1, "", "A" * 21, "A" * 23, "A" * 21 + "="],
    "events/event/seq": [..., None, "1837", 1837.0, True, 0, -1, MAX_INTEGER + 1, 10**400],
    "events/event/prev": [..., None, 1, "", "h" * 42, "h" * 44, "h" * 42 + "+"],
    "events/event/low": [..., None, "1", 1.0, False, 0, 1838],
    "events/event/boot": [..., None, 1, "", "b" * 65, "a b", "a\n"],
    "events/event/mono_ms": [..., None, "1", 1.0, True, -1, MAX_INTEGER + 1],
    "events/event/clock": [..., None, 1, "", "SYNCED", "holdover", ["synced"], {}],
    "events/event/err_ms": [None, "1", 1.0, True, -1],
    "events/event/direction": [..., None, 1, "", "sideways", ["in"], {}],
    "events/event/frames": [..., None, "5", 5.0, True, 0, 1001],
    "events/event/embedder": [..., None, 1, ""],
    "events/event/gallery": [..., None, "42", 42.0, True, -1],
}


TOLD_AS = {"sub_id": ("id",), "events/event/clock": ("err_ms",)}
"""What is missed in a subject without its id, and in a holdover without its error."""


@pytest.mark.parametrize(
    ("where", "value"), [(where, value) for where, values in MEMBERS.items() for value in values]
)
def test_a_claim_that_is_missing_of_another_type_or_out_of_bounds_is_named(where: str, value: object) -> None:
    with pytest.raises(TokenRefused) as refused:
        parse_event(changed(where, value))
    assert refused.value.reason is Refusal.BAD_CLAIMS
    named = refused.value.detail.split(":", 1)[0]
    assert named in {*where.split("/"), *TOLD_AS.get(where, ())}
    assert refused.value.detail.isprintable()


def test_the_first_event_has_none_before_it() -> None:
    claims = start()
    claims["events"][START]["prev"] = PREV
    with pytest.raises(TokenRefused, match="prev: the first event has none before it"):
        parse_event(claims)


def json_values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    )


def read_or_refuse(claims: dict[str, Any]) -> None:
    try:
        event = parse_event(claims)
    except TokenRefused as refused:
        assert refused.reason is Refusal.BAD_CLAIMS
        assert len(str(refused)) < 200
    else:
        assert event.seq >= event.low >= 1


@given(st.dictionaries(st.sampled_from(["iss", "aud", "iat", "events", "sub_id"]) | st.text(), json_values()))
def test_arbitrary_claims_are_an_event_or_refused(claims: dict[str, Any]) -> None:
    read_or_refuse(claims)


@given(where=st.sampled_from(sorted(MEMBERS)), value=json_values())
def test_one_arbitrary_claim_makes_an_event_or_a_refusal(where: str, value: object) -> None:
    read_or_refuse(changed(where, value))
