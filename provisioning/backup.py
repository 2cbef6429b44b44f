"""A fleet in one encrypted file, and back; and what a restored fleet must never do.

The file is the fleet's salt in clear, and behind it everything else under AES-256-GCM with a
key from the passphrase: broker and consumers have private keys without a passphrase, so a
backup in clear would be worth more to a thief than the folder itself.

Since the backup the fleet went on: versions rose, boards were revoked. A restored fleet
must not give a number out again. All counters are raised by the seconds that have passed
and some, because no version is made twice a second on average; serial numbers are random.
Revocations since the backup are taken from the files of a broker that survived, where
there is one; otherwise an administrator has to remember them, and is told so.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography import x509

from edge.errors import InputError, KeyFileError
from edge.files import create_durably, read_bounded, write_durably
from provisioning.authority import Role
from provisioning.fleet import (
    FLEET_FILE,
    REGISTRY_FILE,
    Fleet,
    open_fleet,
)
from provisioning.handover import alone
from provisioning.keys import LOCK_FILE, Ask, KeyStore
from provisioning.registry import CHANGES, Change
from provisioning.whole import make_whole

MAGIC = b"hadir-backup-1\n"
MAX_BACKUP_BYTES = 2 * 1024**3
"""It passes through memory; 300 boards with a gallery of 10,000 people each are 1.5 GB."""

STAMP_FILE = "backup.json"

MARGIN = 1000
"""Added to every counter of a restored fleet besides the seconds since the backup."""

STATE = "state"
"""The broker's queue, which is no use elsewhere."""
HALVES = ".new"
"""Files that were being written."""

_MAX_LOCK_BYTES = 4096
_MAX_BROKER_FILE_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Restored:
    """A fleet as it is after a restore, and what an administrator must know."""

    fleet: Fleet
    made_s: int
    """When the backup was made."""
    revoked: tuple[str, ...]
    """Names that the surviving broker's files said were revoked since."""


def back_up(fleet: Fleet, path: Path, *, now_s: int) -> None:
    """Write the whole fleet into a new file of mode 0600.

    Raises:
        InputError: it exists or cannot be written.
        AlreadyRunning: the fleet's keys are being changed.
        KeyFileError: the passphrase is not the fleet's: nobody would know the one that opens the backup.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; a backup is never overwritten")
    if path.absolute().parent.resolve().is_relative_to(fleet.folder.resolve()):
        raise InputError(
            f"{path}: lies in the fleet's own folder, and goes where that goes; name another place"
        )
    fleet.store.unlock()
    if not path.name.isprintable():
        raise InputError(
            f"{path}: its name stands in the audit for ever, and cannot be printed there; choose another"
        )
    with alone(fleet):  # keys that are just being exchanged would not fit the registry
        with fleet.change("backup", path.name, now_s=now_s):
            pass
        archive = _archive(fleet, now_s)
    lock = read_bounded(fleet.folder / "keys" / LOCK_FILE, _MAX_LOCK_BYTES)
    head = MAGIC + json.dumps(json.loads(lock)).encode() + b"\n"
    try:
        create_durably(path, head + fleet.store.wrap(archive, "backup"))
    except OSError as error:
        raise InputError(f"{path}: the backup cannot be written ({error.strerror})") from error


def restore(path: Path, folder: Path, *, ask: Ask, now_s: int, broker: Path | None = None) -> Restored:
    """Make a fleet's folder from a backup; `broker` is the folder of a broker that survived.

    Raises:
        InputError: the folder exists, the backup cannot be read, or was made after `now_s`.
        KeyFileError: the passphrase is another, or the backup was altered.
    """
    if folder.exists():
        raise InputError(
            f"{folder}: exists already; name a new folder, and compare before you remove the old one"
        )
    content, passphrase = _content(path), ask()
    told: list[tuple[int, tuple[str, ...]]] = []

    def fill(scratch: Path) -> None:
        _unpack(path, content, passphrase, scratch)
        told.append(_bring_up_to_date(scratch, lambda: passphrase, now_s, broker))

    make_whole(folder, fill)
    ((made_s, revoked),) = told
    return Restored(open_fleet(folder, ask=lambda: passphrase), made_s, revoked)


def _archive(fleet: Fleet, now_s: int) -> bytes:
    """A tar file of everything, the registry as a consistent copy."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(fleet.folder):
            archive.add(path, path.relative_to(fleet.folder).as_posix(), recursive=False)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / REGISTRY_FILE
            fleet.registry.back_up(copy)
            archive.add(copy, REGISTRY_FILE)
        _add(archive, STAMP_FILE, json.dumps({"made_s": now_s}).encode())
    if content.tell() > MAX_BACKUP_BYTES:
        raise InputError(f"{fleet.folder}: larger than {MAX_BACKUP_BYTES} bytes; copy it with tools for that")
    return content.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        left_out = STATE in parts or path.suffix == HALVES or parts[0].startswith(REGISTRY_FILE)
        if path.is_file() and not path.is_symlink() and not left_out:
            yield path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


def _content(path: Path) -> tuple[bytes, bytes]:
    """The lock in clear, and what is encrypted."""
    try:
        with path.open("rb") as file:
            magic, lock = file.readline(len(MAGIC)), file.readline(_MAX_LOCK_BYTES)
            wrapped = file.read(MAX_BACKUP_BYTES)
    except OSError as error:
        raise InputError(f"{path}: the backup cannot be read ({error.strerror})") from error
    if magic != MAGIC:
        raise InputError(f"{path}: not a backup of a fleet, or of a later version of hadir-provision")
    return lock, wrapped


def _unpack(path: Path, content: tuple[bytes, bytes], passphrase: str, folder: Path) -> None:
    lock, wrapped = content
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    write_durably(keys / LOCK_FILE, lock)
    store = KeyStore(keys, folder / "offline", lambda: passphrase)
    try:
        unwrapped = store.unwrap(wrapped, "backup")
    except KeyFileError as error:
        raise KeyFileError(
            f"{path}: does not open; the passphrase is another than when it was made, or the file is damaged"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(unwrapped)) as archive:
        for member in archive:
            place = PurePosixPath(member.name)
            if not member.isfile() or place.is_absolute() or ".." in place.parts:
                raise KeyFileError(f"backup: holds {member.name!r}, which is no file of a fleet")
            file = archive.extractfile(member)
            target = folder / place
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(target, file.read() if file else b"", member.mode & 0o755)
    if not (folder / FLEET_FILE).exists():
        raise KeyFileError("backup: holds no fleet")


def _bring_up_to_date(folder: Path, ask: Ask, now_s: int, broker: Path | None) -> tuple[int, tuple[str, ...]]:
    """When the backup was made, and the names that were revoked since, as the broker's files say."""
    stamp = folder / STAMP_FILE
    made_s: int = json.loads(stamp.read_bytes())["made_s"]
    stamp.unlink()
    if now_s < made_s:
        raise InputError(
            f"this machine's clock is {made_s - now_s} s behind the backup's; set it, or versions would be used again"
        )
    fleet = open_fleet(folder, ask=ask)
    with fleet.change("restore", "fleet", now_s=now_s, made_s=made_s) as change:
        # A backup by an earlier program has not counted changes.
        for name in {*fleet.registry.counters(), CHANGES}:
            change.at_least(name, fleet.registry.counter(name) + now_s - made_s + MARGIN)
        names = () if broker is None else _revoked_since(fleet, change, broker)
        change.detail["revoked"] = list(names)
    fleet.write_devices()
    fleet.write_revocation_list(now_s)
    fleet.registry.close()
    return made_s, names


def _revoked_since(fleet: Fleet, change: Change, broker: Path) -> tuple[str, ...]:
    """Take over what the files of a surviving broker deny and revoke."""
    known = {issued.serial for issued in fleet.registry.certificates()}
    for serial in _revoked_serials(fleet, broker / "crl.pem"):
        if serial in known:
            change.revoke_certificate(serial)
        else:
            change.add_revoked_serial(serial)
    devices = {device.device: device.revoked_s for device in fleet.registry.devices()}
    consumers = {consumer.name: consumer.revoked_s for consumer in fleet.registry.consumers()}
    names = []
    for name in _denied(broker / "devices.acl"):
        if consumers.get(name, 0) is None:
            change.revoke_consumer(name)
        elif devices.get(name, 0) is None:
            change.revoke_device(name)
        elif name in devices or name in consumers:
            continue
        elif not name.startswith("central"):
            change.add_revoked_device(name, fleet.site)
        names.append(name)
    return tuple(names)


def _revoked_serials(fleet: Fleet, path: Path) -> list[int]:
    try:
        content = read_bounded(path, _MAX_BROKER_FILE_BYTES)
        lists = [x509.load_pem_x509_crl(part + _END) for part in content.split(_END)[:-1]]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the broker's revocation list cannot be read") from error
    keys: list[Any] = [
        x509.load_pem_x509_certificate(issued.pem.encode()).public_key()
        for issued in fleet.registry.certificates()
        if issued.role is Role.AUTHORITY
    ]
    if not lists or not all(any(one.is_signature_valid(key) for key in keys) for one in lists):
        raise InputError(f"{path}: a revocation list of another fleet's authority")
    return [entry.serial_number for one in lists for entry in one]


_END = b"-----END X509 CRL-----\n"


def _denied(path: Path) -> list[str]:
    """Users whom an access list of ours denies everything."""
    try:
        lines = read_bounded(path, _MAX_BROKER_FILE_BYTES).decode().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the broker's access list cannot be read") from error
    pairs = pairwise(lines)
    return [
        user.removeprefix("user ")
        for user, rule in pairs
        if user.startswith("user ") and rule == "topic deny #"
    ]
