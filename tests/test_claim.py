"""A claim as file and line, what is derived from it, and requests that may be believed."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InputError, Refusal, TokenRefused
from edge.trust.claim import (
    REQUEST_TYP,
    Claim,
    ClaimRequest,
    claim_urn,
    fleet_urn,
    parse_request,
    pin_of,
    sign_request,
)
from edge.trust.jws import SharedKey, SigningKey, encode_base64url, parse_object, sign, sign_shared
from edge.trust.seal import Protection, sealing_key_text

FLEET = "F" * 43
CLAIM = Claim.new("k3v8abcdef", broker="192.168.178.20:8884", server="P" * 21 + "A", fleet=FLEET)
OTHER = Claim.new("zzzzzzzzzz", broker="192.168.178.20:8884", server="P" * 21 + "A", fleet=FLEET)
KEY = SigningKey.generate()
SEALING = X25519PrivateKey.generate()
NOW_S = 1_800_000_000


def request(claim: Claim = CLAIM) -> bytes:
    return sign_request(
        claim,
        KEY,
        SEALING.public_key(),
        protection=Protection.FILE,
        version="1.0",
        board="Raspberry Pi 5",
        now_s=NOW_S,
    ).compact.encode()


def altered(**changes: Any) -> bytes:
    """A request that the claim's holder authenticated, wrong in meaning."""
    claims = parse_object(request().split(b".")[1], "payload") | changes
    kept = {name: value for name, value in claims.items() if value is not ...}
    return sign_shared(kept, CLAIM.request_key, REQUEST_TYP).compact.encode()


def read(compact: bytes) -> ClaimRequest:
    return parse_request(compact, CLAIM.request_key, FLEET)


def test_a_claim_is_the_same_as_file_and_as_line() -> None:
    assert Claim.parse(CLAIM.file.encode()) == CLAIM
    assert Claim.parse(CLAIM.line.encode()) == CLAIM
    assert Claim.parse(b"\n " + CLAIM.line.encode() + b"\r\n") == CLAIM


def test_the_line_is_short_enough_for_a_camera_at_a_door() -> None:
    """154 characters are what version 7 of a QR code holds at level L (ISO/IEC 18004, table 7)."""
    assert 110 < len(CLAIM.line) <= 154


def test_no_claim_shows_its_secret() -> None:
    assert CLAIM.secret not in repr(CLAIM)
    assert CLAIM.password not in repr(CLAIM)
    assert "secret=" not in repr(CLAIM.request_key)


def test_secrets_are_new_each_time_and_every_derivation_is_another() -> None:
    assert Claim.new("k3v8abcdef", broker="a:1", server="P" * 22, fleet=FLEET).secret != CLAIM.secret
    derived = {CLAIM.password, encode_base64url(CLAIM.request_key.secret), CLAIM.secret, OTHER.password}
    assert len(derived) == 4


def test_what_both_sides_derive_stays_what_it_was() -> None:
    """Boards of one release must be understood by fleets of another."""
    claim = Claim.parse(f"hadir1,broker:8884,k3v8abcdef,{'A' * 22},{'P' * 22},{FLEET}".encode())
    assert claim.password == "Qqs60WVpwndCByxeGf3bAN2pEZZ4_OnCsQKSpiJGVTQ"
    assert encode_base64url(claim.request_key.secret) == "auvoOfJqfBUUpwbtdWXJwKFJqTSi6NfUzXI4X3h6jMs"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "neither the JSON nor the line"),
        (b"hello", "neither the JSON nor the line"),
        (b"\xff\xfe", "neither the JSON nor the line"),
        (b"{", "neither the JSON nor the line"),
        (b"[]", "neither the JSON nor the line"),
        (b"A" * 2000, "larger than 1024 bytes"),
        (b'{"v": 1, "v": 1}', "neither the JSON nor the line"),
        (b'{"v": 1}', "its fields must be"),
        (CLAIM.file.replace('"v": 1', '"v": 2').encode(), "not of version 1"),
        (CLAIM.line.replace("hadir1", "hadir2").encode(), "not of version 1"),
        (CLAIM.line.replace("192.168.178.20:8884", "no port").encode(), "broker is not like"),
        (CLAIM.line.replace("k3v8abcdef", "K3V8ABCDEF").encode(), "id is not like"),
        (CLAIM.line.replace(CLAIM.secret, "short").encode(), "secret is not like"),
        (CLAIM.file.replace(f'"{FLEET}"', "7").encode(), "fleet is not like"),
        (CLAIM.file.replace("server", "sorver").encode(), "its fields must be"),
    ],
)
def test_what_is_no_claim_is_refused_and_its_secret_not_repeated(content: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        Claim.parse(content)
    assert CLAIM.secret not in str(refused.value)


@given(st.binary(max_size=1200))
def test_noise_is_never_a_claim(noise: bytes) -> None:
    with pytest.raises(InputError):
        Claim.parse(noise)


def test_a_request_says_what_the_board_made_and_is() -> None:
    asked = read(request())
    assert x509.load_der_x509_csr(asked.csr).public_key() == KEY.public
    assert asked.sealing_key.public_bytes_raw() == SEALING.public_key().public_bytes_raw()
    assert (asked.claim, asked.board, asked.protection) == (CLAIM.id, "Raspberry Pi 5", Protection.FILE)


@pytest.mark.parametrize(
    ("compact", "reason"),
    [
        (b"", Refusal.MALFORMED),
        (b"a.b", Refusal.MALFORMED),
        (b"A" * 9000, Refusal.TOO_LARGE),
        (request(OTHER), Refusal.UNKNOWN_KEY),
        (request()[:-4] + b"AAAA", Refusal.BAD_SIGNATURE),
        (
            sign_shared(
                {}, SharedKey(CLAIM.id, OTHER.request_key.secret, frozenset()), REQUEST_TYP
            ).compact.encode(),
            Refusal.BAD_SIGNATURE,
        ),
        (sign_shared({}, CLAIM.request_key, "hadir-claim+jwt").compact.encode(), Refusal.WRONG_TYPE),
        (sign({}, KEY, REQUEST_TYP).compact.encode(), Refusal.UNKNOWN_KEY),
        # Authenticated by the claim's own secret, and wrong in meaning:
        (altered(iss=claim_urn(OTHER.id)), Refusal.WRONG_OWNER),
        (altered(iss=...), Refusal.WRONG_OWNER),
        (altered(aud=fleet_urn("G" * 43)), Refusal.WRONG_AUDIENCE),
        (altered(aud=[fleet_urn(FLEET)]), Refusal.WRONG_AUDIENCE),
        (altered(csr=...), Refusal.BAD_CLAIMS),
        (altered(csr="!"), Refusal.BAD_CLAIMS),
        (altered(csr="A" * 4500), Refusal.BAD_CLAIMS),
        (altered(csr={"a": 1}), Refusal.BAD_CLAIMS),
        (altered(sealing_key="AAAA"), Refusal.MALFORMED),
        (altered(sealing_key=sealing_key_text(SEALING.public_key()) + "AA"), Refusal.MALFORMED),
        (altered(key_protection="unbreakable"), Refusal.BAD_CLAIMS),
        (altered(key_protection=["file"]), Refusal.BAD_CLAIMS),
        (altered(board="line\nbreak"), Refusal.BAD_CLAIMS),
        (altered(board="\x1b[2J"), Refusal.BAD_CLAIMS),
        (altered(board="B" * 300), Refusal.BAD_CLAIMS),
        (altered(version=1.0), Refusal.BAD_CLAIMS),
    ],
)
def test_a_request_that_may_not_be_believed_is_refused_with_a_reason(compact: bytes, reason: Refusal) -> None:
    with pytest.raises(TokenRefused) as refused:
        read(compact)
    assert refused.value.reason is reason


@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "csr", "sealing_key", "version", "board"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
        min_size=1,
    )
)
def test_whatever_stands_in_an_authenticated_request_it_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        assert isinstance(read(altered(**changes)), ClaimRequest)
    except TokenRefused as refused:
        assert refused.detail


def test_dates_do_not_matter_in_a_request_because_a_new_boards_clock_is_wrong() -> None:
    for iat in (0, 4_000_000_000):
        assert read(altered(iat=iat)).claim == CLAIM.id


def test_the_pin_is_of_the_key_and_of_nothing_else() -> None:
    assert pin_of(KEY.public) == pin_of(KEY.public) != pin_of(SigningKey.generate().public)
    assert len(pin_of(KEY.public)) == 22
