"""A fleet's directory: made whole or not at all, private to the administrator, opened by every command.

::

    fleet.json       which fleet it is: the thumbprint of its root key, its first site
    registry.db      boards, keys, certificates, claims, consumers, audit
    keys.jws         the keys document: what boards and servers trust (public)
    devices.jwks     which board owns which key, for the server (public)
    offline/         root key and the authority's root: carry this folder away
    keys/            all other private keys
    ca/              certificates of the authority and its revocation list (public)
    boards/, broker/, consumers/    what goes to boards, to the broker, to servers
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import InputError, KeyFileError
from edge.files import read_bounded, write_durably
from edge.trust.fleetkeys import (
    ENROL,
    MAX_TRAIL_BYTES,
    USES,
    FleetKeys,
    load_keys_document,
    sign_keys_document,
)
from edge.trust.identity import ID_PATTERN, site_urn
from edge.trust.jws import SigningKey
from provisioning import audit
from provisioning.authority import (
    CRL_KEEPS,
    PROVISION,
    Authority,
    Role,
    make_issuing,
    make_root,
    moment,
    pem,
)
from provisioning.entries import Device, Issued
from provisioning.keys import SCRYPT_N, Ask, KeyStore, read_passphrase
from provisioning.registry import CHANGES, Change, Registry, check_site, create_registry
from provisioning.whole import make_whole

FLEET_FILE = "fleet.json"
REGISTRY_FILE = "registry.db"
LOCK_FILE = "files.lock"
DEVICES_FILE = "devices.jwks"
KEYS_FILE = "keys.jws"
DEFAULT_SITE = "main"

ROOT = "root"
CA_ROOT = "ca-root"
CA = "ca"
PROVISION_TLS = "provision-tls"
"""Names of keys that are not fleet keys of one use, in the key store."""

NEXT, OLD = "next-", "old-"
"""How the names of keys and certificates begin that are not yet, and not any more, the fleet's (`handover`)."""

KEYS_VERSION = "keys-version"
CRL_NUMBER = "crl-number"
GALLERY_VERSION = "gallery-version"
"""Names of counters in the registry."""

_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fleet:
    """An existing fleet directory. Private keys are unlocked only when they are needed."""

    folder: Path
    site: str
    """The site of boards that name none, and of the fleet's own copy of the gallery."""
    root_thumbprint: str
    registry: Registry
    store: KeyStore

    @property
    def issuer(self) -> str:
        return f"urn:hadir:fleet:{self.root_thumbprint}"

    @property
    def audience(self) -> str:
        return site_urn(self.site)

    @property
    def keys(self) -> FleetKeys:
        """The newest keys document, verified under the fleet's root. Raises KeyFileError."""
        return load_keys_document(self.folder / KEYS_FILE, self.root_thumbprint)

    def boards(self) -> tuple[Path, ...]:
        """The folder of each board that is not revoked, named by its device id."""
        return tuple(self.board_folder(device.device) for device in self.active_devices())

    def active_devices(self) -> tuple[Device, ...]:
        """Every board that is not revoked, by id."""
        return tuple(device for device in self.registry.devices() if device.revoked_s is None)

    def board_folder(self, device: str) -> Path:
        """What is for this board alone; made where it is not there yet."""
        folder = self.folder / "boards" / device
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def signing_key(self, use: str) -> SigningKey:
        """The fleet's private key of this use. Raises KeyFileError."""
        return self.store.signing_key(use, offline=use == ROOT)

    def authority(self) -> Authority:
        """What issues certificates. Raises KeyFileError."""
        return self._authority("")

    def certificate(self, name: str) -> x509.Certificate:
        """A certificate of `ca/`. Raises KeyFileError."""
        path = self.folder / "ca" / f"{name}.crt"
        try:
            return x509.load_pem_x509_certificate(read_bounded(path, _MAX_FILE_BYTES))
        except (OSError, ValueError) as error:
            raise KeyFileError(f"{path}: the certificate cannot be read; restore it from a backup") from error

    def change(
        self, action: str, subject: str, *, now_s: int, **detail: Any
    ) -> AbstractContextManager[Change]:
        """A transaction on the registry, audited under the name of whoever runs this."""
        return self.registry.change(action, subject, who=audit.current_user(), now_s=now_s, **detail)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Alone among all commands while files are made from the registry: the last to write has read the newest."""
        with (self.folder / LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write_devices(self) -> Path:
        """Write anew what servers verify against: `devices.jwks`, and all that each consumer's folder has of it."""
        with self.writing():
            return self._write_devices()

    def _write_devices(self) -> Path:
        # Before all else is read: what changes meanwhile makes the file newer than it says, never older.
        version = self.registry.counter(CHANGES)
        sites = {device.device: device.site for device in self.registry.devices()}
        entries: list[dict[str, Any]] = [
            {
                **key.jwk,
                "kid": key.kid,
                "device": key.device,
                "site": sites[key.device],
                "chain": key.chain,
                "first_seq": key.first_seq,
                "last_seq": key.last_seq,
                "revoked_at": key.revoked_s,
            }
            for key in self.registry.device_keys()
        ]
        content = json.dumps({"version": version, "keys": entries}, indent=2).encode() + b"\n"
        keys = read_bounded(self.folder / KEYS_FILE, MAX_TRAIL_BYTES)
        for consumer in self.registry.consumers():
            folder = self.folder / "consumers" / consumer.name
            if consumer.revoked_s is None and folder.is_dir():
                # Public, and readable by whichever user the server's folder was given to.
                write_durably(folder / DEVICES_FILE, content, 0o644)
                write_durably(folder / KEYS_FILE, keys, 0o644)
                write_durably(folder / "ca.crt", self.authorities().encode(), 0o644)
        path = self.folder / DEVICES_FILE
        write_durably(path, content)
        return path

    def authorities(self) -> str:
        """In PEM, all that certificates of the broker may come from, by the newest keys document."""
        return "".join(self.keys.authorities)

    def write_revocation_list(self, now_s: int) -> Path:
        """Issue the revocation list anew, for another year."""
        with self.writing():
            return self._write_revocation_list(now_s)

    def _write_revocation_list(self, now_s: int) -> Path:
        with self.change("crl", "fleet", now_s=now_s) as change:
            number = change.next(CRL_NUMBER)
            change.detail["number"] = number
        revoked = [
            (issued.serial, moment(issued.revoked_s))
            for issued in self.registry.certificates()
            if issued.revoked_s is not None and _counts(issued, now_s)
        ]
        path = self.folder / "ca" / "crl.pem"
        lists = [authority.revocation_list(revoked, number, moment(now_s)) for authority in self._issuing()]
        write_durably(path, "".join(pem(one) for one in lists).encode(), 0o644)
        return path

    def _issuing(self) -> tuple[Authority, ...]:
        """The authority, and in a handover the one before it, whose certificates boards still have."""
        if not self.store.path(f"{OLD}{CA}").exists():
            return (self.authority(),)
        return (self.authority(), self._authority(OLD))

    def _authority(self, prefix: str) -> Authority:
        certificate, key = self.certificate(f"{prefix}issuing"), self.store.elliptic(f"{prefix}{CA}")
        if certificate.public_key() != key.public_key():
            raise KeyFileError(
                f"{self.folder}: {prefix}issuing.crt is not for the key {prefix}{CA}.pem: a change of the fleet's keys "
                "was cut off; run `hadir-provision rotate-fleet` again, or restore a backup"
            )
        return Authority(self.certificate(f"{prefix}root"), certificate, key)

    def refreshed(self) -> Fleet:
        """The same after another command has changed the root."""
        return replace(self, root_thumbprint=_described(self.folder)[1])


def _counts(issued: Issued, now_s: int) -> bool:
    """Whether a revoked certificate is to be listed; of those that a restored registry found, nobody knows the end."""
    return not issued.not_after_s or issued.not_after_s + CRL_KEEPS.total_seconds() >= now_s


def init_fleet(
    folder: Path,
    *,
    site: str = DEFAULT_SITE,
    ask: Ask = read_passphrase,
    now_s: int | None = None,
    scrypt_n: int = SCRYPT_N,
) -> Fleet:
    """Make a fleet's directory with all its keys, complete or not at all.

    Raises:
        InputError: the folder exists or cannot be made, or the site's id cannot be used.
    """
    check_site(site)
    if folder.exists():
        raise InputError(f"{folder}: exists already; a fleet's keys are never overwritten. Name a new folder")
    if folder.absolute().parent.is_dir():
        _check_around(folder)
    passphrase = ask()
    fill = partial(
        _fill,
        site=site,
        ask=lambda: passphrase,
        now_s=int(time.time()) if now_s is None else now_s,
        scrypt_n=scrypt_n,
    )
    make_whole(folder, fill)
    return open_fleet(folder, ask=lambda: passphrase)


def open_fleet(folder: Path, *, ask: Ask = read_passphrase, offline: Path | None = None) -> Fleet:
    """Open a fleet's directory; `offline` is where its root keys were carried to.

    Raises:
        KeyFileError: it is none, damaged, or others could read or change it; says what it should be.
    """
    site, root_thumbprint = _described(folder)
    check_private_places(folder)
    store = KeyStore(folder / "keys", offline or folder / "offline", ask)
    load_keys_document(folder / KEYS_FILE, root_thumbprint)
    return Fleet(folder, site, root_thumbprint, Registry(folder / REGISTRY_FILE), store)


def _described(folder: Path) -> tuple[str, str]:
    """The first site and the root key's thumbprint. Raises KeyFileError."""
    try:
        description = json.loads(read_bounded(folder / FLEET_FILE, _MAX_FILE_BYTES))
        site, root_thumbprint = description["site"], description["root_thumbprint"]
        if not isinstance(root_thumbprint, str) or not ID_PATTERN.fullmatch(site):
            raise ValueError("no site or no root key")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyFileError(
            f"{folder}: not a fleet's folder ({FLEET_FILE} cannot be read); make one with `hadir-provision init`"
        ) from error
    return site, root_thumbprint


def check_private_places(folder: Path) -> None:
    """Raise KeyFileError where anybody else could read the fleet's secrets or put others in their place."""
    _check_around(folder)
    for path, forbidden in (
        (folder, 0o022),
        (folder / "keys", 0o077),
        (folder / "offline", 0o077),
        (folder / REGISTRY_FILE, 0o077),
        *((folder / name, 0o022) for name in ("boards", "ca", "consumers")),
    ):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # offline is carried away; what else is missing is missed where it is needed
        mode = stat.S_IMODE(status.st_mode)
        if mode & forbidden:
            allowed = mode & ~forbidden
            raise KeyFileError(f"{path}: mode {mode:04o} lets others in; run: chmod {allowed:04o} {path}")
        if status.st_uid not in (os.geteuid(), 0):
            raise KeyFileError(
                f"{path}: belongs to user {status.st_uid}; it must belong to you ({os.geteuid()}) or root"
            )


def _check_around(folder: Path) -> None:
    """Whoever may write beside a fleet could put one of their own in its place, and be told the passphrase."""
    around = folder.resolve().parent
    mode = stat.S_IMODE(around.stat().st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise KeyFileError(
            f"{around}: mode {mode:04o} lets everybody put another folder in place of {folder}; run: chmod o-w {around}"
        )


def _fill(folder: Path, *, site: str, ask: Ask, now_s: int, scrypt_n: int) -> None:
    now = moment(now_s)
    for name in ("boards", "ca"):
        (folder / name).mkdir(mode=0o700)
    store = KeyStore.create(folder / "keys", folder / "offline", ask, scrypt_n=scrypt_n)
    root, authority = SigningKey.generate(), _make_authority(store, now)
    document = _make_fleet_keys(store, root, pem(authority.root), now_s)
    write_durably(folder / KEYS_FILE, document.encode() + b"\n")
    for name, certificate in (("root", authority.root), ("issuing", authority.certificate)):
        write_durably(folder / "ca" / f"{name}.crt", pem(certificate).encode(), 0o644)
    description = {"site": site, "root_thumbprint": root.kid, "made_s": now_s}
    write_durably(folder / FLEET_FILE, json.dumps(description).encode() + b"\n")
    registry = create_registry(folder / REGISTRY_FILE)
    try:
        fleet = Fleet(folder, site, root.kid, registry, store)
        _register(fleet, authority, now_s)
        fleet.write_revocation_list(now_s)
        fleet.write_devices()
    finally:
        registry.close()


def _make_authority(store: KeyStore, now: datetime) -> Authority:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    store.save(CA_ROOT, root_key, offline=True)
    store.save(CA, key)
    root = make_root(root_key, "Hadir fleet root", now)
    return Authority(root, make_issuing(root_key, root, key.public_key(), "Hadir fleet", now), key)


def _make_fleet_keys(store: KeyStore, root: SigningKey, authority: str, now_s: int) -> str:
    """One key of each use; the document that lists them, version 1."""
    keys = {use: SigningKey.generate() for use in USES if use not in (ROOT, ENROL)}
    enrol = X25519PrivateKey.generate()
    for use, private in ({use: key.private for use, key in keys.items()} | {ENROL: enrol}).items():
        store.save(use, private)
    store.save(ROOT, root.private, offline=True)
    return sign_keys_document(
        root, keys, version=1, now_s=now_s, sealing=[enrol.public_key()], authorities=[authority]
    )


def _register(fleet: Fleet, authority: Authority, now_s: int) -> None:
    """What the registry knows from the start: the authority, and provisioning's own way to the broker."""
    key = ec.generate_private_key(ec.SECP256R1())
    fleet.store.save(PROVISION_TLS, key)
    certificate = authority.issue_provision(key.public_key(), moment(now_s))
    with fleet.change("init", fleet.root_thumbprint, now_s=now_s, site=fleet.site) as change:
        change.at_least(KEYS_VERSION, 1)
        change.add_certificate(authority.root, Role.AUTHORITY, "root")
        change.add_certificate(authority.certificate, Role.AUTHORITY, "issuing")
        change.add_certificate(certificate, Role.PROVISION, PROVISION)
    write_durably(
        fleet.folder / "ca" / f"{PROVISION}.crt", (pem(certificate) + authority.chain).encode(), 0o644
    )
