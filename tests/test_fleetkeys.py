"""The keys document: believed because of one pinned thumbprint, and wholly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.fleetkeys import (
    ENROL,
    KEYS_TYP,
    MAX_KEYS,
    MAX_TRAIL,
    MAX_TRAIL_BYTES,
    USES,
    FleetKeys,
    load_keys_document,
    sealing_jwk,
    sign_keys_document,
    verify_keys_document,
    verify_keys_trail,
)
from edge.trust.jws import MAX_TOKEN_BYTES, SigningKey, encode_base64url, sign
from provisioning.authority import pem
from tests.test_authority import AUTHORITY, NOW, PUBLIC

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


# How one document follows another.

NEXT = SigningKey.generate()
THIRD = SigningKey.generate()


def issued(version: int, root: SigningKey = ROOT, next_root: str | None = None) -> bytes:
    return sign_keys_document(root, OTHERS, version=version, now_s=NOW_S, next_root=next_root).encode()


def trail(*documents: bytes) -> bytes:
    return b"\n".join(documents) + b"\n"


def trail_refusal(documents: bytes, pin: str = ROOT.kid, held: FleetKeys | None = None) -> str:
    with pytest.raises(TokenRefused) as refused:
        verify_keys_trail(documents, pin, held)
    return refused.value.detail


HANDOVER = (issued(1), issued(2, next_root=NEXT.kid), issued(3, NEXT))


def test_a_root_is_followed_by_the_one_that_it_named() -> None:
    keys = verify_keys_trail(trail(*HANDOVER), ROOT.kid)
    assert (keys.version, keys.root) == (3, NEXT.kid)


def test_a_board_that_is_pinned_to_the_next_root_passes_over_what_came_before_it() -> None:
    assert verify_keys_trail(trail(*HANDOVER), NEXT.kid).version == 3


def test_the_document_that_announces_the_next_root_may_list_it_already() -> None:
    announced = claimed(listed(NEXT, "root"), version=2, next_root=NEXT.kid)
    for pin in (ROOT.kid, NEXT.kid):
        assert verify_keys_trail(trail(announced, issued(3, NEXT)), pin).root == NEXT.kid


def test_two_changes_of_the_root_are_followed_at_once() -> None:
    again = (issued(4, NEXT, THIRD.kid), issued(5, THIRD))
    assert verify_keys_trail(trail(*HANDOVER, *again), ROOT.kid).root == THIRD.kid


def test_a_root_that_nobody_named_does_not_follow() -> None:
    """Signed by a key that exists, in a document that is right in every other way."""
    assert "pinned root key is not in the document" in trail_refusal(trail(issued(1), issued(2, NEXT)))
    named_other = trail(issued(1, next_root=THIRD.kid), issued(2, NEXT))
    assert "pinned root key is not in the document" in trail_refusal(named_other)


def test_a_handover_that_the_next_root_wrote_itself_is_none() -> None:
    forged = sign_keys_document(NEXT, OTHERS, version=2, now_s=NOW_S, next_root=THIRD.kid).encode()
    assert "pinned root key is not in the document" in trail_refusal(trail(issued(1), forged))


def test_the_old_root_may_go_on_until_the_new_one_has_spoken_and_not_after() -> None:
    still_old = trail(issued(1, next_root=NEXT.kid), issued(2, next_root=NEXT.kid))
    assert verify_keys_trail(still_old, ROOT.kid).root == ROOT.kid
    assert trail_refusal(trail(*HANDOVER, issued(4)))


@pytest.mark.parametrize("versions", [(2, 1), (2, 2), (5, 3)])
def test_versions_only_rise_within_a_trail(versions: tuple[int, int]) -> None:
    first, second = versions
    assert "versions only rise" in trail_refusal(trail(issued(first), issued(second)))


def test_a_board_keeps_what_is_newer_than_what_comes() -> None:
    held = verify_keys_trail(issued(5), ROOT.kid)
    assert "older than 5, which is held" in trail_refusal(issued(4), held=held)
    assert verify_keys_trail(issued(6), ROOT.kid, held).version == 6
    assert verify_keys_trail(issued(5), ROOT.kid, verify_keys_trail(issued(5), ROOT.kid)).version == 5


def test_two_documents_of_one_version_are_not_both_believed() -> None:
    held = verify_keys_trail(issued(5), ROOT.kid)
    assert "another document of version 5" in trail_refusal(issued(5, next_root=NEXT.kid), held=held)


@pytest.mark.parametrize("count", [0, MAX_TRAIL + 1])
def test_a_trail_is_short_and_not_empty(count: int) -> None:
    assert "documents, expected 1 to" in trail_refusal(trail(*[issued(n + 1) for n in range(count)]))


def test_a_trail_that_is_too_long_is_refused_unread() -> None:
    assert "more than" in trail_refusal(b" " * (MAX_TRAIL_BYTES + 1))


@pytest.mark.parametrize(
    "next_root",
    [ROOT.kid, "short", "", 1, True, [], {}, "x" * 44, OTHERS["gallery"].kid, OTHERS["provision"].kid],
    ids=["itself", "short", "empty", "number", "true", "list", "object", "long", "gallery", "provision"],
)
def test_a_next_root_that_cannot_be_is_refused(next_root: object) -> None:
    """Itself, no thumbprint, or a key that has another use and would become the root."""
    refused = refusal(
        claimed(
            listed(OTHERS["gallery"], "gallery"),
            listed(OTHERS["provision"], "provision"),
            next_root=next_root,
        )
    )
    assert (refused.reason, refused.detail[:9]) == (Refusal.BAD_CLAIMS, "next_root")


def test_a_second_root_may_be_listed_only_as_the_next_one() -> None:
    assert (
        verify_keys_document(claimed(listed(NEXT, "root"), next_root=NEXT.kid), ROOT.kid).next_root
        == NEXT.kid
    )
    assert "listed as a root" in refusal(claimed(listed(NEXT, "root"))).detail
    assert "listed as a root" in refusal(claimed(listed(THIRD, "root"), next_root=NEXT.kid)).detail


def test_a_root_does_not_revoke_itself_nor_sign_as_something_else() -> None:
    for entry in (listed(ROOT, "root", revoked=True), listed(ROOT, "gallery")):
        document = sign({"version": 1, "keys": [entry], "ca": [], "next_root": None}, ROOT, KEYS_TYP)
        assert refusal(document.compact.encode()).reason is Refusal.BAD_CLAIMS


@pytest.mark.parametrize("nbf", [None, -1, 1.5, "now", True, 2**60])
def test_when_a_keys_use_began_is_a_time(nbf: object) -> None:
    refused = refusal(claimed(listed(OTHERS["gallery"], "gallery", nbf=nbf)))
    assert (refused.reason, refused.detail[:4]) == (Refusal.BAD_CLAIMS, "nbf:")


LEAF = pem(AUTHORITY.issue_device(PUBLIC, "door-01", NOW))


@pytest.mark.parametrize(
    "authorities",
    [
        None,
        "pem",
        [1],
        [""],
        ["no certificate"],
        [LEAF],
        [pem(AUTHORITY.root) + pem(AUTHORITY.certificate)],
        ["x" * 5000],
        [pem(AUTHORITY.root)] * 9,
    ],
    ids=["none", "text", "number", "empty", "noise", "a board's", "two in one", "long", "many"],
)
def test_what_is_no_list_of_authorities_is_refused(authorities: object) -> None:
    """A board's own certificate as an authority would let its thief be the broker."""
    assert refusal(claimed(ca=authorities)).detail.startswith("ca:")


def test_the_authorities_of_a_document_are_given_in_its_order() -> None:
    both = [pem(AUTHORITY.root), pem(AUTHORITY.certificate)]
    assert verify_keys_document(claimed(ca=both), ROOT.kid).authorities == tuple(both)


def test_an_enrol_key_is_of_the_kind_that_things_are_sealed_to() -> None:
    sealed = sealing_jwk(ENROL_KEY)
    good = {"hadir_use": ENROL, "nbf": NOW_S, "revoked": False}
    assert list(verify_keys_document(claimed(sealed | good), ROOT.kid).sealing) == [sealed["kid"]]
    assert not verify_keys_document(claimed(sealed | good | {"revoked": True}), ROOT.kid).sealing
    for wrong in ({"x": "AAAA"}, {"x": 5}, {"crv": "P-256"}, {"d": "AAAA"}, {"kid": ROOT.kid}):
        assert refusal(claimed(sealed | good | wrong)).reason is Refusal.MALFORMED
    assert refusal(claimed(listed(OTHERS["gallery"], ENROL))).reason is Refusal.MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def claimed_with(member: str, value: object) -> bytes:
    claims = {"version": 1, "keys": [listed(ROOT, "root"), listed(OTHERS["gallery"], "gallery")], "ca": []}
    return sign(claims | {member: value}, ROOT, KEYS_TYP).compact.encode()


@given(st.sampled_from(["version", "keys", "ca", "next_root", "iat"]), JSON)
def test_whatever_the_root_signs_is_understood_or_refused_with_a_reason(member: str, value: object) -> None:
    """The root key itself gone wrong: nothing else is raised, and nothing half-believed is returned."""
    try:
        keys = verify_keys_document(claimed_with(member, value), ROOT.kid)
    except TokenRefused as refused:
        assert refused.detail
    else:
        assert keys.root == ROOT.kid
        assert keys.version >= 1


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 6))
def test_of_any_trail_only_what_rises_is_believed_and_never_below_what_is_held(
    versions: list[int], held_version: int
) -> None:
    held = verify_keys_trail(issued(held_version), ROOT.kid)
    # Each version has one document here, so that redelivery is what it looks like.
    documents = trail(*(DOCUMENTS[version] for version in versions))
    rises = all(first < second for first, second in pairwise(versions))
    try:
        keys = verify_keys_trail(documents, ROOT.kid, replace(held, hash=HASHES[held_version]))
    except TokenRefused:
        assert not rises or versions[-1] < held_version
    else:
        assert rises
        assert keys.version == versions[-1] >= held_version


DOCUMENTS = {version: issued(version) for version in range(1, 7)}
HASHES = {version: verify_keys_document(document, ROOT.kid).hash for version, document in DOCUMENTS.items()}
