"""The fleet's keys coming down: verified from the root key on, newer than what is held, and durable before use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edge.files import unwritable, write_durably
from edge.steps import IdentityStep, reached
from edge.trust.fleetkeys import FleetKeys, verify_keys_trail
from edge.trust.jws import VerificationKey
from edge.trust.store import Identity
from edge.uplink.downlink import Incoming, Send

log = logging.getLogger(__name__)


class KeysSync:
    """The receiver of `down/keys`, and where the keys of now are found."""

    def __init__(
        self,
        held: FleetKeys,
        root_thumbprint: str,
        keys_file: Path,
        identity: Identity | None,
        changed: Callable[[], None],
    ) -> None:
        self._held = held
        self._root_thumbprint = root_thumbprint
        self._keys_file = keys_file
        self._identity = identity
        self._changed = changed
        if identity is not None:
            identity.put_authorities(held.authorities)  # a power cut may have come between the two files

    @property
    def version(self) -> int:
        """Of the document in use."""
        return self._held.version

    @property
    def keys(self) -> FleetKeys:
        """The document in use."""
        return self._held

    @property
    def topics(self) -> tuple[str, ...]:
        return ("keys",)

    def verification_keys(self, typ: str) -> dict[str, VerificationKey]:
        """By kid, the keys that may sign tokens of this typ now."""
        return self._held.verification_keys(typ)

    def connected(self, send: Send) -> None:
        """The retained document comes by itself."""

    def receive(self, incoming: Incoming, send: Send) -> None:
        """Take a newer document. Raises TokenRefused and keeps what it has; CannotRecord."""
        if not incoming.payload:
            return  # the retained message was cleared
        newest = verify_keys_trail(incoming.payload, self._root_thumbprint, self._held)
        if newest.hash == self._held.hash:
            return
        try:
            if self._identity is None:
                write_durably(self._keys_file, incoming.payload)
                reached(IdentityStep.KEYS_STORED)
            else:
                self._identity.put_keys(incoming.payload, newest.authorities)
        except OSError as error:
            raise unwritable(f"{self._keys_file}: the fleet's keys", error) from error
        self._held = newest
        log.info("fleet keys: version %d", newest.version)
        self._changed()
