"""The keys document: believed because of one pinned thumbprint, and wholly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.fleetkeys import (
    ENROL,
    KEYS_TYP,
    MAX_KEYS,
    USES,
    load_keys_document,
    sealing_jwk,
    sign_keys_document,
    verify_keys_document,
)
from edge.trust.jws import MAX_TOKEN_BYTES, SigningKey, encode_base64url, sign

NOW_S = 1_764_000_000
ROOT = SigningKey.generate()
OTHERS = {use: SigningKey.generate() for use in USES if use not in ("root", ENROL)}
ENROL_KEY = X25519PrivateKey.generate().public_key()


def document(root: SigningKey = ROOT, keys: Mapping[str, SigningKey] = OTHERS) -> bytes:
    return sign_keys_document(root, keys, version=3, now_s=NOW_S, sealing=[ENROL_KEY]).encode()


def listed(key: SigningKey, use: str, **changes: Any) -> dict[str, Any]:
    return dict(key.public_jwk) | {"hadir_use": use, "nbf": NOW_S, "revoked": False} | changes


def claimed(*keys: object, signer: SigningKey = ROOT, **changes: Any) -> bytes:
    """A document that a root key signed, whatever is in it."""
    claims = {"version": 1, "keys": [listed(ROOT, "root"), *keys]} | changes
    return sign(claims, signer, KEYS_TYP).compact.encode()


def refusal(compact: bytes, thumbprint: str = ROOT.kid) -> TokenRefused:
    with pytest.raises(TokenRefused) as refused:
        verify_keys_document(compact, thumbprint)
    return refused.value


def test_each_key_of_the_document_may_sign_what_its_use_says() -> None:
    fleet = verify_keys_document(document(), ROOT.kid)
    assert fleet.version == 3
    assert fleet.sealing == {sealing_jwk(ENROL_KEY)["kid"]: ENROL_KEY}
    for use, typs in USES.items():
        if use == ENROL:
            continue
        key = ROOT if use == "root" else OTHERS[use]
        for typ in typs:
            assert list(fleet.verification_keys(typ)) == [key.kid]
    for typ in ("secevent+jwt", "hadir-head+jwt", "hadir-reply+jwt", "hadir-report+jwt", "hadir-enrol+jwt"):
        assert not fleet.verification_keys(typ), "no key of the fleet may sign what a board signs"


def test_a_document_of_another_root_is_refused() -> None:
    other = SigningKey.generate()
    assert refusal(document(root=other)).reason is Refusal.UNKNOWN_KEY


def test_listing_the_pinned_root_does_not_help_another_signer() -> None:
    """An attacker's document may well contain the true root's public key."""
    other = SigningKey.generate()
    forged = claimed(listed(other, "gallery"), signer=other)
    assert refusal(forged).reason is Refusal.UNKNOWN_KEY


def test_another_key_under_the_pinned_name_is_refused() -> None:
    other = SigningKey.generate()
    claims = {"version": 1, "keys": [listed(other, "root") | {"kid": ROOT.kid}]}
    assert refusal(sign(claims, other, KEYS_TYP).compact.encode()).reason is Refusal.MALFORMED


def test_a_key_of_the_fleet_that_is_not_the_root_cannot_sign_the_document() -> None:
    assert refusal(claimed(signer=OTHERS["provision"])).reason is Refusal.UNKNOWN_KEY


def test_an_altered_document_is_refused() -> None:
    """The root's own signature over another payload: one bit of the version, one of a key."""
    header, payload, signature = document().split(b".")
    for position in (5, len(payload) // 2, len(payload) - 5):
        altered = bytearray(payload)
        altered[position] = ord("A") if altered[position] != ord("A") else ord("B")
        with pytest.raises(TokenRefused):
            verify_keys_document(b".".join([header, bytes(altered), signature]), ROOT.kid)


def test_another_kind_of_token_of_the_root_is_no_document() -> None:
    claims = {"version": 1, "keys": [listed(ROOT, "root")]}
    token = sign(claims, ROOT, "hadir-gallery+jwt").compact.encode()
    assert refusal(token).reason is Refusal.WRONG_TYPE


def test_a_revoked_key_is_gone() -> None:
    gallery = OTHERS["gallery"]
    good = verify_keys_document(claimed(listed(gallery, "gallery")), ROOT.kid)
    assert list(good.verification_keys("hadir-gallery+jwt")) == [gallery.kid]
    revoked = verify_keys_document(claimed(listed(gallery, "gallery", revoked=True)), ROOT.kid)
    assert not revoked.verification_keys("hadir-gallery+jwt")


@pytest.mark.parametrize("revoked", [None, 0, 1, "false", "true", [], {}])
def test_whether_a_key_is_revoked_is_never_guessed(revoked: object) -> None:
    refused = refusal(claimed(listed(OTHERS["gallery"], "gallery", revoked=revoked)))
    assert (refused.reason, refused.detail[:8]) == (Refusal.BAD_CLAIMS, "revoked:")


def test_a_key_that_does_not_say_whether_it_is_revoked_is_refused() -> None:
    entry = listed(OTHERS["gallery"], "gallery")
    del entry["revoked"]
    assert refusal(claimed(entry)).reason is Refusal.BAD_CLAIMS


def test_one_key_has_one_use() -> None:
    """Listed twice, it could sign galleries and commands both."""
    key = OTHERS["gallery"]
    refused = refusal(claimed(listed(key, "gallery"), listed(key, "command")))
    assert (refused.reason, "twice" in refused.detail) == (Refusal.BAD_CLAIMS, True)


def test_a_revoked_key_does_not_come_back_by_being_listed_again() -> None:
    key = OTHERS["gallery"]
    refused = refusal(claimed(listed(key, "gallery", revoked=True), listed(key, "gallery")))
    assert refused.reason is Refusal.BAD_CLAIMS


@pytest.mark.parametrize("use", ["", "device", "ROOT", None, 1, ["gallery"], {}])
def test_an_unknown_use_is_refused(use: Any) -> None:
    refused = refusal(claimed(listed(OTHERS["gallery"], use)))
    assert (refused.reason, refused.detail[:9]) == (Refusal.BAD_CLAIMS, "hadir_use")


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.0, True])
def test_a_version_is_a_positive_whole_number(version: object) -> None:
    assert refusal(claimed(version=version)).reason is Refusal.BAD_CLAIMS


@pytest.mark.parametrize("keys", [None, {}, "keys", [1], [[]], [{}] * (MAX_KEYS + 1)])
def test_keys_are_a_short_list_of_objects(keys: object) -> None:
    assert refusal(claimed(keys=keys)).reason is Refusal.BAD_CLAIMS


@pytest.mark.parametrize(
    "entry", [{}, {"kty": "oct", "k": "AAAA"}, {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}]
)
def test_what_is_no_key_is_refused(entry: dict[str, Any]) -> None:
    bad = entry | {"hadir_use": "gallery", "revoked": False}
    assert refusal(claimed(bad)).reason is Refusal.MALFORMED


@pytest.mark.parametrize(
    ("compact", "reason"),
    [
        (b"", Refusal.MALFORMED),
        (b"a.b", Refusal.MALFORMED),
        (b"..", Refusal.MALFORMED),
        (b"\xff.\xff.\xff", Refusal.MALFORMED),
        (b"e30.W10.AAAA", Refusal.MALFORMED),
        (b"e30.e30.AAAA", Refusal.BAD_CLAIMS),
        (b"e30." + encode_base64url(b'{"a":' + b"[" * 30_000).encode() + b".AAAA", Refusal.MALFORMED),
        (b"a" * (MAX_TOKEN_BYTES + 1), Refusal.TOO_LARGE),
    ],
    ids=["empty", "two parts", "empty parts", "bytes", "list", "no keys", "deep", "large"],
)
def test_what_is_no_document_is_refused(compact: bytes, reason: Refusal) -> None:
    assert refusal(compact).reason is reason


def test_a_file_is_read_with_or_without_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "keys.jws"
    for end in (b"", b"\n", b"\r\n"):
        path.write_bytes(document() + end)
        assert load_keys_document(path, ROOT.kid).version == 3


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.jws"
    with pytest.raises(KeyFileError, match=f"{path}: .* copy it from the fleet's folder"):
        load_keys_document(path, ROOT.kid)


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * (MAX_TOKEN_BYTES * 2), b"\x00" * 10, document(SigningKey.generate())],
    ids=["empty", "large", "zeros", "foreign"],
)
def test_a_damaged_or_foreign_file_says_which_root_is_expected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.jws"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=ROOT.kid) as refused:
        load_keys_document(path, ROOT.kid)
    assert str(path) in str(refused.value)
