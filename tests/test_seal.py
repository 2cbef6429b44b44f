"""What is sealed opens for one board and purpose; what is wrapped, under one key."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.seal import (
    OVERHEAD_BYTES,
    KeyEncryptionKey,
    Protection,
    derive,
    open_sealed,
    parse_sealing_key,
    seal,
    sealing_key_text,
)

PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))
KEK = KeyEncryptionKey(b"k" * 32, Protection.FILE)


@given(st.binary(max_size=2000))
def test_what_is_sealed_opens_again_and_never_twice_alike(plaintext: bytes) -> None:
    sealed = seal(plaintext, PRIVATE.public_key(), "claim", "door-01")
    assert open_sealed(sealed, PRIVATE, "claim", "door-01") == plaintext
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert seal(plaintext, PRIVATE.public_key(), "claim", "door-01") != sealed


def test_a_message_sealed_by_the_library_of_today_opens_tomorrow() -> None:
    """Interoperability is the library's (RFC 9180, appendix A); the info string is ours and must not drift."""
    sealed = bytes.fromhex(VECTOR)
    assert open_sealed(sealed, PRIVATE, "claim", "door-01") == b"a message"


VECTOR = (
    "574310a8f04bbd363180018873bd1fec14ef69d3836eccac87b8d31d3f32f775"
    "2787aadf07d85eb68766696b2f4a8cb59ae1d619ddb4fcfcc1"
)


@pytest.mark.parametrize(("purpose", "device"), [("gallery", "door-01"), ("claim", "door-02"), ("", "")])
def test_sealed_for_one_purpose_and_board_it_opens_as_no_other(purpose: str, device: str) -> None:
    sealed = seal(b"secret", PRIVATE.public_key(), "claim", "door-01")
    with pytest.raises(TokenRefused) as refused:
        open_sealed(sealed, PRIVATE, purpose, device)
    assert refused.value.reason is Refusal.CANNOT_OPEN


@given(st.data())
def test_an_altered_or_foreign_message_is_refused_with_a_reason(data: st.DataObject) -> None:
    sealed = bytearray(seal(b"secret", PRIVATE.public_key(), "claim", "door-01"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    # The top bit of an X25519 key does not count (RFC 7748, section 5), but HPKE binds the bytes as they are.
    with pytest.raises(TokenRefused):
        open_sealed(bytes(sealed), PRIVATE, "claim", "door-01")


@given(st.binary(max_size=200))
def test_noise_never_opens(noise: bytes) -> None:
    with pytest.raises(TokenRefused):
        open_sealed(noise, PRIVATE, "claim", "door-01")
    with pytest.raises(TokenRefused):
        KEK.unwrap(noise, "gallery", "door-01")


def test_another_boards_key_opens_nothing() -> None:
    sealed = seal(b"secret", X25519PrivateKey.generate().public_key(), "claim", "door-01")
    with pytest.raises(TokenRefused, match="sealed for another key"):
        open_sealed(sealed, PRIVATE, "claim", "door-01")


def test_a_public_sealing_key_travels_as_text() -> None:
    text = sealing_key_text(PRIVATE.public_key())
    assert parse_sealing_key(text).public_bytes_raw() == PRIVATE.public_key().public_bytes_raw()


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 44, "!" * 43, "é" * 43, "A" * 42])
def test_what_is_no_sealing_key_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused, match="not an X25519 public key"):
        parse_sealing_key(text)


def test_what_is_wrapped_opens_for_its_purpose_only() -> None:
    wrapped = KEK.wrap(b"vector", "gallery", "door-01")
    assert KEK.unwrap(wrapped, "gallery", "door-01") == b"vector"
    for purpose, device in (("keys", "door-01"), ("gallery", "door-02")):
        with pytest.raises(TokenRefused) as refused:
            KEK.unwrap(wrapped, purpose, device)
        assert refused.value.reason is Refusal.CANNOT_OPEN
    with pytest.raises(TokenRefused):
        KeyEncryptionKey(b"o" * 32, Protection.FILE).unwrap(wrapped, "gallery", "door-01")


def test_every_derivation_is_its_own_and_stays_what_it_was() -> None:
    assert derive(b"k" * 32, "a") != derive(b"k" * 32, "b")
    assert KEK.passphrase() == b"MeNsv3_lYjcdLBgoVX6W1x27byrLXjOosUgc9DV89Pw"


def test_a_key_of_another_length_is_refused_and_none_shows_itself() -> None:
    with pytest.raises(KeyFileError, match="has 31 bytes, expected 32"):
        KeyEncryptionKey(b"k" * 31, Protection.FILE)
    assert "kkk" not in repr(KEK)
