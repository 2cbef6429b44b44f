"""Whether one token may be believed: each rule of the design, by a token that breaks only this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.registry import Registration, Registry
from central.verify import MAX_AHEAD_S, Received, verify_event
from edge.errors import Refusal, TokenRefused
from edge.records import ChainPosition, ClockState, TimeReading
from edge.trust.events import start_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, sign
from edge.trust.tokens import BOARD_TYPS, EVENT_TYP, MAX_EVENT_BYTES, START

CHAIN, PREV = "A" * 22, "h" * 43
TOPIC = "hadir/v1/door-01/up/event"
NOW_S = 1_764_000_000.0
MINE, THEIRS = SigningKey.generate(), SigningKey.generate()


@dataclass(frozen=True)
class Board:
    """Makes tokens, of which each rule's test changes one thing."""

    device: str = "door-01"
    site: str = "hq"
    key: SigningKey = MINE
    seq: int = 7
    ahead_s: float = 0.0
    clock: ClockState = ClockState.SYNCED

    def claims(self) -> dict[str, Any]:
        real_ms = int((NOW_S + self.ahead_s) * 1000)
        err_ms = None if self.clock is ClockState.UNSYNCED else 5
        return start_claims(
            DeviceIdentity(self.device, self.site, self.key),
            ChainPosition(CHAIN, self.seq, PREV, 1),
            TimeReading(real_ms, 81_000, "boot", self.clock, err_ms),
            cause="boot",
            clean=True,
            version="0.1",
            last=self.seq - 1,
        )

    def token(self, typ: str = EVENT_TYP, **changes: object) -> bytes:
        return sign(self.claims() | changes, self.key, typ).compact.encode()


BOARD = Board()


def registration(key: SigningKey = MINE, device: str = "door-01", **changes: Any) -> Registration:
    plain = Registration(device, "hq", key.verification_key(BOARD_TYPS), None, None, None, None)
    return replace(plain, **changes)


def registry(*registrations: Registration) -> Registry:
    return Registry({entry.key.kid: entry for entry in registrations})


BOTH = registry(registration(), registration(THEIRS, "door-02"))


def received(token: bytes, topic: str = TOPIC, known: Registry = BOTH) -> Received:
    return verify_event(topic, token, known, NOW_S)


def refusal(token: bytes, topic: str = TOPIC, known: Registry = BOTH) -> Refusal:
    with pytest.raises(TokenRefused) as refused:
        received(token, topic, known)
    assert str(refused.value).isprintable()
    return refused.value.reason


def test_a_genuine_token_is_received_whole() -> None:
    made = sign(BOARD.claims(), MINE, EVENT_TYP)
    got = received(made.compact.encode())
    assert (got.device, got.kid, got.token, got.hash) == ("door-01", MINE.kid, made.compact, made.hash)
    assert (got.event.type, got.event.chain, got.event.seq) == (START, CHAIN, 7)
    assert (got.arrived_s, got.ahead) == (NOW_S, False)


def test_a_boards_token_on_anothers_topic_is_refused() -> None:
    assert refusal(BOARD.token(), "hadir/v1/door-02/up/event") is Refusal.WRONG_OWNER


def test_a_board_cannot_speak_in_anothers_name_on_its_own_topic() -> None:
    assert refusal(BOARD.token(iss="urn:hadir:device:door-02")) is Refusal.WRONG_OWNER


def test_a_board_cannot_speak_in_anothers_name_on_the_others_topic() -> None:
    token = BOARD.token(iss="urn:hadir:device:door-02")
    assert refusal(token, "hadir/v1/door-02/up/event") is Refusal.WRONG_OWNER


@pytest.mark.parametrize(
    "issuer", ["door-01", "urn:hadir:device:", "urn:hadir:device:door-01/", "URN:hadir:device:door-01"]
)
def test_the_issuer_is_compared_exactly(issuer: str) -> None:
    assert refusal(BOARD.token(iss=issuer)) is Refusal.WRONG_OWNER


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "hadir/v1/door-01/up/status",
        "hadir/v1/door-01/up/event/",
        "hadir/v1/door-01/up/event\n",
        "/hadir/v1/door-01/up/event",
        "hadir/v2/door-01/up/event",
        "hadir/v1//up/event",
        "hadir/v1/+/up/event",
        "hadir/v1/DOOR-01/up/event",
        "hadir/v1/door-01\x1b[2J\nverified/up/event",
    ],
)
def test_a_topic_that_is_no_boards_is_refused(topic: str) -> None:
    assert refusal(BOARD.token(), topic) is Refusal.WRONG_OWNER


def test_an_unregistered_key_is_refused() -> None:
    assert refusal(replace(BOARD, key=SigningKey.generate()).token()) is Refusal.UNKNOWN_KEY


def test_a_token_for_another_site_is_refused() -> None:
    assert refusal(replace(BOARD, site="branch").token()) is Refusal.WRONG_AUDIENCE
    moved = registry(registration(site="branch"))
    assert refusal(BOARD.token(), known=moved) is Refusal.WRONG_AUDIENCE


def test_another_kind_of_token_is_refused() -> None:
    """A board's own signed head or reply, sent again as an event."""
    for typ in ("hadir-head+jwt", "hadir-reply+jwt", "JWT"):
        assert refusal(BOARD.token(typ)) is Refusal.WRONG_TYPE


def test_another_algorithm_than_the_keys_is_refused() -> None:
    as_hmac = registry(
        replace(registration(), key=replace(MINE.verification_key(BOARD_TYPS), algorithm="EdDSA"))
    )
    assert refusal(BOARD.token(), known=as_hmac) is Refusal.WRONG_ALGORITHM


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_event_is_allowed(count: int) -> None:
    ((_, event),) = BOARD.claims()["events"].items()
    events = {f"urn:hadir:event:start:{number}": event for number in range(count)}
    assert refusal(BOARD.token(events=events)) is Refusal.BAD_CLAIMS


@pytest.mark.parametrize("limits", [{"chain": "B" * 22}, {"first_seq": 8}, {"last_seq": 6}], ids=str)
def test_a_key_that_does_not_speak_for_this_place_is_refused(limits: Mapping[str, Any]) -> None:
    assert refusal(BOARD.token(), known=registry(registration(**limits))) is Refusal.WRONG_USE


def test_a_key_that_speaks_for_just_this_place_is_accepted() -> None:
    known = registry(registration(chain=CHAIN, first_seq=7, last_seq=7))
    assert received(BOARD.token(), known=known).event.seq == 7


def test_a_revoked_key_is_refused_whatever_the_token_says_of_its_age() -> None:
    """Revocation counts by arrival: a thief dates his tokens as he likes."""
    revoked = registry(registration(revoked_at=int(NOW_S) + 1000))
    for ahead_s in (0, -1e6):
        assert refusal(replace(BOARD, ahead_s=ahead_s).token(), known=revoked) is Refusal.REVOKED_KEY


def test_age_never_refuses() -> None:
    """A board may have been without a network for a year."""
    old = received(replace(BOARD, ahead_s=-366 * 86_400).token())
    assert (old.event.issued_s, old.ahead) == (int(NOW_S) - 366 * 86_400, False)
    assert received(BOARD.token(iat=0)).event.issued_s == 0


@pytest.mark.parametrize(
    ("ahead_s", "clock", "flagged"),
    [
        (MAX_AHEAD_S, ClockState.SYNCED, False),
        (MAX_AHEAD_S + 1, ClockState.SYNCED, True),
        (MAX_AHEAD_S + 1, ClockState.HOLDOVER, False),
        (1e9, ClockState.UNSYNCED, False),
    ],
)
def test_only_a_set_clock_that_is_far_ahead_is_flagged_and_none_refused(
    ahead_s: float, clock: ClockState, flagged: bool
) -> None:
    assert received(replace(BOARD, ahead_s=ahead_s, clock=clock).token()).ahead is flagged


@pytest.mark.parametrize("claim", ["exp", "nbf", "name", "sub"])
def test_a_claim_that_no_event_has_is_refused_and_not_interpreted(claim: str) -> None:
    """`exp` and `nbf` would let age refuse by a back door, where the reader after us acts upon them."""
    assert refusal(BOARD.token(EVENT_TYP, **{claim: 2**40})) is Refusal.BAD_CLAIMS


def test_an_event_larger_than_the_limit_is_refused_unread() -> None:
    padded = BOARD.token(padding="x" * MAX_EVENT_BYTES)
    assert refusal(padded) is Refusal.TOO_LARGE


def test_an_altered_token_is_refused() -> None:
    header, payload, signature = BOARD.token().split(b".")
    other = replace(BOARD, seq=8).token().split(b".")[1]
    assert refusal(b".".join([header, other, signature])) is Refusal.BAD_SIGNATURE
    assert refusal(b".".join([header, payload, signature[::-1]])) in {
        Refusal.BAD_SIGNATURE,
        Refusal.MALFORMED,
    }


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(junk: bytes) -> None:
    with pytest.raises(TokenRefused):
        received(junk)
