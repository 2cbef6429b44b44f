"""The fleet's public keys: one document, signed by the fleet's root key.

A board knows nothing but the thumbprint of the root key. The root key itself is carried
in the document, among the others; it is believed because it has that thumbprint, and the
rest because the root key signed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.jws import (
    MAX_TOKEN_BYTES,
    SigningKey,
    VerificationKey,
    key_from_jwk,
    parse_object,
    sign,
    verify,
)

KEYS_TYP = "hadir-keys+jwt"

USES: Mapping[str, frozenset[str]] = {
    "root": frozenset({KEYS_TYP}),
    "provision": frozenset({"hadir-claim+jwt"}),
    "gallery": frozenset({"hadir-gallery+jwt"}),
    "command": frozenset({"hadir-command+jwt"}),
    "receipt": frozenset({"hadir-receipt+jwt"}),
    "enrol": frozenset(),
}
"""What a fleet key of each use (`hadir_use`) may sign. `hadir-enrol+jwt` is a board's to sign, not the enrol key's."""

MAX_KEYS = 64


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """The keys document, verified."""

    version: int
    keys: tuple[VerificationKey, ...]

    def verification_keys(self, typ: str) -> dict[str, VerificationKey]:
        """By kid, the keys that may sign tokens of this typ."""
        return {key.kid: key for key in self.keys if typ in key.typs}


def sign_keys_document(root: SigningKey, keys: Mapping[str, SigningKey], *, version: int, now_s: int) -> str:
    """The document as compact JWS. `keys` maps a use to the key of that use; the root key is added."""
    listed = {"root": root} | dict(keys)
    claims = {
        "iat": now_s,
        "version": version,
        "keys": [
            key.public_jwk | {"hadir_use": use, "nbf": now_s, "revoked": False} for use, key in listed.items()
        ],
        "ca": [],
        "next_root": None,
    }
    return sign(claims, root, KEYS_TYP).compact


def load_keys_document(path: Path, root_thumbprint: str) -> FleetKeys:
    """Read the keys document and verify it under the pinned root key.

    Raises:
        KeyFileError: missing, damaged, or signed by another root; names the file and what to do.
    """
    try:
        with path.open("rb") as file:
            compact = file.read(MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise KeyFileError(
            f"{path}: the keys document cannot be read ({error.strerror}); copy it from the fleet's folder"
        ) from error
    try:
        return verify_keys_document(compact, root_thumbprint)
    except TokenRefused as error:
        raise KeyFileError(
            f"{path}: {error}; copy keys.jws from the fleet whose root key is {root_thumbprint}"
        ) from error


def verify_keys_document(compact: bytes, root_thumbprint: str) -> FleetKeys:
    """The fleet's keys from a signed document. Raises TokenRefused."""
    root = _root_key(compact, root_thumbprint)
    claims = verify(compact, KEYS_TYP, {root.kid: root}).claims
    version = claims.get("version")
    if type(version) is not int or version < 1:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"version: {version!r} is not a positive whole number")
    listed = _listed(claims)
    keys = [_key(jwk) for jwk in listed]
    if len({key.kid for key in keys}) != len(keys):
        raise TokenRefused(Refusal.BAD_CLAIMS, "keys: one is listed twice, and each has one use")
    in_use = tuple(key for key, jwk in zip(keys, listed, strict=True) if not _revoked(jwk))
    return FleetKeys(version=version, keys=in_use)


def _root_key(compact: bytes, root_thumbprint: str) -> VerificationKey:
    """The pinned root key, found in the document before the document is believed."""
    if len(compact) > MAX_TOKEN_BYTES:
        raise TokenRefused(Refusal.TOO_LARGE, f"more than {MAX_TOKEN_BYTES} bytes")
    parts = compact.split(b".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515, section 7.1
        raise TokenRefused(Refusal.MALFORMED, f"{len(parts)} parts, expected 3")
    for jwk in _listed(parse_object(parts[1], "payload")):
        if jwk.get("kid") == root_thumbprint:
            return key_from_jwk(jwk, USES["root"])
    raise TokenRefused(Refusal.UNKNOWN_KEY, "the pinned root key is not in the document")


def _listed(claims: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    keys = claims.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS or not all(isinstance(jwk, dict) for jwk in keys):
        raise TokenRefused(Refusal.BAD_CLAIMS, f"keys: not a list of at most {MAX_KEYS} JWKs")
    return keys


def _revoked(jwk: Mapping[str, Any]) -> bool:
    revoked = jwk.get("revoked")
    if type(revoked) is not bool:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"revoked: {str(revoked)[:32]!r} is neither true nor false")
    return revoked


def _key(jwk: Mapping[str, Any]) -> VerificationKey:
    use = jwk.get("hadir_use")
    if not isinstance(use, str) or use not in USES:
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"hadir_use: {str(use)[:32]!r} is not one of {', '.join(USES)}"
        )
    return key_from_jwk(jwk, USES[use])
