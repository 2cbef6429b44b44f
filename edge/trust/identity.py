"""Who this board is: a device id that never changes, its site, and its private key."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from edge.errors import InputError, KeyFileError
from edge.trust.jws import SigningKey

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Device and site ids; a device's is also its MQTT user name and client id."""

RESERVED = re.compile(r"claim|provision|central.*")
"""Names that the broker's access list gives to others."""

MAX_KEY_FILE_BYTES = 16 * 1024


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


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key from a PEM file that only its owner may read.

    Raises:
        KeyFileError: missing, not a P-256 or Ed25519 key, readable by others, or somebody else's.
    """
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            pem = file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path}: the private key cannot be read ({error.strerror})") from error
    try:
        private = serialization.load_pem_private_key(pem, password=None)
        return SigningKey.of(private)  # type: ignore[arg-type]  # refuses other kinds itself
    except (ValueError, TypeError, UnsupportedAlgorithm, KeyFileError) as error:
        raise KeyFileError(
            f"{path}: not an unencrypted P-256 or Ed25519 private key in PEM; restore it from where it was made"
        ) from error


def write_signing_key(path: Path, key: SigningKey) -> None:
    """Write a private key to a new file of mode 0600 and sync it.

    Raises:
        KeyFileError: the file exists or cannot be made; nothing is left of it then.
    """
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{path}: exists already, and a private key is never overwritten") from error
    except OSError as error:
        raise KeyFileError(f"{path}: the private key cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()  # half a key would be refused for ever, as damaged and as existing already
        raise KeyFileError(f"{path}: the private key cannot be written ({error.strerror})") from error


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(f"{path}: mode {mode:04o} is readable by others; run: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"{path}: belongs to user {status.st_uid}; it must belong to the daemon's user ({os.geteuid()}) or root"
        )
