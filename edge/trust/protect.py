"""Where a board's key-encryption key comes from: a TPM, systemd's host key, or a file, and which of them it was.

The first-boot unit makes the key once, as root. Where `systemd-creds` can, the key is stored as a
systemd credential, which the service manager opens for the daemon at each start (systemd.exec(5),
LoadCredentialEncrypted=); else it is a file of mode 0600. What protects it is sealed together with
it, so that neither can be told without the other.

Another holder (a secure element, a kernel keyring) is one more function `() -> KeyEncryptionKey | None`
in `SOURCES`; docs/claiming.md says what it must promise.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge.errors import KeyFileError
from edge.files import check_private, create_durably, read_bounded, write_durably
from edge.trust.jws import decode_base64url, encode_base64url
from edge.trust.seal import KEY_BYTES, KeyEncryptionKey, Protection

CREDENTIAL = "hadir-kek"
"""Its name in systemd; also bound into the sealed form, so that it cannot be passed off as another."""

CREDENTIAL_STORE = Path("/etc/credstore.encrypted")
"""Where the service manager looks for it (systemd.exec(5), from version 252 on)."""

SYSTEMD_CREDS = Path("/usr/bin/systemd-creds")
SYSTEMD_CREDS_TIMEOUT_S = 30.0
"""A discrete TPM answers within a second or two."""
UNSEAL_TIMEOUT_S = 5.0
"""Where somebody waits for it at a terminal."""

FILE = "kek"
SEALED_MARK = "kek.sealed"
"""Beside where the file would be: the service manager holds the key, so that nobody makes a second one."""

_MAX_BYTES = 1024

Run = Callable[[tuple[str, ...], bytes], bytes | None]
"""A program's standard output for this input, or None where it fails."""


def load_key_encryption_key(
    state_dir: Path, environment: Mapping[str, str] = os.environ
) -> KeyEncryptionKey | None:
    """The board's key-encryption key; None where it has none, as with keys that were made elsewhere.

    Raises:
        KeyFileError: it is there and cannot be used.
    """
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is not None and (Path(folder) / CREDENTIAL).exists():
        return _parse(_read(Path(folder) / CREDENTIAL, private=False), Path(folder) / CREDENTIAL)
    if (state_dir / SEALED_MARK).exists():
        raise KeyFileError(
            f"{state_dir / SEALED_MARK}: this board's key-encryption key is held by systemd; start hadir by its "
            "units (systemctl start hadir-claim, systemctl start hadir-edge)"
        )
    path = state_dir / FILE
    return _parse(_read(path, private=True), path) if path.exists() else None


def sealed_by(state_dir: Path, environment: Mapping[str, str] = os.environ) -> Protection | None:
    """What holds the key where only the service manager can give it, and did not give it to us; else None.

    Raises KeyFileError where that cannot be read.
    """
    path = state_dir / SEALED_MARK
    if "CREDENTIALS_DIRECTORY" in environment or not path.exists():
        return None
    try:
        return Protection(read_bounded(path, _MAX_BYTES).decode().strip())
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{path}: cannot be read; run `hadir-edge seal` again") from error


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What came of opening the key that systemd holds."""

    kek: KeyEncryptionKey | None = None
    error: KeyFileError | None = None
    """It was tried, and does not open."""
    why: str = "only root can open this board's key, which systemd holds"
    """It was not tried; for people."""


def unseal(store: Path = CREDENTIAL_STORE, program: Path = SYSTEMD_CREDS, run: Run | None = None) -> Unsealed:
    """Open the key that systemd holds, as root, who may ask for it; it comes through a pipe, never to a disk."""
    if not program.exists():
        return Unsealed(why=f"systemd holds this board's key, and {program} is not there to open it")
    try:
        return Unsealed(_opened(store / CREDENTIAL, run or partial(_run, timeout_s=UNSEAL_TIMEOUT_S)))
    except KeyFileError as error:
        return Unsealed(error=error)


def make_key_encryption_key(
    state_dir: Path, *, store: Path = CREDENTIAL_STORE, run: Run | None = None
) -> Protection:
    """Make the key unless there is one; what protects it. Called as root by the first-boot unit, once.

    Raises:
        KeyFileError: it cannot be written.
    """
    if (state_dir / FILE).exists():
        return _parse(_read(state_dir / FILE, private=False), state_dir / FILE).protection
    sealed = store / CREDENTIAL
    if sealed.exists():
        return _opened(sealed, run or _run).protection
    secret = os.urandom(KEY_BYTES)
    with _writing(state_dir):
        for protection in (Protection.TPM2, Protection.HOST):
            credential = _encrypted(secret, protection, run or _run)
            if credential is not None:
                store.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(state_dir / SEALED_MARK, f"{protection}\n".encode())
                write_durably(sealed, credential)
                return protection
    make_key_file(state_dir)
    return Protection.FILE


def make_key_file(state_dir: Path) -> None:
    """Make the key as a file, for boards whose service manager does not hold one.

    Raises:
        KeyFileError: there is one already, or it cannot be written.
    """
    with _writing(state_dir):
        create_durably(state_dir / FILE, _content(os.urandom(KEY_BYTES), Protection.FILE))


@contextmanager
def _writing(state_dir: Path) -> Iterator[None]:
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise KeyFileError(
            f"{error.filename}: the key-encryption key cannot be written ({error.strerror}); check the disk"
        ) from error


def _encrypted(secret: bytes, protection: Protection, run: Run) -> bytes | None:
    """The key as a systemd credential, proven to open again; None where this machine cannot do that."""
    content = _content(secret, protection)
    sealed = run((*_creds("encrypt"), f"--with-key={protection}", "-", "-"), content)
    if sealed is None or run((*_creds("decrypt"), "-", "-"), sealed) != content:
        return None
    return sealed


def _opened(sealed: Path, run: Run) -> KeyEncryptionKey:
    content = run((*_creds("decrypt"), "-", "-"), _read(sealed, private=False))
    if content is None:
        raise KeyFileError(
            f"{sealed}: does not open on this machine; it was made on another, or its TPM was cleared. Remove "
            "it and claim this board anew"
        )
    return _parse(content, sealed)


def _creds(verb: str) -> tuple[str, ...]:
    return (str(SYSTEMD_CREDS), f"--name={CREDENTIAL}", verb)


def _run(command: tuple[str, ...], given: bytes, timeout_s: float = SYSTEMD_CREDS_TIMEOUT_S) -> bytes | None:
    try:
        return subprocess.run(  # noqa: S603 - a fixed path, no shell
            command, input=given, capture_output=True, timeout=timeout_s, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _content(secret: bytes, protection: Protection) -> bytes:
    return json.dumps({"kek": encode_base64url(secret), "protection": protection}).encode() + b"\n"


def _parse(content: bytes, path: Path) -> KeyEncryptionKey:
    try:
        said = json.loads(content)
        return KeyEncryptionKey(decode_base64url(said["kek"].encode()), Protection(said["protection"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KeyFileError(
            f"{path}: not a key-encryption key; restore it, or claim this board anew"
        ) from error


def _read(path: Path, *, private: bool) -> bytes:
    try:
        if private:
            check_private(path, path.stat())
        return read_bounded(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(f"{path}: the key-encryption key cannot be read ({why})") from error
