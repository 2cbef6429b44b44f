"""Receipts and heads: their exact shape, and what their readers refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Refusal, TokenRefused
from edge.records import ClockState, TimeReading
from edge.trust.fleetkeys import USES
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, sign
from edge.trust.receipts import (
    MAX_RECEIPT_BYTES,
    MAX_REFUSED,
    RECEIPT_TYP,
    Head,
    Receipt,
    RefusedEvent,
    central_urn,
    head_claims,
    parse_head,
    parse_receipt,
    receipt_claims,
    verify_receipt,
)
from edge.trust.tokens import HEAD_TYP
from edge.uplink.downlink import Incoming
from edge.uplink.receipts import ReceiptReader, Receipts

CHAIN, HASH = "A" * 22, "h" * 43
NOW_S = 1_764_000_001
RECEIPT_KEY = SigningKey.generate()
KEYS = {RECEIPT_KEY.kid: RECEIPT_KEY.verification_key(USES["receipt"])}
SYNCED = TimeReading(NOW_S * 1000, 81_000, "boot", ClockState.SYNCED, 4)
IDENTITY = DeviceIdentity("door-01", "hq", SigningKey.generate())
REFUSED = RefusedEvent(seq=7, hash="r" * 43, reason="bad-claims")


def receipt(
    seq: int = 1837, refused: tuple[RefusedEvent, ...] = (), device: str = "door-01"
) -> dict[str, Any]:
    return receipt_claims(
        central_urn("central-1"), device, NOW_S, chain=CHAIN, seq=seq, head_hash=HASH, refused=refused
    )


def head(seq: int = 1837, head_hash: str | None = HASH) -> dict[str, Any]:
    return head_claims(IDENTITY, CHAIN, seq, head_hash, SYNCED)


def test_a_receipt_has_exactly_the_shape_of_the_design() -> None:
    plain = {
        "iss": "urn:hadir:central:central-1",
        "aud": "urn:hadir:device:door-01",
        "iat": NOW_S,
        "chain": CHAIN,
        "seq": 1837,
        "hash": HASH,
    }
    assert receipt() == plain
    assert receipt(refused=(REFUSED,)) == plain | {
        "refused": [{"seq": 7, "hash": "r" * 43, "reason": "bad-claims"}]
    }


def test_a_receipt_is_read_again_as_it_was_signed() -> None:
    token = sign(receipt(refused=(REFUSED,)), RECEIPT_KEY, RECEIPT_TYP).compact
    assert verify_receipt(token, KEYS, "door-01") == Receipt(
        issuer="urn:hadir:central:central-1",
        audience="urn:hadir:device:door-01",
        issued_s=NOW_S,
        chain=CHAIN,
        seq=1837,
        hash=HASH,
        refused=(REFUSED,),
    )


def test_another_boards_receipt_is_refused() -> None:
    token = sign(receipt(device="door-02"), RECEIPT_KEY, RECEIPT_TYP).compact
    with pytest.raises(TokenRefused) as refused:
        verify_receipt(token, KEYS, "door-01")
    assert refused.value.reason is Refusal.WRONG_AUDIENCE


def test_a_receipt_by_a_key_of_another_use_is_refused() -> None:
    token = sign(receipt(), RECEIPT_KEY, RECEIPT_TYP).compact
    keys = {RECEIPT_KEY.kid: RECEIPT_KEY.verification_key(USES["command"])}
    with pytest.raises(TokenRefused) as refused:
        verify_receipt(token, keys, "door-01")
    assert refused.value.reason is Refusal.WRONG_USE


def test_of_many_refusals_a_receipt_names_the_last_and_stays_small() -> None:
    many = tuple(replace(REFUSED, seq=seq, reason="r" * 32) for seq in range(2**52, 2**52 - 100, -1))
    token = sign(receipt(seq=2**53 - 1, refused=many), RECEIPT_KEY, RECEIPT_TYP).compact
    assert len(token) < MAX_RECEIPT_BYTES
    named = [one.seq for one in verify_receipt(token, KEYS, "door-01").refused]
    assert named == list(range(2**52 - MAX_REFUSED + 1, 2**52 + 1))


def test_the_head_tells_where_the_chain_ends() -> None:
    claims = head()
    assert claims == {
        "iss": "urn:hadir:device:door-01",
        "aud": "urn:hadir:site:hq",
        "iat": NOW_S,
        "chain": CHAIN,
        "seq": 1837,
        "hash": HASH,
    }
    assert parse_head(json.loads(json.dumps(claims))) == Head(
        "urn:hadir:device:door-01", "urn:hadir:site:hq", NOW_S, CHAIN, 1837, HASH
    )


def test_the_head_of_a_chain_without_an_event_has_no_hash() -> None:
    claims = head(0, None)
    assert "hash" not in claims
    assert parse_head(claims).hash is None
    for wrong in (head(0, HASH), head(5, None)):
        with pytest.raises(TokenRefused, match="hash"):
            parse_head(wrong)


COMMON: dict[str, list[object]] = {
    "iss": [..., None, 1, "", "a\nb"],
    "aud": [..., None, 1, "", ["urn:hadir:device:door-01"]],
    "iat": [..., None, "1", 1.5, True, -1],
    "chain": [..., None, 1, "A" * 21],
    "seq": [..., None, "1", 1.0, True, -1, 2**53],
    "hash": [..., None, 1, "h" * 42],
    "exp": [1],
}

REFUSALS: list[object] = [
    None,
    {},
    [7],
    [{}],
    [{"seq": 7, "hash": "r" * 43}],
    [{"seq": 7, "hash": "r" * 43, "reason": "bad claims"}],
    [{"seq": 7, "hash": "r" * 43, "reason": "bad-claims", "person": "E1042"}],
    [{"seq": 1838, "hash": "r" * 43, "reason": "bad-claims"}],
    [{"seq": 7, "hash": "r" * 43, "reason": "bad-claims"}] * (MAX_REFUSED + 1),
]


def changed(claims: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    if value is ...:
        return {key: kept for key, kept in claims.items() if key != name}
    return claims | {name: value}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in COMMON for value in COMMON[name]])
def test_a_claim_that_is_missing_unknown_or_out_of_bounds_is_named(name: str, value: object) -> None:
    for parse, claims in ((parse_receipt, receipt()), (parse_head, head())):
        with pytest.raises(TokenRefused) as refused:
            parse(changed(claims, name, value))
        assert refused.value.reason is Refusal.BAD_CLAIMS
        assert refused.value.detail.startswith(f"{name}:")


@pytest.mark.parametrize("value", REFUSALS)
def test_a_malformed_list_of_refusals_is_refused(value: object) -> None:
    with pytest.raises(TokenRefused, match=r"refused|seq|hash|reason|person"):
        parse_receipt(receipt() | {"refused": value})


def test_a_receipt_for_nothing_is_refused() -> None:
    with pytest.raises(TokenRefused, match="seq: 0 is not from 1"):
        parse_receipt(receipt(seq=0))


def values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50)
    return st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=8), leaves, max_size=3) | leaves


@given(st.sampled_from([*COMMON, "refused"]) | st.text(max_size=8), values())
def test_one_arbitrary_claim_makes_a_receipt_or_a_refusal(name: str, value: object) -> None:
    for parse, claims in ((parse_receipt, receipt()), (parse_head, head())):
        try:
            parse(claims | {name: value})
        except TokenRefused as refused:
            assert refused.reason is Refusal.BAD_CLAIMS
            assert len(str(refused)) < 200


def test_a_head_and_a_receipt_cannot_be_taken_for_each_other() -> None:
    token = sign(receipt(), RECEIPT_KEY, HEAD_TYP).compact
    with pytest.raises(TokenRefused) as refused:
        verify_receipt(token, KEYS, "door-01")
    assert refused.value.reason is Refusal.WRONG_TYPE


def test_of_two_receipts_that_come_together_the_furthest_counts_whatever_their_order() -> None:
    """Regression: a consumer that was late told how far the chain had been, and the other's word was forgotten."""
    key = SigningKey.generate()
    keys = {key.kid: key.verification_key(frozenset({RECEIPT_TYP}))}
    receipts = Receipts(ReceiptReader("door-01", lambda: keys), lambda _: None)

    def came(chain: str, seq: int) -> None:
        claims = receipt_claims(
            central_urn("central-1"), "door-01", 1, chain=chain, seq=seq, head_hash="H" * 43
        )
        content = sign(claims, key, RECEIPT_TYP).compact.encode()
        receipts.receive(Incoming("receipt", content, retained=True), lambda _: None)

    came("A" * 22, 20)
    came("A" * 22, 10)
    latest = receipts.take()
    assert latest is not None
    assert latest.seq == 20
    came("A" * 22, 20)
    came("B" * 22, 1)
    latest = receipts.take()
    assert latest is not None
    assert (latest.chain[0], latest.seq) == ("B", 1), "another chain is another story"
    assert receipts.take() is None
