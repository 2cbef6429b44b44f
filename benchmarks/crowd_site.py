"""A fleet of very many boards and the broker that lets them in: keys, certificates, tokens signed beforehand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.crowd import CrowdBoard, client_context, connect, event_packet
from demo.boards import make_fleet
from demo.central import write_config
from demo.mosquitto import mosquitto, program
from edge.records import Attendance, ChainPosition, ClockState, Direction, TimeReading
from edge.trust.events import attendance_claims, start_claims
from edge.trust.identity import DeviceIdentity, write_signing_key
from edge.trust.jws import SigningKey, encode_base64url, sign
from edge.trust.tokens import EVENT_TYP
from provisioning.authority import pem
from provisioning.fleet import KEYS_FILE, Fleet

BROKER = """\
cafile {authority}
certfile {certificate}
keyfile {key}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {acl}
max_inflight_messages 2048
max_queued_messages 0
"""

ACL = """\
pattern write hadir/v1/%u/up/#
pattern read hadir/v1/%u/down/#
"""

CONSUMER_ACL = """\
user {name}
topic read hadir/v1/+/up/event
topic read hadir/v1/+/up/status
topic read hadir/v1/+/up/health
topic write hadir/v1/+/down/receipt
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A fleet of many boards, their packets and certificates, and a broker that lets them in."""

    fleet: Fleet
    folder: Path
    packets: Mapping[str, Sequence[bytes]]


def make_site(folder: Path, boards: int, events: int) -> Site:
    """Keys and tokens of so many boards, of each so many."""
    fleet = make_fleet(folder / "fleet")
    keys = {f"door-{number:04d}": SigningKey.generate() for number in range(boards)}
    entries = [
        key.public_jwk
        | {"device": device, "site": fleet.site, "chain": None}
        | {"first_seq": None, "last_seq": None, "revoked_at": None}
        for device, key in keys.items()
    ]
    (folder / "devices.jwks").write_text(json.dumps({"keys": entries}))
    return Site(
        fleet,
        folder,
        {device: list(packets(device, fleet.site, key, events)) for device, key in keys.items()},
    )


def packets(device: str, site: str, key: SigningKey, events: int) -> Iterator[bytes]:
    """A chain of a start and attendances, signed and ready to be sent."""
    identity, chain = DeviceIdentity(device, site, key), encode_base64url(os.urandom(16))
    now_ms, prev = round(time.time() * 1000), None
    for seq in range(1, events + 1):
        made = TimeReading(now_ms + seq, 1000 * seq, "boot", ClockState.SYNCED, 5)
        position = ChainPosition(chain, seq, prev, 1)
        if seq == 1:
            claims = start_claims(
                identity, position, made, cause="new", clean=True, version="0.1.0", last=None
            )
        else:
            seen = Attendance(1, f"E{seq:04d}", 4, 0.7, 0.4, made.mono_ms)
            claims = attendance_claims(
                identity, position, made, seen, direction=Direction.IN, embedder="e" * 16, gallery=1
            )
        token = sign(claims, key, EVENT_TYP)
        prev = token.hash
        yield event_packet(device, seq, token.compact)


@contextmanager
def broker(site: Site, consumers: int) -> Iterator[str]:
    """Mosquitto with TLS, client certificates and an access list."""
    path = program()
    if path is None:
        raise RuntimeError("mosquitto is not installed (apt install mosquitto)")
    pair = certified(site, "broker")
    acl = site.folder / "acl"
    names = (CONSUMER_ACL.format(name=f"central-{number}") for number in range(1, consumers + 1))
    acl.write_text(ACL + "".join(names))
    settings = BROKER.format(
        authority=authority_file(site), certificate=pair.certificate, key=pair.key, acl=acl
    )
    with mosquitto(path, settings) as url:
        yield url.replace("mqtt://", "mqtts://")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


def certified(site: Site, name: str) -> Pair:
    """A certificate for a board, a consumer or the broker."""
    authority, now = site.fleet.authority(), datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    if name == "broker":
        certificate = authority.issue_broker(key.public_key(), ["127.0.0.1"], now)
    elif name.startswith("central"):
        certificate = authority.issue_consumer(key.public_key(), name, now)
    else:
        certificate = authority.issue_device(key.public_key(), name, now)
    pair = Pair(site.folder / f"{name}.crt", site.folder / f"{name}.key")
    pair.certificate.write_text(pem(certificate) + authority.chain)
    write_signing_key(pair.key, SigningKey.of(key))
    if name == "broker":
        pair.key.chmod(0o644)  # its user is another where root measures
    return pair


def authority_file(site: Site) -> Path:
    path = site.folder / "ca.pem"
    path.write_text(pem(site.fleet.authority().root))
    return path


def consumer(site: Site, name: str, url: str, database_url: str) -> Path:
    pair = certified(site, name)
    return write_config(
        site.folder / "central",
        url,
        devices=site.folder / "devices.jwks",
        keys=site.fleet.folder / KEYS_FILE,
        root_thumbprint=site.fleet.root_thumbprint,
        receipt_key=site.fleet.signing_key("receipt"),
        database_url=database_url,
        name=name,
        broker_files=(
            f'ca_file = "{authority_file(site)}"\ncert_file = "{pair.certificate}"\n'
            f'private_key_file = "{pair.key}"\n'
        ),
    )


def crowd(site: Site, url: str) -> list[CrowdBoard]:
    """All boards, connected and subscribed to their receipts."""
    address = urlsplit(url)
    found = []
    for device, packed in site.packets.items():
        pair = certified(site, device)
        context = client_context(authority_file(site), pair.certificate, pair.key)
        stream = connect(address.hostname or "", address.port or 0, context, device)
        found.append(CrowdBoard(device, stream, packed))
    return found
