"""Who this board is: a device id that never changes, its site, and its private key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import InputError, KeyFileError
from edge.files import check_private, create_durably
from edge.trust.jws import PrivateKey, SigningKey
from edge.trust.seal import KeyEncryptionKey

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Device and site ids; a device's is also its MQTT user name and client id."""

RESERVED = re.compile(r"claim|provision|central.*")
"""Names that the broker's access list gives to others."""

MAX_KEY_FILE_BYTES = 16 * 1024

_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
"""RFC 7468, section 11."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Under which name this board signs, and for whom."""

    device: str
    site: str
    key: SigningKey

    @property
    def issuer(self) -> str:
        return device_urn(self.device)

    @property
    def audience(self) -> str:
        return site_urn(self.site)


def device_urn(device: str) -> str:
    """`iss` of a board's tokens."""
    return f"urn:hadir:device:{device}"


def site_urn(site: str) -> str:
    """`aud` of a board's tokens, and of a site's gallery."""
    return f"urn:hadir:site:{site}"


def check_device_id(device: str) -> str:
    """The id itself. Raises InputError where it cannot be one."""
    if not ID_PATTERN.fullmatch(device) or RESERVED.fullmatch(device):
        raise InputError(
            f"device id {device!r}: must match {ID_PATTERN.pattern} and not be claim, provision or central…"
        )
    return device


def load_signing_key(path: Path, kek: KeyEncryptionKey | None = None) -> SigningKey:
    """Read a private key from a PEM file that only its owner may read, encrypted under `kek` or not at all.

    Raises:
        KeyFileError: missing, not a P-256 or Ed25519 key, readable by others, or somebody else's.
    """
    private = _load_private(path, kek, "P-256 or Ed25519")
    try:
        return SigningKey.of(private)  # type: ignore[arg-type]  # refuses other kinds itself
    except (KeyFileError, TypeError) as error:
        raise _not_a_key(path, "P-256 or Ed25519") from error


def load_sealing_key(path: Path, kek: KeyEncryptionKey | None = None) -> X25519PrivateKey:
    """Read the private key with which this board opens what was sealed to it. Raises KeyFileError."""
    private = _load_private(path, kek, "X25519")
    if not isinstance(private, X25519PrivateKey):
        raise _not_a_key(path, "X25519")
    return private


def write_signing_key(path: Path, key: SigningKey, kek: KeyEncryptionKey | None = None) -> None:
    """Write a private key to a new file of mode 0600, encrypted where a key for that is given; durable on return.

    Raises:
        KeyFileError: the file exists or cannot be made; nothing is left of it then.
    """
    write_private_key(path, key.private, kek)


def write_private_key(
    path: Path, private: PrivateKey | X25519PrivateKey, kek: KeyEncryptionKey | None = None
) -> None:
    """As `write_signing_key`, for every kind of key."""
    encryption = (
        serialization.NoEncryption()
        if kek is None
        else serialization.BestAvailableEncryption(kek.passphrase())
    )
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        create_durably(path, pem)
    except FileExistsError as error:
        raise KeyFileError(f"{path}: exists already, and a private key is never overwritten") from error
    except OSError as error:
        raise KeyFileError(f"{path}: the private key cannot be written ({error.strerror})") from error


def _load_private(path: Path, kek: KeyEncryptionKey | None, kinds: str) -> object:
    try:
        with path.open("rb") as file:
            check_private(path, os.fstat(file.fileno()))
            pem = file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path}: the private key cannot be read ({error.strerror})") from error
    encrypted = _ENCRYPTED in pem
    if encrypted and kek is None:
        raise KeyFileError(
            f"{path}: is encrypted under this board's key-encryption key, which is missing; start the daemon by "
            "its unit, or restore the file kek of device.state_dir"
        )
    try:
        passphrase = kek.passphrase() if encrypted and kek is not None else None
        return serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise KeyFileError(
                f"{path}: does not open under this board's key-encryption key; it is damaged or was made on "
                "another board. Claim this board anew"
            ) from error
        raise _not_a_key(path, kinds) from error


def _not_a_key(path: Path, kinds: str) -> KeyFileError:
    return KeyFileError(
        f"{path}: not an unencrypted {kinds} private key in PEM; restore it from where it was made"
    )
