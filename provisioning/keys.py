"""The fleet's private keys: files that only the administrator can read, encrypted under a passphrase.

Each file is PKCS #8 in PEM (RFC 5958), which any tool can read. Its password is not the
passphrase itself but 256 bits that scrypt makes from it and from the fleet's salt, because
PKCS #8 as OpenSSL writes it stretches a password by 2,048 rounds only: so a stolen folder is
as strong as scrypt makes the passphrase. The root keys lie in a folder of their own that can
be carried away; everyday work needs none of them.

The passphrase is asked for, or read from a file that HADIR_PASSPHRASE_FILE names, or from
HADIR_PASSPHRASE; never from an argument, which every user of the machine could read.
"""

from __future__ import annotations

import getpass
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edge.errors import InputError, KeyFileError
from edge.files import check_private, read_bounded, write_durably
from edge.trust.jws import PrivateKey, SigningKey, decode_base64url, encode_base64url

PASSPHRASE_FILE = "HADIR_PASSPHRASE_FILE"  # noqa: S105 - a variable's name
PASSPHRASE = "HADIR_PASSPHRASE"  # noqa: S105 - a variable's name
MIN_PASSPHRASE = 8
MAX_PASSPHRASE_BYTES = 1024

SCRYPT_N = 2**16
"""With r = 8 and p = 2: OWASP's Password Storage Cheat Sheet; 64 MiB and 0.2 s here."""
_MAX_SCRYPT_N = 2**20
_SCRYPT_R = 8
_SCRYPT_P = 2
_SALT_BYTES = 16
_NONCE_BYTES = 12

LOCK_FILE = "lock.json"
"""The fleet's salt, and what scrypt costs: no secret, but without it no passphrase opens anything."""

_MAX_FILE_BYTES = 16 * 1024

_KEY_FILES = "key-files"
"""What the password of key files is derived for."""

Ask = Callable[[], str]
"""Gives the passphrase, when it is first needed."""

Private = PrivateKey | X25519PrivateKey


def read_passphrase(environment: Mapping[str, str] = os.environ) -> str:
    """The fleet's passphrase, from where the administrator put it.

    Raises:
        KeyFileError: the file cannot be read, or others can read it.
        InputError: there is neither file nor variable nor terminal.
    """
    if PASSPHRASE_FILE in environment:
        return _passphrase_in(Path(environment[PASSPHRASE_FILE]))
    if PASSPHRASE in environment:
        return environment[PASSPHRASE]
    if sys.stdin.isatty():
        return getpass.getpass("passphrase of the fleet's keys: ")
    raise InputError(
        "the fleet's keys need their passphrase: run this in a terminal, or name a file of mode 0600 in "
        f"{PASSPHRASE_FILE}"
    )


def choose_passphrase(environment: Mapping[str, str] = os.environ) -> str:
    """The passphrase of a fleet that is being made: as `read_passphrase`, asked for twice. Raises the same."""
    first = read_passphrase(environment)
    asked = PASSPHRASE_FILE not in environment and PASSPHRASE not in environment
    if asked and getpass.getpass("once more: ") != first:
        raise InputError("the two passphrases differ; nothing was made")
    if len(first) < MIN_PASSPHRASE:
        raise InputError(
            f"the passphrase has {len(first)} characters; at least {MIN_PASSPHRASE} are needed, several words are best"
        )
    return first


class KeyStore:
    """The private keys of one fleet, by name; unlocked when the first is needed."""

    def __init__(self, folder: Path, offline: Path, ask: Ask) -> None:
        self._folder = folder
        self._offline = offline
        self._ask = ask
        self._secret: bytes | None = None

    @classmethod
    def create(cls, folder: Path, offline: Path, ask: Ask, *, scrypt_n: int = SCRYPT_N) -> KeyStore:
        """Make the two folders with a salt of their own. `scrypt_n` is the cost (RFC 7914, section 2)."""
        for path in (folder, offline):
            path.mkdir(mode=0o700)
        lock = {"kdf": "scrypt", "n": scrypt_n, "salt": encode_base64url(os.urandom(_SALT_BYTES))}
        write_durably(folder / LOCK_FILE, json.dumps(lock).encode() + b"\n")
        return cls(folder, offline, ask)

    def unlock(self) -> None:
        """Have the passphrase asked for now, where it was not yet: somebody may take long to type it.

        Raises KeyFileError where it is not this fleet's.
        """
        self._unlocked()

    def path(self, name: str, *, offline: bool = False) -> Path:
        """Where the key of this name lies."""
        return (self._offline if offline else self._folder) / f"{name}.pem"

    def save(self, name: str, private: Private, *, offline: bool = False) -> Path:
        """Encrypt a key into its file; one that is there already is replaced whole."""
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self.file_password()),
        )
        path = self.path(name, offline=offline)
        write_durably(path, pem)
        return path

    def signing_key(self, name: str, *, offline: bool = False) -> SigningKey:
        """A key that signs. Raises KeyFileError."""
        return SigningKey.of(self.elliptic(name, offline=offline))

    def elliptic(self, name: str, *, offline: bool = False) -> ec.EllipticCurvePrivateKey:
        """A P-256 key. Raises KeyFileError."""
        private = self._load(self.path(name, offline=offline), offline)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise KeyFileError(
                f"{self.path(name, offline=offline)}: not a P-256 key; restore it from a backup"
            )
        return private

    def sealing_key(self, name: str) -> X25519PrivateKey:
        """The key that opens what was sealed to it. Raises KeyFileError."""
        private = self._load(self.path(name), offline=False)
        if not isinstance(private, X25519PrivateKey):
            raise KeyFileError(f"{self.path(name)}: not an X25519 key; restore it from a backup")
        return private

    def file_password(self) -> bytes:
        """The password of every key file, for programs that read such files themselves (TLS)."""
        return encode_base64url(self._derive(_KEY_FILES)).encode()

    def wrap(self, plaintext: bytes, purpose: str) -> bytes:
        """Encrypt what the registry keeps secret, bound to a purpose."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._derive("registry")).encrypt(nonce, plaintext, purpose.encode())

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        """What was wrapped for this purpose. Raises KeyFileError: another passphrase, or damaged."""
        nonce, rest = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(self._derive("registry")).decrypt(nonce, rest, purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise KeyFileError(
                f"registry: the secret of {purpose} does not open; the passphrase is another, or the registry damaged"
            ) from error

    def _load(self, path: Path, offline: bool) -> object:
        try:
            check_private(path, path.stat())
            pem = read_bounded(path, _MAX_FILE_BYTES)
        except FileNotFoundError as error:
            advice = (
                "it is kept offline: bring it, and name its folder with --offline"
                if offline
                else "restore it from a backup"
            )
            raise KeyFileError(f"{path}: is not there; {advice}") from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise KeyFileError(f"{path}: the private key cannot be read ({why})") from error
        try:
            return serialization.load_pem_private_key(pem, self.file_password())
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _does_not_open(path) from error

    def _derive(self, purpose: str) -> bytes:
        return _derived(self._unlocked(), purpose)

    def _unlocked(self) -> bytes:
        if self._secret is None:
            secret = self._stretched(self._ask())
            self._check_opens(secret)
            self._secret = secret
        return self._secret

    def _check_opens(self, secret: bytes) -> None:
        """Raise KeyFileError where no key of this fleet opens.

        Else a slip in the passphrase would encrypt what is made now under a word that nobody knows: the next keys of
        a fleet, a claim's secret, a backup.
        """
        held = sorted(self._folder.glob("*.pem"))
        password = encode_base64url(_derived(secret, _KEY_FILES)).encode()
        if held and not any(_opens(path, password) for path in held):
            raise _does_not_open(held[0])

    def _stretched(self, passphrase: str) -> bytes:
        path = self._folder / LOCK_FILE
        try:
            lock = json.loads(read_bounded(path, _MAX_FILE_BYTES))
            salt, cost = decode_base64url(lock["salt"].encode()), lock["n"]
            if cost > _MAX_SCRYPT_N:
                raise ValueError(f"n = {cost} would take more memory than a machine has")
            kdf = Scrypt(salt=salt, length=32, n=cost, r=_SCRYPT_R, p=_SCRYPT_P)
            return kdf.derive(passphrase.encode())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyFileError(
                f"{path}: the fleet's salt cannot be read, and nothing opens without it; restore it from a backup"
            ) from error


def _derived(secret: bytes, purpose: str) -> bytes:
    info = f"hadir:v1:fleet:{purpose}".encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def _opens(path: Path, password: bytes) -> bool:
    try:
        serialization.load_pem_private_key(read_bounded(path, _MAX_FILE_BYTES), password)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _does_not_open(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path}: does not open; the passphrase is another than this fleet's, or the file is damaged"
    )


def _passphrase_in(path: Path) -> str:
    """The first line of a file that only its owner may read; or of a pipe, from a program that keeps passwords."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
            raise ValueError("not a file")
        check_private(path, status)
        text = read_bounded(path, MAX_PASSPHRASE_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(
            f"{path}: the passphrase cannot be read ({why}); it is what {PASSPHRASE_FILE} names"
        ) from error
    first = text.split("\n", 1)[0].rstrip("\r")
    if not first:
        raise KeyFileError(f"{path}: its first line is empty, and should be the passphrase")
    return first
