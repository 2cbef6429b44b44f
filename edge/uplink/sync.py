"""The fleet's keys and revocation list coming down: verified, newer than what is held, durable before use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edge.errors import Refusal, TokenRefused
from edge.files import unwritable, write_durably
from edge.steps import IdentityStep, reached
from edge.trust.fleetkeys import FleetKeys, verify_keys_trail
from edge.trust.jws import VerificationKey
from edge.trust.revocations import (
    FILE,
    Certified,
    RevocationList,
    certified,
    load_revocation_list,
    verify_revocation_list,
)
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


class RevocationSync:
    """The receiver of `down/crl`: keeps the newest list of whoever issued this board's certificate.

    It is for people (`hadir-edge check`), so no fault of it keeps the daemon from its work.
    """

    def __init__(
        self, device: str, cert_file: Path, state_dir: Path, authorities: Callable[[], tuple[str, ...]]
    ) -> None:
        self._device = device
        self._cert_file = cert_file
        self._state_dir = state_dir
        self._authorities = authorities

    @property
    def topics(self) -> tuple[str, ...]:
        return ("crl",)

    def connected(self, send: Send) -> None:
        """The retained list comes by itself."""

    def receive(self, incoming: Incoming, send: Send) -> None:
        """Take a newer list. Raises TokenRefused and keeps what it has."""
        if not incoming.payload:
            return  # the retained message was cleared
        own = self._certified()
        newest, held = verify_revocation_list(incoming.payload, own.issuer), self._held(own)
        if held is not None and newest.pem == held.pem:
            return
        if held is not None and newest.number <= held.number:
            raise TokenRefused(
                Refusal.BAD_CLAIMS, f"number: {newest.number} does not follow {held.number}, which is held"
            )
        try:
            write_durably(self._state_dir / FILE, newest.pem)
        except OSError as error:
            log.warning("%s: the revocation list cannot be kept (%s)", self._state_dir / FILE, error.strerror)
            return
        log.info("revocation list: number %d, until %s", newest.number, f"{newest.until:%Y-%m-%d}")

    def _certified(self) -> Certified:
        try:
            return certified(self._cert_file, self._device, self._authorities())
        except (OSError, ValueError) as error:
            raise TokenRefused(
                Refusal.UNKNOWN_KEY,
                f"{self._cert_file}: cannot be read, so nobody knows whose list to believe",
            ) from error

    def _held(self, own: Certified) -> RevocationList | None:
        """None where it is damaged or an earlier authority's as well: the next takes its place."""
        try:
            return load_revocation_list(self._state_dir, own.issuer)
        except (OSError, ValueError, TokenRefused):
            return None
