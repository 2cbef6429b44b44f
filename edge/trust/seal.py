"""Secrets on the way and at rest: sealed to one board, or encrypted under its key-encryption key.

On the way: HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM).
`info` names purpose and board, so that what was sealed for one cannot be opened as another.
Base mode says nothing of the sender; whatever is sealed carries a signature inside.

At rest: one key-encryption key, from which a passphrase is derived for each private key's file
(PKCS #8, which TLS can read as well), and one AES-256-GCM key for each purpose.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.jws import decode_base64url, encode_base64url

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

OVERHEAD_BYTES = 32 + 16
"""Of what is sealed: the encapsulated key (RFC 9180, section 7.1) and GCM's tag."""

KEY_BYTES = 32
_NONCE_BYTES = 12


class Protection(StrEnum):
    """What keeps a board's keys from whoever steals its card; told in every status as `key_protection`."""

    TPM2 = "tpm2"
    """The key-encryption key opens only on this machine's TPM 2."""
    HOST = "host"
    """It opens with systemd's host key, which lies on the same card: no protection once the card is taken."""
    FILE = "file"
    """It lies beside the keys, readable by the daemon's user and root."""


def seal(plaintext: bytes, public: X25519PublicKey, purpose: str, device: str) -> bytes:
    """Encrypt so that only the holder of the private half can read it, as this purpose of this board."""
    return _SUITE.encrypt(plaintext, public, info=_info(purpose, device))


def open_sealed(sealed: bytes, private: X25519PrivateKey, purpose: str, device: str) -> bytes:
    """What was sealed for this purpose and board.

    Raises:
        TokenRefused: sealed for another key, purpose or board, or altered: which cannot be told apart.
    """
    if len(sealed) < OVERHEAD_BYTES:
        raise TokenRefused(Refusal.MALFORMED, f"sealed: {len(sealed)} bytes are too few")
    try:
        return _SUITE.decrypt(sealed, private, info=_info(purpose, device))
    except (InvalidTag, ValueError) as error:
        raise TokenRefused(
            Refusal.CANNOT_OPEN, f"sealed for another key, purpose or board than {purpose} of {device}"
        ) from error


def parse_sealing_key(text: str) -> X25519PublicKey:
    """The public half from base64url (RFC 7748, section 6.1: 32 bytes). Raises TokenRefused."""
    try:
        return X25519PublicKey.from_public_bytes(decode_base64url(text.encode()))
    except ValueError as error:
        raise TokenRefused(Refusal.MALFORMED, f"not an X25519 public key: {error}") from error


def sealing_key_text(public: X25519PublicKey) -> str:
    """The public half as it travels."""
    return encode_base64url(public.public_bytes_raw())


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """The one secret under which everything secret of a board lies on its disk."""

    secret: bytes = field(repr=False)
    protection: Protection

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise KeyFileError(
                f"the key-encryption key has {len(self.secret)} bytes, expected {KEY_BYTES}; restore it, or "
                "claim this board anew"
            )

    def passphrase(self) -> bytes:
        """For this board's private key files."""
        return encode_base64url(derive(self.secret, "hadir:v1:key-files")).encode()

    def wrap(self, plaintext: bytes, purpose: str, device: str) -> bytes:
        """Encrypt for this board's own disk, bound to a purpose."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(purpose, device).encrypt(nonce, plaintext, _info(purpose, device))

    def unwrap(self, wrapped: bytes, purpose: str, device: str) -> bytes:
        """What was wrapped for this purpose. Raises TokenRefused where it was not, or is damaged."""
        nonce, rest = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return self._cipher(purpose, device).decrypt(nonce, rest, _info(purpose, device))
        except (InvalidTag, ValueError) as error:
            raise TokenRefused(
                Refusal.CANNOT_OPEN, f"not encrypted under this board's key for {purpose}, or damaged"
            ) from error

    def _cipher(self, purpose: str, device: str) -> AESGCM:
        return AESGCM(derive(self.secret, f"hadir:v1:at-rest:{purpose}:{device}"))


def derive(secret: bytes, info: str, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 without salt (RFC 5869; section 3.1 allows that for secrets of full entropy)."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info.encode()).derive(secret)


def _info(purpose: str, device: str) -> bytes:
    return f"hadir:v1:{purpose}:{device}".encode()
