"""Provisioning's own way to the broker, and what follows from the registry once it changed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edge.config import BrokerConfig
from edge.files import write_durably
from edge.uplink.client import Client, Login
from edge.uplink.reach import Tls, tls_context
from provisioning.authority import PROVISION
from provisioning.claims import Listener
from provisioning.deploy import BrokerSettings, server_pin, write_access
from provisioning.fleet import PROVISION_TLS, Fleet
from provisioning.mosquitto import running

LOCK_FILE = "spread.lock"


def listener_of(fleet: Fleet) -> Listener:
    """Where boards reach this fleet's broker. Raises InputError where it was not set up."""
    settings = BrokerSettings.of(fleet)
    return Listener(settings.url, settings.claim_address, server_pin(fleet))


def authorities_file(fleet: Fleet) -> Path:
    """Whom the broker's certificate may come from: in a handover either authority. Written anew each time."""
    path = fleet.folder / "ca" / "authorities.crt"
    write_durably(path, fleet.authorities().encode(), 0o644)
    return path


def connect(fleet: Fleet) -> Client:
    """A connection as `provision`, to be entered. Raises KeyFileError, InputError."""
    broker = BrokerConfig(
        url=BrokerSettings.of(fleet).url,
        ca_file=authorities_file(fleet),
        cert_file=fleet.folder / "ca" / f"{PROVISION}.crt",
        private_key_file=fleet.store.path(PROVISION_TLS),
    )
    return Client(broker, Login(PROVISION), tls_context(broker, Tls(fleet.store.file_password())))


def spread(fleet: Fleet, now_s: int) -> None:
    """Write what servers and the broker must know of the registry, and have a broker on this machine read it.

    One process at a time: else one that has read the registry earlier could write later.
    """
    descriptor = os.open(fleet.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        fleet.write_devices()
        fleet.write_revocation_list(now_s)
        write_access(fleet, now_s)
    finally:
        os.close(descriptor)
    for one in running(Path(BrokerSettings.of(fleet).folder) / "mosquitto.conf"):
        one.reload()
