"""A stolen board or server, out within seconds: denied, its certificate revoked, its session taken over.

Mosquitto checks a certificate when a client connects; who is connected stays, and is only
denied what it asks from the moment of the reload. So its session is taken over with a
certificate of the same name that lives for a quarter of an hour, and held for a moment: who
comes back in that time is let in, or not, as the broker now reads its files, and whoever is
not thrown out again has shown that the thief is not let in.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable
from edge.files import write_durably
from edge.trust.identity import check_device_id
from edge.trust.seal import Protection
from edge.uplink.client import Client, Login
from edge.uplink.reach import tls_context
from provisioning.authority import CONSUMER_PATTERN, Role, moment, pem
from provisioning.broker import TOPICS
from provisioning.deploy import BrokerSettings
from provisioning.fleet import Fleet
from provisioning.link import authorities_file, connect, spread

HOLD_S = 2.0
"""A board that was thrown off tries again after a second."""
TRIES = 3
RETAINED = ("up/status", "down/receipt", "down/gallery", "down/keys", "down/crl", "down/command")
"""What the broker may keep of a board, under its name."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was revoked, and what that means."""

    name: str
    keys: int
    certificates: int
    protections: tuple[str, ...]
    """Of the board's keys, as it reported them."""
    is_consumer: bool

    @property
    def disclosed(self) -> bool:
        """Whether whoever has the board can read its templates: its key-encryption key lies on the same card."""
        return not self.is_consumer and set(self.protections) != {Protection.TPM2}


def revoke(fleet: Fleet, name: str, *, now_s: int, unregistered: bool = False) -> Revoked:
    """Take away every right of a board or consumer, in the registry and in all files made from it.

    `unregistered` is for a board that a restored registry does not know. Raises InputError.
    """
    registry = fleet.registry
    is_consumer = CONSUMER_PATTERN.fullmatch(name) is not None
    before = registry.certificates(name)
    keys = () if is_consumer else registry.device_keys(name)
    earlier_s = {device.device: device.revoked_s for device in registry.devices()}.get(name)
    with fleet.change("revoke", name, now_s=now_s) as change:
        if is_consumer:
            change.revoke_consumer(name)
        elif unregistered:
            change.add_revoked_device(check_device_id(name), fleet.site)
        else:
            registry.device(name)
            change.revoke_device(name)
        change.detail["keys"] = [key.kid for key in keys]
    return Revoked(
        name,
        keys=sum(key.revoked_s is None for key in keys),
        certificates=sum(issued.revoked_s is None for issued in before),
        # Also of a board that is revoked once more, as its keys were when it was revoked at first.
        protections=tuple(key.protection or "unknown" for key in keys if key.revoked_s in (None, earlier_s)),
        is_consumer=is_consumer,
    )


def cut_off(fleet: Fleet, name: str, *, now_s: int) -> None:
    """Have the broker read its files, throw the name's session out and prove that it stays out; clear what it kept.

    Raises:
        BrokerUnavailable: the broker cannot be reached, or still lets it in; says what to do.
    """
    spread(fleet, now_s)
    for _ in range(TRIES):
        if _held(fleet, name, now_s):
            break
    else:
        raise BrokerUnavailable(
            f"{name} comes back: the broker has not read its new files. Copy devices.acl and crl.pem of "
            f"{BrokerSettings.of(fleet).folder} to it, send it SIGHUP, and revoke once more"
        )
    with connect(fleet) as client:
        client.settle([client.send(f"{TOPICS}/{name}/{topic}", b"", retain=True) for topic in RETAINED])


def _held(fleet: Fleet, name: str, now_s: int) -> bool:
    """Take the session over and hold it for a moment; False where somebody took it back."""
    with tempfile.TemporaryDirectory(prefix="hadir-eviction-") as folder:
        broker = _eviction(fleet, name, Path(folder), now_s)
        with Client(broker, Login(name), tls_context(broker)) as client:
            try:
                client.receive(HOLD_S)
            except BrokerUnavailable:
                return False
    return True


def _eviction(fleet: Fleet, name: str, folder: Path, now_s: int) -> BrokerConfig:
    """The way in under the revoked name, for a quarter of an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = fleet.authority()
    certificate = authority.issue_eviction(key.public_key(), name, moment(now_s))
    with fleet.change("evict", name, now_s=now_s) as change:
        change.add_certificate(certificate, Role.EVICTION, name)
    write_durably(folder / "evict.crt", (pem(certificate) + authority.chain).encode())
    write_durably(
        folder / "evict.key",
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return BrokerConfig(
        url=BrokerSettings.of(fleet).url,
        ca_file=authorities_file(fleet),
        cert_file=folder / "evict.crt",
        private_key_file=folder / "evict.key",
    )
