"""The fleet's public keys: a document signed by the fleet's root key, and how one root follows another.

A board knows nothing but the thumbprint of the root key. The root key itself is carried
in the document, among the others; it is believed because it has that thumbprint, and the
rest because the root key signed it.

A root is followed by another without a visit to any door: a document of the old root names
the new one as `next_root`, and from then on a document of the new root is believed. What is
published and stored is therefore a trail, one document a line: first the one whose root is
pinned, then each handover, at last the newest. A board that slept through a change reads it
as it woke up: each line is believed because of the line before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.jws import (
    MAX_TOKEN_BYTES,
    SigningKey,
    VerificationKey,
    decode_base64url,
    encode_base64url,
    key_from_jwk,
    parse_object,
    sign,
    thumbprint,
    verify,
)

KEYS_TYP = "hadir-keys+jwt"

ENROL = "enrol"
"""The one use whose key signs nothing: templates that are collected at a door are sealed to it."""

USES: Mapping[str, frozenset[str]] = {
    "root": frozenset({KEYS_TYP}),
    "provision": frozenset({"hadir-claim+jwt"}),
    "gallery": frozenset({"hadir-gallery+jwt"}),
    "command": frozenset({"hadir-command+jwt"}),
    "receipt": frozenset({"hadir-receipt+jwt"}),
    ENROL: frozenset(),
}
"""What a fleet key of each use (`hadir_use`) may sign. `hadir-enrol+jwt` is a board's to sign, not the enrol key's."""

MAX_KEYS = 64
MAX_AUTHORITIES = 8
MAX_PEM_CHARACTERS = 4096
"""A P-256 certificate has about 700."""

MAX_TRAIL = 8
"""Documents in a trail: the newest, and seven changes of the root."""

MAX_TRAIL_BYTES = 128 * 1024
"""Of the whole trail, which is one retained message; a document of a fleet has about 8 KiB."""
MAX_VERSION = 2**53 - 1
_MAX_TIME_S = 2**53 - 1
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A line of the document: a public key, its one use and from when on it is meant to be used."""

    kid: str
    use: str
    nbf_s: int
    """When its use began. Boards do not enforce it: without a clock they could not, and the fleet does not sign
    with a key before every board has it."""
    public: VerificationKey | X25519PublicKey
    revoked: bool


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """The keys document, verified."""

    version: int
    keys: tuple[VerificationKey, ...]
    """Those in use that sign; the revoked ones are left out."""
    root: str
    """Thumbprint of the root that signed it."""
    next_root: str | None
    """Thumbprint of the root whose documents are believed from now on, too."""
    authorities: tuple[str, ...]
    """Certificates of the authorities that brokers' and boards' certificates come from, in PEM."""
    sealing: Mapping[str, X25519PublicKey]
    """By kid, the keys that templates from the door are sealed to."""
    listed: tuple[ListedKey, ...]
    """Every line, revoked ones as well."""
    hash: str
    """Of the document: two of one version must be one."""

    def verification_keys(self, typ: str) -> dict[str, VerificationKey]:
        """By kid, the keys that may sign tokens of this typ."""
        return {key.kid: key for key in self.keys if typ in key.typs}


def sign_keys_document(
    root: SigningKey,
    keys: Mapping[str, SigningKey],
    *,
    version: int,
    now_s: int,
    sealing: Sequence[X25519PublicKey] = (),
    authorities: Sequence[str] = (),
    next_root: str | None = None,
) -> str:
    """A document of one key a use as compact JWS; the root key is added, `sealing` are enrol keys."""
    lines = [listed_jwk(key.public_jwk, use, now_s) for use, key in ({"root": root} | dict(keys)).items()]
    lines += [listed_jwk(sealing_jwk(public), ENROL, now_s) for public in sealing]
    return sign_document(
        root, lines, version=version, now_s=now_s, authorities=authorities, next_root=next_root
    )


def sign_document(
    root: SigningKey,
    lines: Sequence[Mapping[str, Any]],
    *,
    version: int,
    now_s: int,
    authorities: Sequence[str] = (),
    next_root: str | None = None,
) -> str:
    """A document of these lines (`listed_jwk`) as compact JWS, root among them."""
    claims = {
        "iat": now_s,
        "version": version,
        "keys": [dict(line) for line in lines],
        "ca": list(authorities),
        "next_root": next_root,
    }
    return sign(claims, root, KEYS_TYP).compact


def listed_jwk(jwk: Mapping[str, str], use: str, nbf_s: int, *, revoked: bool = False) -> dict[str, Any]:
    """A line of the document."""
    return dict(jwk) | {"hadir_use": use, "nbf": nbf_s, "revoked": revoked}


def sealing_jwk(public: X25519PublicKey) -> dict[str, str]:
    """The JWK of an X25519 key (RFC 8037, section 2), with its thumbprint as `kid`."""
    jwk = {"kty": "OKP", "crv": "X25519", "x": encode_base64url(public.public_bytes_raw())}
    return jwk | {"kid": thumbprint(jwk)}


def load_keys_document(path: Path, root_thumbprint: str) -> FleetKeys:
    """Read the trail of keys documents and verify it from the pinned root key on.

    Raises:
        KeyFileError: missing, damaged, or signed by another root; names the file and what to do.
    """
    try:
        with path.open("rb") as file:
            trail = file.read(MAX_TRAIL_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"{path}: the keys document cannot be read ({error.strerror}); copy it from the fleet's folder"
        ) from error
    try:
        return verify_keys_trail(trail, root_thumbprint)
    except TokenRefused as error:
        raise KeyFileError(
            f"{path}: {error}; copy keys.jws from the fleet whose root key is {root_thumbprint}"
        ) from error


def verify_keys_trail(trail: bytes, root_thumbprint: str, held: FleetKeys | None = None) -> FleetKeys:
    """The newest keys of a trail, each document believed because of the one before it.

    Documents before the first that the pinned root signed are passed over: they are for
    boards that have an older pin. With `held`, what this board has already, the result is
    never older: the held one again where the trail ends with it.

    Raises:
        TokenRefused: no document is of a root that is believed, one is wrong, or the newest is older than `held`.
    """
    if len(trail) > MAX_TRAIL_BYTES:
        raise TokenRefused(Refusal.TOO_LARGE, f"more than {MAX_TRAIL_BYTES} bytes")
    documents = trail.split()
    if not documents or len(documents) > MAX_TRAIL:
        raise TokenRefused(
            Refusal.MALFORMED, f"{len(documents)} documents, expected 1 to {MAX_TRAIL}, one a line"
        )
    believed: FleetKeys | None = None
    for compact in documents:
        if believed is not None:
            believed = _follow(compact, believed)
        elif _signer(compact) == root_thumbprint:
            believed = verify_keys_document(compact, root_thumbprint)
    if believed is None:
        raise TokenRefused(Refusal.UNKNOWN_KEY, "the pinned root key is not in the document")
    return believed if held is None else _not_older(believed, held)


def verify_keys_document(compact: bytes, root_thumbprint: str) -> FleetKeys:
    """The fleet's keys from one document of this root. Raises TokenRefused."""
    root = _root_key(compact, root_thumbprint)
    verified = verify(compact, KEYS_TYP, {root.kid: root})
    claims = verified.claims
    listed = tuple(_listed_key(jwk) for jwk in _lines(claims))
    if len({key.kid for key in listed}) != len(listed):
        raise TokenRefused(Refusal.BAD_CLAIMS, "keys: one is listed twice, and each has one use")
    in_use = [key for key in listed if not key.revoked]
    next_root = _next_root(claims, root_thumbprint, listed)
    _check_roots(listed, root_thumbprint, next_root)
    return FleetKeys(
        version=_version(claims),
        keys=tuple(key.public for key in in_use if isinstance(key.public, VerificationKey)),
        root=root_thumbprint,
        next_root=next_root,
        authorities=_authorities(claims),
        sealing={key.kid: key.public for key in in_use if isinstance(key.public, X25519PublicKey)},
        listed=listed,
        hash=verified.hash,
    )


def _follow(compact: bytes, before: FleetKeys) -> FleetKeys:
    """A document that may come after another: of the same root or the one it named, and newer."""
    successor = before.next_root
    if successor is not None and _signer(compact) == successor:
        after = verify_keys_document(compact, successor)
    else:
        after = verify_keys_document(compact, before.root)
    if after.version <= before.version:
        raise TokenRefused(
            Refusal.BAD_CLAIMS,
            f"version: {after.version} does not follow {before.version}; versions only rise",
        )
    return after


def _not_older(newest: FleetKeys, held: FleetKeys) -> FleetKeys:
    if newest.version < held.version:
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"version: {newest.version} is older than {held.version}, which is held"
        )
    if newest.version == held.version and newest.hash != held.hash:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"version: another document of version {held.version} is held")
    return newest


def _signer(compact: bytes) -> object:
    return parse_object(_parts(compact)[0], "header").get("kid")


def _root_key(compact: bytes, root_thumbprint: str) -> VerificationKey:
    """The pinned root key, found in the document before the document is believed."""
    for jwk in _lines(parse_object(_parts(compact)[1], "payload")):
        if jwk.get("kid") == root_thumbprint:
            return key_from_jwk(jwk, USES["root"])
    raise TokenRefused(Refusal.UNKNOWN_KEY, "the pinned root key is not in the document")


def _parts(compact: bytes) -> list[bytes]:
    if len(compact) > MAX_TOKEN_BYTES:
        raise TokenRefused(Refusal.TOO_LARGE, f"more than {MAX_TOKEN_BYTES} bytes")
    parts = compact.split(b".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515, section 7.1
        raise TokenRefused(Refusal.MALFORMED, f"{len(parts)} parts, expected 3")
    return parts


def _lines(claims: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    keys = claims.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS or not all(isinstance(jwk, dict) for jwk in keys):
        raise TokenRefused(Refusal.BAD_CLAIMS, f"keys: not a list of at most {MAX_KEYS} JWKs")
    return keys


def _listed_key(jwk: Mapping[str, Any]) -> ListedKey:
    use = jwk.get("hadir_use")
    if not isinstance(use, str) or use not in USES:
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"hadir_use: {str(use)[:32]!r} is not one of {', '.join(USES)}"
        )
    public = _sealing_key(jwk) if use == ENROL else key_from_jwk(jwk, USES[use])
    kid = sealing_jwk(public)["kid"] if isinstance(public, X25519PublicKey) else public.kid
    return ListedKey(kid, use, _time_s(jwk, "nbf"), public, _revoked(jwk))


def _sealing_key(jwk: Mapping[str, Any]) -> X25519PublicKey:
    text = jwk.get("x")
    if "d" in jwk or (jwk.get("kty"), jwk.get("crv")) != ("OKP", "X25519") or not isinstance(text, str):
        raise TokenRefused(Refusal.MALFORMED, "the enrol key is not a public X25519 JWK")
    try:
        public = X25519PublicKey.from_public_bytes(decode_base64url(text.encode()))
    except ValueError as error:
        raise TokenRefused(Refusal.MALFORMED, f"the enrol key is not a public X25519 JWK: {error}") from error
    kid = sealing_jwk(public)["kid"]
    if jwk.get("kid", kid) != kid:
        raise TokenRefused(Refusal.MALFORMED, "the enrol key's kid is not its thumbprint")
    return public


def _revoked(jwk: Mapping[str, Any]) -> bool:
    revoked = jwk.get("revoked")
    if type(revoked) is not bool:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"revoked: {str(revoked)[:32]!r} is neither true nor false")
    return revoked


def _version(claims: Mapping[str, Any]) -> int:
    version = claims.get("version")
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"version: {str(version)[:32]!r} is not a positive whole number"
        )
    return version


def _time_s(jwk: Mapping[str, Any], name: str) -> int:
    value = jwk.get(name)
    if type(value) is not int or not 0 <= value <= _MAX_TIME_S:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"{name}: {str(value)[:32]!r} is not a time in seconds")
    return value


def _next_root(claims: Mapping[str, Any], root: str, listed: Sequence[ListedKey]) -> str | None:
    """The successor's thumbprint; a key with another use cannot become the root."""
    named = claims.get("next_root")
    if named is None:
        return None
    if not isinstance(named, str) or not _THUMBPRINT.fullmatch(named) or named == root:
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"next_root: {str(named)[:64]!r} is not another root's thumbprint"
        )
    uses = {key.use for key in listed if key.kid == named}
    if uses - {"root"}:
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"next_root: is listed as {', '.join(uses)}, and a key has one use"
        )
    return named


def _check_roots(listed: Sequence[ListedKey], root: str, next_root: str | None) -> None:
    """A document lists the root that signed it, at most its successor, and neither as revoked."""
    for key in listed:
        if key.use == "root" and (key.kid not in (root, next_root) or key.revoked):
            raise TokenRefused(
                Refusal.BAD_CLAIMS,
                f"keys: {key.kid} is listed as a root, and only the signer and next_root may be",
            )
    if root not in {key.kid for key in listed if key.use == "root"}:
        raise TokenRefused(Refusal.BAD_CLAIMS, "keys: the root that signed is not listed as a root")


def _authorities(claims: Mapping[str, Any]) -> tuple[str, ...]:
    listed = claims.get("ca", [])
    if (
        not isinstance(listed, list)
        or len(listed) > MAX_AUTHORITIES
        or not all(isinstance(pem, str) and len(pem) <= MAX_PEM_CHARACTERS for pem in listed)
    ):
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"ca: not a list of at most {MAX_AUTHORITIES} certificates in PEM"
        )
    for pem in listed:
        _check_authority(pem)
    return tuple(listed)


def _check_authority(pem: str) -> None:
    """One certificate, and one that may issue others: anything else in a trust store would be a hole."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode())
        issues = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise TokenRefused(Refusal.BAD_CLAIMS, "ca: not one certificate of an authority in PEM") from error
    if not issues:
        raise TokenRefused(Refusal.BAD_CLAIMS, "ca: a certificate that is no authority's")
