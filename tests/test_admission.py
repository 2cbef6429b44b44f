"""The answer to a claim is believed from the right fleet, for the right keys, and only if it makes sense."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import Refusal, TokenRefused
from edge.trust.admission import CLAIM_TYP, PURPOSE, Admission, Purpose, open_admission, sign_admission
from edge.trust.claim import claim_urn, fleet_urn
from edge.trust.fleetkeys import listed_jwk, sign_document, sign_keys_document
from edge.trust.jws import SigningKey, encode_base64url, sign
from edge.trust.seal import seal
from provisioning.authority import Authority, pem
from tests.certificates import new_authority

NOW = datetime(2027, 1, 1, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
CLAIM = "k3v8abcdef"
ROOT, PROVISION, COMMAND = (SigningKey.generate() for _ in range(3))
KEY, SEALING = SigningKey.generate(), X25519PrivateKey.generate()


AUTHORITY, FOREIGN = (new_authority("issuing", NOW) for _ in range(2))
TRAIL = sign_keys_document(
    ROOT,
    {"provision": PROVISION, "command": COMMAND},
    version=3,
    now_s=NOW_S,
    authorities=[pem(AUTHORITY.root)],
).encode()


def curve(key: SigningKey) -> ec.EllipticCurvePublicKey:
    assert isinstance(key.public, ec.EllipticCurvePublicKey)
    return key.public


def chain(
    key: SigningKey = KEY, device: str = "door-01", signer: Authority = AUTHORITY, leaf_only: bool = False
) -> list[str]:
    leaf = pem(signer.issue_device(curve(key), device, NOW))
    return [leaf] if leaf_only else [leaf, signer.chain]


CLAIMS: Mapping[str, Any] = {
    "iss": fleet_urn(ROOT.kid),
    "aud": claim_urn(CLAIM),
    "iat": NOW_S,
    "kid": KEY.kid,
    "device": "door-01",
    "site": "hq",
    "purpose": "first",
    "certificates": chain(),
    "settings": {"broker": {"url": "mqtts://broker"}},
}


def answer(
    claims: Mapping[str, Any] = CLAIMS,
    *,
    signer: SigningKey = PROVISION,
    typ: str = CLAIM_TYP,
    trail: bytes = TRAIL,
    outside: str = "door-01",
    sealed_as: str | None = None,
    to: X25519PrivateKey = SEALING,
    **changes: Any,
) -> bytes:
    """An answer that is validly signed and sealed, with something else in it."""
    said = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
    inside = {"claim": sign(said, signer, typ).compact, "keys": trail.decode()}
    sealed = seal(json.dumps(inside).encode(), to.public_key(), PURPOSE, sealed_as or outside)
    return json.dumps({"device": outside, "sealed": encode_base64url(sealed)}).encode()


def read(content: bytes) -> Admission:
    return open_admission(content, CLAIM, ROOT.kid, KEY, SEALING)


def test_what_the_fleet_answers_is_what_the_board_reads() -> None:
    content = sign_admission(
        CLAIM,
        ROOT.kid,
        provision=PROVISION,
        device_key=curve(KEY),
        sealing_key=SEALING.public_key(),
        device="door-01",
        site="hq",
        purpose=Purpose.RENEW,
        certificates=chain(),
        settings={"broker": {"url": "mqtts://broker"}},
        trail=TRAIL,
        now_s=NOW_S,
    )
    admission = read(content)
    assert (admission.device, admission.site, admission.purpose) == ("door-01", "hq", Purpose.RENEW)
    assert admission.keys.version == 3
    assert admission.keys.authorities == (pem(AUTHORITY.root),)
    assert (admission.trail, admission.issued_s) == (TRAIL, NOW_S)
    assert b"mqtts" not in content


def test_the_helper_of_these_tests_makes_answers_that_are_believed() -> None:
    assert read(answer()).device == "door-01"


FORGED_TRAIL = sign_keys_document(
    SigningKey.generate(), {"provision": PROVISION}, version=9, now_s=NOW_S, authorities=[pem(FOREIGN.root)]
).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        # Not signed, not sealed, or not by whom it should be:
        (b"", Refusal.MALFORMED),
        (b"{}", Refusal.BAD_CLAIMS),
        (b"[]", Refusal.MALFORMED),
        (b"x" * 3_000_000, Refusal.TOO_LARGE),
        (b'{"device": "door-01", "sealed": "!"}', Refusal.BAD_CLAIMS),
        (b'{"device": "door-01", "sealed": "AAAA"}', Refusal.MALFORMED),
        (b'{"device": "../etc", "sealed": "AAAA"}', Refusal.BAD_CLAIMS),
        (answer(to=X25519PrivateKey.generate()), Refusal.CANNOT_OPEN),
        (answer(sealed_as="door-02"), Refusal.CANNOT_OPEN),
        (answer(trail=FORGED_TRAIL), Refusal.UNKNOWN_KEY),
        (answer(trail=b"nothing"), Refusal.MALFORMED),
        (answer(signer=SigningKey.generate()), Refusal.UNKNOWN_KEY),
        (answer(signer=COMMAND), Refusal.UNKNOWN_KEY),
        (answer(signer=ROOT), Refusal.UNKNOWN_KEY),
        (answer(typ="hadir-command+jwt"), Refusal.WRONG_TYPE),
        # Signed by the provision key and sealed to this board, and wrong in meaning:
        (answer(iss=fleet_urn("X" * 43)), Refusal.WRONG_OWNER),
        (answer(aud=claim_urn("other")), Refusal.WRONG_AUDIENCE),
        (answer(aud=[claim_urn(CLAIM)]), Refusal.WRONG_AUDIENCE),
        (answer(kid=SigningKey.generate().kid), Refusal.WRONG_OWNER),
        (answer(kid=...), Refusal.WRONG_OWNER),
        (answer(device="door-02"), Refusal.BAD_CLAIMS),
        (answer(outside="door-02"), Refusal.BAD_CLAIMS),
        (answer(device="provision", outside="provision"), Refusal.BAD_CLAIMS),
        (answer(site="HQ !"), Refusal.BAD_CLAIMS),
        (answer(purpose="steal"), Refusal.BAD_CLAIMS),
        (answer(purpose=["first"]), Refusal.BAD_CLAIMS),
        (answer(iat="now"), Refusal.BAD_CLAIMS),
        (answer(iat=True), Refusal.BAD_CLAIMS),
        (answer(iat=-1), Refusal.BAD_CLAIMS),
        (answer(settings=[]), Refusal.BAD_CLAIMS),
        (answer(settings={"broker": "mqtts://evil"}), Refusal.BAD_CLAIMS),
        (answer(run="rm -rf /"), Refusal.BAD_CLAIMS),
        (answer(certificates=[]), Refusal.BAD_CLAIMS),
        (answer(certificates=["not PEM"]), Refusal.BAD_CLAIMS),
        (answer(certificates="PEM"), Refusal.BAD_CLAIMS),
        (answer(certificates=chain() * 3), Refusal.BAD_CLAIMS),
        (answer(certificates=[*chain(), pem(AUTHORITY.root)][::-1]), Refusal.BAD_CLAIMS),
        (answer(certificates=chain(SigningKey.generate())), Refusal.BAD_CLAIMS),
        (answer(certificates=chain(device="door-02")), Refusal.BAD_CLAIMS),
        (answer(certificates=chain(signer=FOREIGN)), Refusal.BAD_CLAIMS),
        (answer(certificates=chain(leaf_only=True)), Refusal.BAD_CLAIMS),
        (answer(certificates=[chain()[0], FOREIGN.chain]), Refusal.BAD_CLAIMS),
        # A board's own certificate, which has no right to issue any:
        (
            answer(
                certificates=[*chain(leaf_only=True), pem(AUTHORITY.issue_device(curve(KEY), "door-01", NOW))]
            ),
            Refusal.BAD_CLAIMS,
        ),
    ],
)
def test_an_answer_that_may_not_be_believed_is_refused_with_a_reason(content: bytes, reason: Refusal) -> None:
    with pytest.raises(TokenRefused) as refused:
        read(content)
    assert refused.value.reason is reason


def test_a_revoked_provision_key_lets_nobody_in() -> None:
    trail = sign_document(
        ROOT,
        [
            listed_jwk(ROOT.public_jwk, "root", NOW_S),
            listed_jwk(PROVISION.public_jwk, "provision", NOW_S, revoked=True),
        ],
        version=4,
        now_s=NOW_S,
        authorities=[pem(AUTHORITY.root)],
    )
    with pytest.raises(TokenRefused) as refused:
        read(answer(trail=trail.encode()))
    assert refused.value.reason is Refusal.UNKNOWN_KEY


@given(st.binary(max_size=400))
def test_noise_is_never_an_answer(noise: bytes) -> None:
    with pytest.raises(TokenRefused):
        read(noise)


@given(
    st.dictionaries(
        st.sampled_from(list(CLAIMS)),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(max_size=9), max_size=3),
        min_size=1,
    )
)
def test_whatever_the_fleet_may_have_signed_it_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        assert isinstance(read(answer(**changes)), Admission)
    except TokenRefused as refused:
        assert refused.detail
