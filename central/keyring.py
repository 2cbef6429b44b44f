"""Whose keys are believed now: the registry of provisioning, read again when it changes, and what chains hand over.

`key:1` is the old key's last token in its chain and names the next key, so that a board's
rotation does not wait for a file to be copied.

The file is copied by hand, and an older copy would undo revocations without a word. So none is
taken that is older than the one before, and a key that was once found revoked stays so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, or_, select

from central.registry import Registration, Registry, load_registry
from central.store import tables
from central.store.statements import insert_new
from central.verify import Received
from edge.errors import KeyFileError
from edge.trust.jws import key_from_jwk
from edge.trust.tokens import BOARD_TYPS, KEY

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handover:
    """One key's last token, and the key that goes on after it."""

    device: str
    chain: str
    seq: int
    old_kid: str
    new_jwk: Mapping[str, Any]


class Keyring:
    """The registrations that hold now. Raises KeyFileError where the registry cannot be read at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._file = load_registry(path)
        self._handovers: dict[tuple[str, str, int], Handover] = {}
        self._revoked: Mapping[str, int] = {}
        self.registry = self._file

    def reload_if_changed(self) -> bool:
        """Read the registry again if its file is another; keeps the old one where the new cannot be used."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            found = load_registry(self._path)
            _check_not_older(self._path, found, self._file.version)
        except KeyFileError as error:
            log.error("the registry as it was is kept: %s", error)
            return False
        self._file = found
        self._merge()
        log.info("registry: %d keys, read again", len(self._file.registrations))
        return True

    def require(self, version: int) -> None:
        """Raise KeyFileError where the file is older than this, which was taken before."""
        _check_not_older(self._path, self._file, version)

    def learn(self, connection: Connection) -> bool:
        """What this and other consumers have stored of keys; whether any of the handovers is new."""
        revoked = _stored_revocations(connection)
        if revoked != self._revoked:
            self._revoked = revoked
            self._merge()
        return bool(self.hand_over(_stored_handovers(connection)))

    def hand_over(self, handovers: Iterable[Handover]) -> list[Handover]:
        """Believe the next keys of these chains; those that were not known before."""
        new = {(one.device, one.chain, one.seq): one for one in handovers}
        new = {place: one for place, one in new.items() if place not in self._handovers}
        if new:
            self._handovers |= new
            self._merge()
        return list(new.values())

    @property
    def version(self) -> int:
        """Of the file that holds now; 0 where it has none."""
        return self._file.version

    @property
    def revoked(self) -> dict[str, str]:
        """Revoked keys: their boards by kid."""
        registrations = self.registry.registrations.items()
        return {kid: one.device for kid, one in registrations if one.revoked_at is not None}

    def _merge(self) -> None:
        registrations = {
            kid: _withdrawn(registration, self._revoked.get(kid))
            for kid, registration in self._file.registrations.items()
        }
        for one in sorted(self._handovers.values(), key=lambda one: (one.device, one.chain, one.seq)):
            _apply(registrations, one, self._revoked)
        self.registry = Registry(registrations, self._file.version)


def handover_of(received: Received) -> Handover | None:
    """What a `key:1` says, where it is one and its signer is the key that it retires."""
    event = received.event
    if event.type != KEY or event.payload["old_kid"] != received.kid:
        return None
    return Handover(received.device, event.chain, event.seq, received.kid, event.payload["new_jwk"])


def note_handovers(connection: Connection, arrived: Sequence[tuple[int, Received]]) -> None:
    """Store what these events hand over, for all consumers."""
    found = ((chain_id, handover_of(received)) for chain_id, received in arrived)
    rows = [
        {
            "chain_id": chain_id,
            "seq": one.seq,
            "old_kid": one.old_kid,
            "new_jwk": json.dumps(dict(one.new_jwk)),
        }
        for chain_id, one in found
        if one is not None
    ]
    insert_new(connection, tables.handover, rows, ["seq"])


def note_taken(connection: Connection, consumer: str, version: int, now_ms: int) -> None:
    """Store that this consumer works with this version of the file; one without a version says nothing."""
    rows = [{"consumer": consumer, "version": version, "taken_ms": now_ms}] if version else []
    insert_new(connection, tables.registry_taken, rows, ["version"])


def newest_taken(connection: Connection, consumer: str) -> int:
    """The highest version that this consumer has worked with; 0 before the first.

    Not what the others have: a file is copied to one server after another.
    """
    taken = tables.registry_taken.c
    newest = connection.execute(select(func.max(taken.version)).where(taken.consumer == consumer)).scalar()
    return newest or 0


def _stored_revocations(connection: Connection) -> Mapping[str, int]:
    """When each key was first found revoked, in seconds since 1970."""
    revocation = tables.revocation.c
    rows = connection.execute(select(revocation.kid, func.min(revocation.noted_ms)).group_by(revocation.kid))
    return {kid: noted_ms // 1000 for kid, noted_ms in rows}


def _stored_handovers(connection: Connection) -> list[Handover]:
    """All that are stored, but for those at or after a place from which their chain is held back."""
    handover, chain = tables.handover.c, tables.chain.c
    rows = connection.execute(
        select(chain.device, chain.chain, handover.seq, handover.old_kid, handover.new_jwk)
        .join(tables.chain, chain.id == handover.chain_id)
        .where(or_(chain.held_from.is_(None), handover.seq < chain.held_from))
    )
    return [Handover(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows]


def _check_not_older(path: Path, found: Registry, taken: int) -> None:
    if found.version < taken:
        raise KeyFileError(
            f"{path}: version {found.version or 'none'} is older than {taken}, which this server has taken before, and "
            "would undo revocations; copy the newest devices.jwks from the fleet"
        )


def _withdrawn(registration: Registration, revoked_at: int | None) -> Registration:
    if revoked_at is None or registration.revoked_at is not None:
        return registration
    return replace(registration, revoked_at=revoked_at)


def _apply(registrations: dict[str, Registration], one: Handover, revoked: Mapping[str, int]) -> None:
    old = registrations.get(one.old_kid)
    if old is None or old.device != one.device:
        return
    registrations[one.old_kid] = replace(old, ends={**old.ends, one.chain: one.seq})
    key = key_from_jwk(one.new_jwk, BOARD_TYPS)
    if key.kid not in registrations:  # what provisioning says of a key comes first
        # Where the board was revoked, so is what its key has handed over to: a thief could have made that.
        following = Registration(
            old.device, old.site, key, one.chain, one.seq + 1, last_seq=None, revoked_at=old.revoked_at
        )
        registrations[key.kid] = _withdrawn(following, revoked.get(key.kid))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
