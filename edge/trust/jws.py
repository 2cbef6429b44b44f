"""Everything that is signed: JSON Web Signatures in compact form (RFC 7515), one typ and one algorithm a key.

Verifying never asks the token what to trust: the key is found by `kid` among those given,
its algorithm is the key's own, and headers that point elsewhere (`jku`, `jwk`, `x5u`,
`x5c`) or change the rules (`crit`, `b64`) are refused. Keys are asked directly whether they signed: PyJWT, which signs,
would take a token apart again to verify it, and that costs a server more than the curve does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.records import SignedToken

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ES256 = "ES256"
EDDSA = "EdDSA"
HS256 = "HS256"
"""Only for a claim's request, under a key that board and fleet derive from the claim's secret."""

MAX_TOKEN_BYTES = 64 * 1024
"""The keys document is the largest; events have a limit of their own."""

KEPT_HEADERS = 16_384
"""Parsed headers that are kept, of some 100 bytes each: more keys than that sign to no server at once."""

MAX_DEPTH = 16
"""Nesting of a payload; ours have 4, and a parser that recurses must not be made to."""

FORBIDDEN_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64"})

_PART = re.compile(rb"[A-Za-z0-9_-]+")
_COORDINATE_BYTES = 32
_ECDSA_SHA256 = ec.ECDSA(SHA256())

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A JSON string, also one that never ends. Possessive: linear in the length, whatever is in it."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, the one algorithm it verifies and what it may have signed."""

    kid: str
    algorithm: str
    public: PublicKey
    typs: frozenset[str]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key under its name, the RFC 7638 thumbprint of its public half."""

    kid: str
    algorithm: str
    private: PrivateKey

    @classmethod
    def of(cls, private: PrivateKey) -> Self:
        """Name a private key. Raises KeyFileError unless it is P-256 or Ed25519."""
        public = private.public_key()
        return cls(kid=thumbprint(jwk_of(public)), algorithm=algorithm_of(public), private=private)

    @classmethod
    def generate(cls) -> Self:
        """A new P-256 key."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    @property
    def public_jwk(self) -> dict[str, str]:
        return jwk_of(self.private.public_key()) | {"kid": self.kid}

    @property
    def public(self) -> PublicKey:
        return self.private.public_key()

    def verification_key(self, typs: frozenset[str]) -> VerificationKey:
        """The public half, for what it may have signed."""
        return VerificationKey(self.kid, self.algorithm, self.private.public_key(), typs)


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A secret that both sides hold, for what cannot be signed yet because no key is known; at least 32 bytes."""

    kid: str
    secret: bytes = field(repr=False)
    typs: frozenset[str]
    algorithm: str = HS256


@dataclass(frozen=True, slots=True)
class Verified:
    """A token whose signature holds: what it says, who signed it, its hash."""

    claims: dict[str, Any]
    kid: str
    hash: str


def sign(claims: Mapping[str, Any], key: SigningKey, typ: str) -> SignedToken:
    """Sign claims as a compact JWS of this typ."""
    return _signed(claims, key.kid, key.private, key.algorithm, typ)


def sign_shared(claims: Mapping[str, Any], key: SharedKey, typ: str) -> SignedToken:
    """The same under a secret that the reader has too."""
    return _signed(claims, key.kid, key.secret, key.algorithm, typ)


def _signed(
    claims: Mapping[str, Any], kid: str, key: PrivateKey | bytes, algorithm: str, typ: str
) -> SignedToken:
    payload = json.dumps(claims, separators=(",", ":"), allow_nan=False).encode()
    compact = jwt.api_jws.encode(payload, key, algorithm=algorithm, headers={"typ": typ, "kid": kid})
    return SignedToken(compact=compact, hash=token_hash(compact))


def verify(
    compact: str | bytes,
    typ: str,
    keys: Mapping[str, VerificationKey] | Mapping[str, SharedKey],
    max_bytes: int = MAX_TOKEN_BYTES,
) -> Verified:
    """The claims of a token of this typ that one of these keys signed.

    Raises:
        TokenRefused: with the first reason found; nothing of the token is then to be believed.
    """
    parts = _split(compact, max_bytes)
    header = _header(parts.header)
    if header.get("typ") != typ:
        raise TokenRefused(Refusal.WRONG_TYPE, f"typ is {_short(header.get('typ'))}, expected {typ}")
    forbidden = sorted(FORBIDDEN_HEADERS & header.keys())
    if forbidden:
        raise TokenRefused(Refusal.FORBIDDEN_HEADER, f"header has {', '.join(forbidden)}")
    kid = header.get("kid")
    if not isinstance(kid, str) or kid not in keys:
        raise TokenRefused(Refusal.UNKNOWN_KEY, f"kid {_short(kid)} is not registered")
    key = keys[kid]
    if header.get("alg") != key.algorithm:
        raise TokenRefused(
            Refusal.WRONG_ALGORITHM, f"alg is {_short(header.get('alg'))}, the key's is {key.algorithm}"
        )
    if typ not in key.typs:
        raise TokenRefused(Refusal.WRONG_USE, f"this key may not sign {typ}")
    if not _fits(parts, key):
        raise TokenRefused(Refusal.BAD_SIGNATURE, "the signature does not fit")
    claims = parse_members(parts.payload, "payload")
    return Verified(claims=claims, kid=kid, hash=_hash(parts.signing_input))


@dataclass(frozen=True, slots=True)
class _Parts:
    """A compact JWS taken apart (RFC 7515, section 7.1)."""

    signing_input: bytes
    header: bytes
    """Still encoded."""
    payload: bytes
    signature: bytes


def _fits(parts: _Parts, key: VerificationKey | SharedKey) -> bool:
    """Whether the signature is this key's, by the key's own algorithm, whatever the token says."""
    if isinstance(key, SharedKey):
        expected = hmac.digest(key.secret, parts.signing_input, "sha256")
        return hmac.compare_digest(parts.signature, expected)
    try:
        if isinstance(key.public, ed25519.Ed25519PublicKey):
            key.public.verify(parts.signature, parts.signing_input)
        else:
            key.public.verify(_in_der(parts.signature), parts.signing_input, _ECDSA_SHA256)
    except (InvalidSignature, ValueError):
        return False
    return True


def _in_der(signature: bytes) -> bytes:
    """r and s, as RFC 7518, section 3.4 puts them, in the form that OpenSSL takes. Raises ValueError."""
    if len(signature) != 2 * _COORDINATE_BYTES:
        raise ValueError("not 64 bytes")
    r, s = signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def token_hash(compact: str) -> str:
    """base64url(SHA-256(signing input)): without the signature, because an ECDSA signature is malleable."""
    return _hash(compact.rpartition(".")[0].encode("ascii"))


def _hash(signing_input: bytes) -> str:
    return encode_base64url(hashlib.sha256(signing_input).digest())


def jwk_of(public: PublicKey) -> dict[str, str]:
    """The public members of a JWK (RFC 7517, RFC 8037). Raises KeyFileError for another kind of key."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(public.public_bytes_raw())}
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise KeyFileError("keys must be P-256 or Ed25519")
    numbers = public.public_numbers()
    x, y = (encode_base64url(number.to_bytes(_COORDINATE_BYTES, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def key_from_jwk(jwk: Mapping[str, Any], typs: frozenset[str]) -> VerificationKey:
    """A verification key from the public members of a JWK; others are ignored, but for a `kid` that lies.

    Raises TokenRefused (malformed) where it is no P-256 or Ed25519 key, is a private one (RFC 7518, section
    6.2.2) or its kid is not its thumbprint.
    """
    if "d" in jwk:
        raise TokenRefused(
            Refusal.MALFORMED, "a private key, which belongs in no public document: replace it"
        )
    try:
        public = _public_key(jwk)
    except (KeyError, ValueError, TypeError) as error:
        raise TokenRefused(Refusal.MALFORMED, f"not a public P-256 or Ed25519 JWK: {error}") from error
    kid = thumbprint(jwk_of(public))
    if jwk.get("kid", kid) != kid:
        raise TokenRefused(Refusal.MALFORMED, f"kid {_short(jwk['kid'])} is not the key's thumbprint")
    return VerificationKey(kid, algorithm_of(public), public, typs)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638: SHA-256 over the required members in order, base64url."""
    required = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}[jwk["kty"]]
    canonical = json.dumps({name: jwk[name] for name in required}, separators=(",", ":"), sort_keys=True)
    return encode_base64url(hashlib.sha256(canonical.encode()).digest())


def algorithm_of(public: PublicKey) -> str:
    """The one algorithm of a kind of key."""
    return EDDSA if isinstance(public, ed25519.Ed25519PublicKey) else ES256


def encode_base64url(data: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: bytes) -> bytes:
    """Strictly: no padding, no other characters, no unused bits set. Raises ValueError."""
    if not _PART.fullmatch(text):
        raise ValueError("not base64url")
    data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    # Only the last group of four can have bits to spare.
    if encode_base64url(data[len(data) // 3 * 3 :]).encode() != text[len(text) // 4 * 4 :]:
        raise ValueError("base64url with bits left over")
    return data


def _split(compact: str | bytes, max_bytes: int) -> _Parts:
    if len(compact) > max_bytes:
        raise TokenRefused(Refusal.TOO_LARGE, f"{len(compact)} bytes, at most {max_bytes}")
    raw = compact.encode("utf-8", "surrogatepass") if isinstance(compact, str) else compact
    parts = raw.split(b".")
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature (RFC 7515, section 7.1)
        raise TokenRefused(Refusal.MALFORMED, f"{len(parts)} parts, expected 3")
    header, payload, signature = parts
    try:
        decode_base64url(header)
        return _Parts(
            raw[: len(header) + 1 + len(payload)],
            header,
            decode_base64url(payload),
            decode_base64url(signature),
        )
    except ValueError as error:
        raise TokenRefused(Refusal.MALFORMED, str(error)) from error


@lru_cache(maxsize=KEPT_HEADERS)
def _header(part: bytes) -> Mapping[str, Any]:
    """The header of a token. One key's are all the same, byte for byte."""
    return MappingProxyType(parse_object(part, "header"))


def parse_object(part: bytes, what: str) -> dict[str, Any]:
    """The JSON object in one base64url part of a token; strict, because parsers that differ can be played off.

    Raises TokenRefused (malformed).
    """
    try:
        text = decode_base64url(part)
    except ValueError as error:
        raise TokenRefused(Refusal.MALFORMED, f"{what}: {error}") from error
    return parse_members(text, what)


def parse_members(text: bytes, what: str) -> dict[str, Any]:
    """A JSON object of somebody else's, as strictly. Raises TokenRefused (malformed)."""
    if _depth(text) > MAX_DEPTH:
        raise TokenRefused(Refusal.MALFORMED, f"{what} is nested more than {MAX_DEPTH} deep")
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except ValueError as error:
        raise TokenRefused(Refusal.MALFORMED, f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenRefused(Refusal.MALFORMED, f"{what} is not a JSON object")
    return value


def _depth(text: bytes) -> int:
    """The nesting, before a recursive parser sees it. Brackets in strings do not count: closing ones would hide it."""
    deepest = depth = 0
    for byte in _STRING.sub(b"", text).translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`: readers differ in which of two they take. Raises ValueError."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member appears twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    """1e999 is a JSON number that Python reads as infinity, which no JSON can then carry on."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _public_key(jwk: Mapping[str, Any]) -> PublicKey:
    if (jwk["kty"], jwk["crv"]) == ("OKP", "Ed25519"):
        return ed25519.Ed25519PublicKey.from_public_bytes(_coordinate(jwk["x"]))
    if (jwk["kty"], jwk["crv"]) != ("EC", "P-256"):
        raise ValueError(f"{_short(jwk['kty'])} {_short(jwk['crv'])}")
    x, y = (int.from_bytes(_coordinate(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _coordinate(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("a coordinate is not a string")
    data = decode_base64url(text.encode())
    if len(data) != _COORDINATE_BYTES:
        raise ValueError(f"a coordinate has {len(data)} bytes")
    return data


def _short(value: object) -> str:
    """A foreign value, safe to show in one line on any terminal."""
    return ascii(value)[:80]
