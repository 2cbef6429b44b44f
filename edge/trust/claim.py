"""A claim: how a board and a fleet that have never met come to trust each other, once.

The claim itself holds a secret of 128 bits and what the board may believe: the broker's key
(pinned, because a new board's clock is wrong and no certificate's dates can be judged) and the
fleet's root key. From the secret both sides derive a password for the claim listener and the key
that authenticates the request. The request carries the public halves of keys that the board
made; the response, signed by the provision key and sealed to the board, carries its certificate
and its place. Both sides' formats live here, so that neither can drift from the other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from edge.errors import InputError, Refusal, TokenRefused
from edge.records import SignedToken
from edge.trust.jws import (
    SharedKey,
    SigningKey,
    decode_base64url,
    encode_base64url,
    sign_shared,
    verify,
    without_duplicates,
)
from edge.trust.members import bad, nothing_else, take, text
from edge.trust.seal import Protection, derive, parse_sealing_key, sealing_key_text

VERSION = 1
REQUEST_TYP = "hadir-claim-request+jwt"
SECRET_BYTES = 16
PIN_BYTES = 16
"""SHA-256 of the broker's public key, cut to 128 bits: a second key with the same pin is out of reach."""

MAX_CLAIM_BYTES = 1024
MAX_REQUEST_BYTES = 8 * 1024
MAX_CSR_CHARACTERS = 4 * 1024

_MEMBERS = frozenset({"iss", "aud", "iat", "csr", "sealing_key", "version", "key_protection", "board"})
_LINE = "hadir1"
_ID = re.compile(r"[a-z0-9]{8,24}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{22}")
_PIN = _SECRET
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_BROKER = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
_FIELDS = {"broker": _BROKER, "id": _ID, "secret": _SECRET, "server": _PIN, "fleet": _THUMBPRINT}


@dataclass(frozen=True, slots=True)
class Claim:
    """What is put on a board's boot partition or shown to its camera."""

    broker: str
    """Host and port of the claim listener."""
    id: str
    secret: str = field(repr=False)
    server: str
    """Pin of the broker's key."""
    fleet: str
    """RFC 7638 thumbprint of the root key."""

    @classmethod
    def new(cls, claim_id: str, *, broker: str, server: str, fleet: str) -> Claim:
        """With a fresh secret. Raises InputError where the broker's address cannot be one."""
        secret = encode_base64url(token_bytes(SECRET_BYTES))
        return _checked(
            {"broker": broker, "id": claim_id, "secret": secret, "server": server, "fleet": fleet}
        )

    @classmethod
    def parse(cls, content: bytes) -> Claim:
        """From the file or the line. Raises InputError; never repeats what might be a secret."""
        if len(content) > MAX_CLAIM_BYTES:
            raise InputError(f"claim: larger than {MAX_CLAIM_BYTES} bytes, so it is something else")
        try:
            written = content.decode("ascii").strip()
            if written.startswith("{"):
                said = json.loads(written, object_pairs_hook=without_duplicates)
                version = said.pop("v", None)
            else:
                word, *values = written.split(",")
                said = dict(zip(_FIELDS, values, strict=True))
                version = VERSION if word == _LINE else None
        except (ValueError, AttributeError, RecursionError) as error:
            raise InputError(
                "claim: neither the JSON nor the line of a claim; make one with `hadir-provision device add`"
            ) from error
        if version != VERSION:
            raise InputError(
                f"claim: not of version {VERSION}; this board's software is too old for it, or new"
            )
        if said.keys() != _FIELDS.keys():
            raise InputError(f"claim: its fields must be v, {', '.join(_FIELDS)}")
        return _checked(said)

    @property
    def line(self) -> str:
        """For the QR code: about 130 characters, which is version 6 or 7 at level L."""
        return ",".join((_LINE, self.broker, self.id, self.secret, self.server, self.fleet))

    @property
    def file(self) -> str:
        """For the boot partition."""
        members = {"v": VERSION} | {name: getattr(self, name) for name in _FIELDS}
        return json.dumps(members, indent=2) + "\n"

    @property
    def password(self) -> str:
        """For the claim listener; the user name is the claim's id."""
        return encode_base64url(derive(self._secret, f"hadir:v1:claim-password:{self.id}"))

    @property
    def request_key(self) -> SharedKey:
        """Authenticates the request; another derivation, so that the broker, which sees the password, cannot ask."""
        secret = derive(self._secret, f"hadir:v1:claim-request:{self.id}")
        return SharedKey(self.id, secret, frozenset({REQUEST_TYP}))

    @property
    def _secret(self) -> bytes:
        return decode_base64url(self.secret.encode())


def _checked(said: Mapping[str, Any]) -> Claim:
    for name, pattern in _FIELDS.items():
        value = said[name]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise InputError(f"claim: {name} is not like {pattern.pattern}")
    return Claim(**said)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a board asks for, authenticated by the claim's secret and, in its CSR, by its own key."""

    claim: str
    csr: bytes
    """The certificate request in DER, not looked into: who issues certificates judges it."""
    sealing_key: X25519PublicKey
    version: str
    """Of the board's software."""
    protection: Protection
    board: str
    """What hardware it says it is."""
    hash: str


def csr_of(key: SigningKey, name: str) -> bytes:
    """A certificate request (RFC 2986) in DER, which proves possession of the key; its subject says nothing."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    private = key.private
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise InputError("a board's key must be P-256")
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(private, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def sign_request(
    claim: Claim,
    key: SigningKey,
    sealing_key: X25519PublicKey,
    *,
    protection: Protection,
    version: str,
    board: str,
    now_s: int,
) -> SignedToken:
    """The request for this claim."""
    claims = {
        "iss": claim_urn(claim.id),
        "aud": fleet_urn(claim.fleet),
        "iat": now_s,
        "csr": encode_base64url(csr_of(key, claim.id)),
        "sealing_key": sealing_key_text(sealing_key),
        "version": version,
        "key_protection": protection,
        "board": board,
    }
    return sign_shared(claims, claim.request_key, REQUEST_TYP)


def parse_request(compact: bytes, key: SharedKey, fleet: str) -> ClaimRequest:
    """A request that the holder of this claim's secret made. Its dates are not judged: a new board's clock is wrong.

    Raises:
        TokenRefused: not authenticated, or wrong in meaning; nothing of it is then to be believed.
    """
    verified = verify(compact, REQUEST_TYP, {key.kid: key}, MAX_REQUEST_BYTES)
    claims = verified.claims
    nothing_else(claims, _MEMBERS)
    if claims.get("iss") != claim_urn(key.kid):
        raise TokenRefused(Refusal.WRONG_OWNER, "iss: another claim's")
    if claims.get("aud") != fleet_urn(fleet):
        raise TokenRefused(Refusal.WRONG_AUDIENCE, "aud: another fleet's")
    protection = claims.get("key_protection")
    if protection not in list(Protection):
        raise bad("key_protection", f"not one of {', '.join(Protection)}")
    return ClaimRequest(
        claim=key.kid,
        csr=_base64(claims, "csr"),
        sealing_key=parse_sealing_key(text(claims, "sealing_key")),
        version=text(claims, "version"),
        protection=Protection(protection),
        board=text(claims, "board"),
        hash=verified.hash,
    )


def claim_urn(claim: str) -> str:
    return f"urn:hadir:claim:{claim}"


def fleet_urn(root_thumbprint: str) -> str:
    return f"urn:hadir:fleet:{root_thumbprint}"


def pin_of(public: PublicKeyTypes) -> str:
    """How a broker's key is named in a claim: of its SubjectPublicKeyInfo, as in RFC 7469, section 2.4, but cut."""
    info = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encode_base64url(hashlib.sha256(info).digest()[:PIN_BYTES])


def _base64(claims: Mapping[str, Any], name: str) -> bytes:
    encoded = take(claims, name, str)
    if len(encoded) > MAX_CSR_CHARACTERS:
        raise bad(name, f"more than {MAX_CSR_CHARACTERS} characters")
    try:
        return decode_base64url(encoded.encode())
    except ValueError as error:
        raise bad(name, str(error)) from error
