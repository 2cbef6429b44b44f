"""The answer to a claim: a board's certificate, its place and the fleet's keys, signed and sealed to it.

The provision key signs, and it is believed because the keys document beside it says so, which
the root key signed, whose thumbprint the claim holds. Signed inside, sealed outside: whoever
watches the broker sees neither which door this is nor what it is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from edge.errors import InputError, Refusal, TokenRefused
from edge.trust.claim import claim_urn, fleet_urn
from edge.trust.fleetkeys import MAX_TRAIL_BYTES, FleetKeys, verify_keys_trail
from edge.trust.identity import ID_PATTERN, check_device_id
from edge.trust.jws import (
    SigningKey,
    decode_base64url,
    encode_base64url,
    jwk_of,
    parse_members,
    sign,
    thumbprint,
    verify,
)
from edge.trust.members import bad, integer, nothing_else, take, text
from edge.trust.seal import open_sealed, seal

CLAIM_TYP = "hadir-claim+jwt"
PURPOSE = "claim"
MAX_ANSWER_BYTES = 2 * MAX_TRAIL_BYTES
MAX_CHAIN = 4
"""Certificates from the board's to the one below the root's."""
MAX_PEM_CHARACTERS = 4096

Settings = Mapping[str, Mapping[str, Any]]
"""Sections of the configuration, as TOML has them."""


_MEMBERS = frozenset({"iss", "aud", "iat", "kid", "device", "site", "purpose", "certificates", "settings"})


class Purpose(StrEnum):
    """What a claim is for."""

    FIRST = "first"
    RENEW = "renew"
    """The same board: its chain and outbox go on."""
    REPLACE = "replace"
    """Another board at the same door: a new chain."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a board gets once somebody has approved it."""

    device: str
    site: str
    purpose: Purpose
    certificates: tuple[str, ...]
    """In PEM: the board's, then what leads to the fleet's authority."""
    settings: Settings
    """What its configuration must say."""
    trail: bytes
    """The keys documents from the claim's root key on."""
    keys: FleetKeys
    issued_s: int
    """When, by the fleet's clock: no earlier time can be the present."""


def sign_admission(
    claim: str,
    fleet: str,
    *,
    provision: SigningKey,
    device_key: ec.EllipticCurvePublicKey,
    sealing_key: X25519PublicKey,
    device: str,
    site: str,
    purpose: Purpose,
    certificates: Sequence[str],
    settings: Settings,
    trail: bytes,
    now_s: int,
) -> bytes:
    """The answer for this claim and key, to be sent or carried."""
    claims = {
        "iss": fleet_urn(fleet),
        "aud": claim_urn(claim),
        "iat": now_s,
        "kid": thumbprint(jwk_of(device_key)),
        "device": device,
        "site": site,
        "purpose": purpose.value,
        "certificates": list(certificates),
        "settings": {section: dict(members) for section, members in settings.items()},
    }
    inside = {"claim": sign(claims, provision, CLAIM_TYP).compact, "keys": trail.decode("ascii")}
    sealed = seal(json.dumps(inside).encode(), sealing_key, PURPOSE, device)
    return json.dumps({"device": device, "sealed": encode_base64url(sealed)}).encode()


def open_admission(
    answer: bytes, claim: str, fleet: str, key: SigningKey, sealing_key: X25519PrivateKey
) -> Admission:
    """What the fleet of this root key answered to this claim, for this board's keys.

    Raises:
        TokenRefused: for other keys, another claim, from another fleet, or wrong in meaning.
    """
    if len(answer) > MAX_ANSWER_BYTES:
        raise TokenRefused(Refusal.TOO_LARGE, f"{len(answer)} bytes, at most {MAX_ANSWER_BYTES}")
    outside = parse_members(answer, "answer")
    device = _device(outside)
    inside = parse_members(
        open_sealed(_base64(outside, "sealed"), sealing_key, PURPOSE, device), "sealed answer"
    )
    trail = take(inside, "keys", str).encode()
    keys = verify_keys_trail(trail, fleet)
    verified = verify(take(inside, "claim", str), CLAIM_TYP, keys.verification_keys(CLAIM_TYP))
    claims = verified.claims
    nothing_else(claims, _MEMBERS)
    if claims.get("iss") != fleet_urn(fleet):
        raise TokenRefused(Refusal.WRONG_OWNER, "iss: another fleet's")
    if claims.get("aud") != claim_urn(claim):
        raise TokenRefused(Refusal.WRONG_AUDIENCE, "aud: another claim's")
    if claims.get("kid") != key.kid:
        raise TokenRefused(Refusal.WRONG_OWNER, "kid: answered to another board's key")
    if claims.get("device") != device:
        raise TokenRefused(Refusal.BAD_CLAIMS, "device: another inside than outside")
    chain = check_chain(claims.get("certificates"), key.public, device, keys.authorities)
    return Admission(
        device=device,
        purpose=_purpose(claims),
        site=text(claims, "site", ID_PATTERN),
        certificates=chain,
        settings=_settings(claims),
        trail=trail,
        keys=keys,
        issued_s=integer(claims, "iat"),
    )


def check_chain(listed: Any, public: Any, device: str, authorities: Sequence[str]) -> tuple[str, ...]:
    """A certificate chain for this key and device that ends below one of these authorities, in PEM.

    Dates are not judged: a board's clock may be wrong. Raises TokenRefused.
    """
    if (
        not isinstance(listed, list)
        or not 1 <= len(listed) <= MAX_CHAIN
        or not all(isinstance(pem, str) and len(pem) <= MAX_PEM_CHARACTERS for pem in listed)
    ):
        raise bad("certificates", f"not a list of 1 to {MAX_CHAIN} certificates in PEM")
    try:
        chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in listed]
        roots = [x509.load_pem_x509_certificate(pem.encode()) for pem in authorities]
    except ValueError as error:
        raise bad("certificates", "one is not a certificate in PEM") from error
    leaf = chain[0]
    if leaf.public_key() != public:
        raise bad("certificates", "the first is for another key")
    names = [attribute.value for attribute in leaf.subject]
    if names != [device]:
        raise bad("certificates", f"the first is for {str(names)[:64]}, not for {device}")
    for certificate, issuer in pairwise(chain):
        if not issued_by(certificate, issuer):
            raise bad("certificates", "one is not issued by the next")
    if not any(issued_by(chain[-1], root) for root in roots):
        raise bad("certificates", "the last is not issued by an authority of the keys document")
    return tuple(listed)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether this authority signed this certificate; dates are not judged."""
    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False


def _device(members: Mapping[str, Any]) -> str:
    try:
        return check_device_id(text(members, "device"))
    except InputError as error:
        raise bad("device", "not a device id") from error


def _settings(claims: Mapping[str, Any]) -> Settings:
    settings: Settings = take(claims, "settings", dict)
    if not all(isinstance(section, dict) for section in settings.values()):
        raise bad("settings", "not sections of a configuration")
    return settings


def _purpose(claims: Mapping[str, Any]) -> Purpose:
    if claims.get("purpose") not in list(Purpose):
        raise bad("purpose", f"not one of {', '.join(Purpose)}")
    return Purpose(claims["purpose"])


def _base64(members: Mapping[str, Any], name: str) -> bytes:
    try:
        return decode_base64url(take(members, name, str).encode())
    except ValueError as error:
        raise bad(name, str(error)) from error
