"""Where a board's identities lie: one folder each, and one link that says which of them it is.

A board makes a new identity beside the one it has and changes over by renaming the link, so
that whatever happens in between it has exactly one, whole. An identity is the signing key,
the key that things are sealed to, the certificate, the keys document and the authorities
that the broker's certificate may come from.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import KeyFileError
from edge.files import point_durably, sync_folder, unwritable, write_durably
from edge.steps import IdentityStep, reached
from edge.trust.fleetkeys import FleetKeys, load_keys_document
from edge.trust.identity import (
    load_sealing_key,
    load_signing_key,
    write_private_key,
    write_signing_key,
)
from edge.trust.jws import SigningKey
from edge.trust.seal import KeyEncryptionKey

FOLDER = "identity"
CURRENT = "current"

KEY_FILE = "device.pem"
SEALING_FILE = "sealing.pem"
CERTIFICATE_FILE = "certificate.pem"
KEYS_FILE = "keys.jws"
AUTHORITIES_FILE = "ca.pem"
FOLLOWS_FILE = "follows"
"""The name of the identity whose chain this one goes on with, where it does."""
SUCCESSION_FILE = "succession"
"""The hash of the `key:1` that hands the chain over to this identity."""

CLAIMED, ROTATED = "claim-", "rotation-"
"""How an identity's name begins: by which way it came."""

_NAME = re.compile(rf"(?:{CLAIMED}|{ROTATED})[A-Za-z0-9_-]{{1,64}}")


@dataclass(frozen=True, slots=True)
class Identity:
    """One folder of files; what is missing has not been made yet."""

    folder: Path
    kek: KeyEncryptionKey | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def complete(self) -> bool:
        """Whether a board can work with it."""
        names = (KEY_FILE, SEALING_FILE, CERTIFICATE_FILE, KEYS_FILE, AUTHORITIES_FILE)
        return all((self.folder / name).exists() for name in names)

    @property
    def succession(self) -> Path:
        """Where the hash of its `key:1` is kept."""
        return self.folder / SUCCESSION_FILE

    def follow(self, predecessor: Identity) -> None:
        """This identity is ready to go on with the chain of another. Raises OSError."""
        write_durably(self.folder / FOLLOWS_FILE, predecessor.name.encode("ascii"))

    def follows(self, predecessor: Identity) -> bool:
        """Whether it is ready to go on with this one's chain."""
        try:
            return (self.folder / FOLLOWS_FILE).read_text(encoding="ascii") == predecessor.name
        except FileNotFoundError:
            return False

    def signing_key(self) -> SigningKey:
        """Raises KeyFileError."""
        return load_signing_key(self.folder / KEY_FILE, self.kek)

    def sealing_key(self) -> X25519PrivateKey:
        """Raises KeyFileError."""
        return load_sealing_key(self.folder / SEALING_FILE, self.kek)

    def keys(self, root_thumbprint: str) -> FleetKeys:
        """Raises KeyFileError."""
        return load_keys_document(self.folder / KEYS_FILE, root_thumbprint)

    def put_certificate(self, chain: tuple[str, ...]) -> None:
        """The board's certificate and what leads to the authority."""
        write_durably(self.folder / CERTIFICATE_FILE, _joined(chain))
        reached(IdentityStep.CERTIFICATE_WRITTEN)

    def put_keys(self, trail: bytes, authorities: tuple[str, ...]) -> None:
        """A keys document, verified by the caller. The authorities follow from it, so they come second."""
        write_durably(self.folder / KEYS_FILE, trail)
        reached(IdentityStep.KEYS_STORED)
        self.put_authorities(authorities)

    def take_keys_of(self, other: Identity) -> None:
        """The keys document and authorities that another identity has. Raises OSError."""
        for name in (KEYS_FILE, AUTHORITIES_FILE):
            write_durably(self.folder / name, (other.folder / name).read_bytes())

    def put_authorities(self, authorities: tuple[str, ...]) -> None:
        """Who may have issued the broker's certificate; written only where it changes."""
        path, content = self.folder / AUTHORITIES_FILE, _joined(authorities)
        if not path.exists() or path.read_bytes() != content:
            write_durably(path, content)
        reached(IdentityStep.AUTHORITIES_STORED)


class IdentityStore:
    """All identities of a board, below its state folder."""

    def __init__(self, state_dir: Path, kek: KeyEncryptionKey | None) -> None:
        self.folder = state_dir / FOLDER
        self._kek = kek

    @property
    def current_path(self) -> Path:
        """The link, through which configuration names files that change with the identity."""
        return self.folder / CURRENT

    def current(self) -> Identity | None:
        """The identity in use; None before the first claim."""
        if not self.current_path.is_symlink():
            return None
        return self.named(self.current_path.readlink().name)

    def named(self, name: str) -> Identity:
        """One of the identities, made or not. Raises KeyFileError where no identity can be called that."""
        if not _NAME.fullmatch(name):
            raise KeyFileError(f"{self.folder}: {name[:80]!r} is no identity's name; claim this board anew")
        return Identity(self.folder / name, self._kek)

    def others(self, current: Identity | None) -> tuple[Identity, ...]:
        """Every identity but this one, by name."""
        if not self.folder.is_dir():
            return ()
        names = sorted(path.name for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink())
        return tuple(
            self.named(name)
            for name in names
            if _NAME.fullmatch(name) and (current is None or name != current.name)
        )

    def successor(self) -> Identity | None:
        """The identity that is ready to follow the one in use; None where there is none."""
        current = self.current()
        if current is None:
            return None
        return next((i for i in self.others(current) if i.complete and i.follows(current)), None)

    def begin(self, name: str, sealing_key: X25519PrivateKey | None = None) -> Identity:
        """An identity with keys, made now where they are missing; they are on disk when this returns.

        Raises:
            CannotRecord: they cannot be written.
        """
        identity = self.named(name)
        try:
            identity.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            sync_folder(self.folder)
            if not (identity.folder / KEY_FILE).exists():
                write_signing_key(identity.folder / KEY_FILE, SigningKey.generate(), self._kek)
            reached(IdentityStep.KEY_MADE)
            if not (identity.folder / SEALING_FILE).exists():
                private = sealing_key or X25519PrivateKey.generate()
                write_private_key(identity.folder / SEALING_FILE, private, self._kek)
            reached(IdentityStep.SEALING_KEY_MADE)
        except OSError as error:
            raise unwritable(f"{self.folder}: this board's keys", error) from error
        return identity

    def activate(self, identity: Identity) -> None:
        """From now on this is the board's identity. Raises KeyFileError where it is not complete."""
        if not identity.complete:
            raise KeyFileError(f"{identity.folder}: is not complete; claim this board anew")
        point_durably(self.current_path, identity.name)
        reached(IdentityStep.ACTIVATED)

    def drop_predecessor(self) -> None:
        """Remove the identity that the one in use has followed, where a power cut left it behind."""
        current = self.current()
        for identity in self.others(current):
            if current is not None and current.follows(identity):
                shutil.rmtree(identity.folder)
                sync_folder(self.folder)

    def clean(self) -> None:
        """Remove every identity but the one in use."""
        for identity in self.others(self.current()):
            shutil.rmtree(identity.folder)
        sync_folder(self.folder)
        reached(IdentityStep.CLEANED)


def _joined(certificates: tuple[str, ...]) -> bytes:
    return "".join(pem.rstrip("\n") + "\n" for pem in certificates).encode()
