"""Mosquitto's files: who may connect, and what each may write and read.

Two listeners. On the device listener everybody shows a certificate of the fleet's authority,
whose common name is user name and client id; on the claim listener a board that has none yet
shows a claim's id and a password derived from its secret. The rights are DESIGN's; they are
deny-by-default, and patterns give each board its own topics, so that a new board needs no
change here. A claim, a revocation or a new consumer does, and a reload.

Written for Mosquitto 2.0.11, which Debian 12 has; docs/broker.md has other brokers.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from provisioning.authority import PROVISION
from provisioning.entries import LIVE_CLAIMS, Claim

TOPICS = "hadir/v1"

BOARD_WRITES = "up/#"
BOARD_READS = "down/#"

CONSUMER_READS = ("+/up/event", "+/up/status", "+/up/health")
CONSUMER_WRITES = ("+/down/receipt",)

PROVISION_READS = ("+/up/status", "+/up/reply", "+/up/gallery", "+/up/enrol/#", "claim/+/request")
PROVISION_WRITES = (
    "+/down/gallery",
    "+/down/gallery/#",
    "+/down/keys",
    "+/down/crl",
    "+/down/command",
    "claim/+/response",
    # To clear what is retained, once a claim was used or a board revoked.
    "claim/+/request",
    "+/up/status",
    "+/down/receipt",
)

MAX_PACKET_BYTES = 256 * 1024
"""The longest message is the trail of keys documents, at most 128 KiB, sealed in a claim's response."""

MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""For each client that is away. What counts is bytes: 64 MiB are a week of a busy door; beyond them Mosquitto
acknowledges and drops, which receipts bring to light."""

MAX_QUEUED_MESSAGES = 2_000_000_000
"""In effect none. Not 0, which should mean none: Mosquitto 2.0.11 then ends the connection of a client whose publish
it denied (`handle__publish` compares with it), and ignores the limit in bytes."""

MAX_INFLIGHT = 2048
"""As many as a board sends unacknowledged at most; Mosquitto's own limit is 20."""

SESSION_DAYS = 7
AUTOSAVE_S = 60
"""Mosquitto's own is 1,800: half an hour of queued messages, lost with the power."""

MAX_CLAIM_CONNECTIONS = 512

PBKDF2_ITERATIONS = 101
"""Mosquitto's own. A claim's password has 256 bits of its own: nothing would be gained by stretching it."""


NAMES = (
    "mosquitto.conf",
    "devices.acl",
    "claims.acl",
    "claims.passwd",
    "ca.crt",
    "crl.pem",
    "server.crt",
    "server.key",
)
"""Everything that Mosquitto needs, and so everything that is copied to it."""


def configuration(folder: Path, *, port: int, claim_port: int, bind: str | None) -> str:
    """`mosquitto.conf` for files that lie in `folder`."""
    address = f" {bind}" if bind else ""
    return f"""\
# Written by `hadir-provision broker`, and written anew at every run: changes belong there.
# Here, before the first listener, only what holds for the broker as a whole: any setting of a listener would open
# one more, on port 1883, without TLS.
per_listener_settings true

persistence true
persistence_location {folder}/state/
autosave_interval {AUTOSAVE_S}
persistent_client_expiration {SESSION_DAYS}d

# Bytes count, not messages (and 0 would not mean what it should).
max_queued_messages {MAX_QUEUED_MESSAGES}
max_queued_bytes {MAX_QUEUED_BYTES}
max_inflight_messages {MAX_INFLIGHT}
max_packet_size {MAX_PACKET_BYTES}

log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true

# Boards, consumers and provisioning: by certificate.
listener {port}{address}
allow_anonymous false
allow_zero_length_clientid false
cafile {folder}/ca.crt
certfile {folder}/server.crt
keyfile {folder}/server.key
crlfile {folder}/crl.pem
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {folder}/devices.acl

# Boards that have no certificate yet: by a claim.
listener {claim_port}{address}
allow_anonymous false
allow_zero_length_clientid false
max_connections {MAX_CLAIM_CONNECTIONS}
certfile {folder}/server.crt
keyfile {folder}/server.key
tls_version tlsv1.2
password_file {folder}/claims.passwd
use_username_as_clientid true
acl_file {folder}/claims.acl
"""


def device_access(consumers: Sequence[str], revoked: Sequence[str]) -> str:
    """The access list of the device listener; `consumers` are those let in, `revoked` names are denied everything."""
    lines = ["# Written by `hadir-provision broker`. What is not allowed here is denied."]
    for name in revoked:
        lines += [f"user {name}", "topic deny #"]
    lines += _service(PROVISION, PROVISION_READS, PROVISION_WRITES)
    for name in consumers:
        lines += _service(name, CONSUMER_READS, CONSUMER_WRITES)
    lines += [
        "# Each board: its own.",
        f"pattern write {TOPICS}/%u/{BOARD_WRITES}",
        f"pattern read {TOPICS}/%u/{BOARD_READS}",
    ]
    return "\n".join(lines) + "\n"


def claim_access() -> str:
    """The access list of the claim listener."""
    return f"""\
# Written by `hadir-provision broker`. A claim can ask, and be answered.
pattern write {TOPICS}/claim/%u/request
pattern read {TOPICS}/claim/%u/response
"""


def claim_passwords(claims: Sequence[Claim], now_s: int) -> str:
    """The password file of the claim listener: claims that can still be used."""
    return "".join(
        f"{claim.claim}:{claim.password}\n"
        for claim in claims
        if claim.state in LIVE_CLAIMS and claim.expires_s > now_s
    )


def password_hash(password: str, salt: bytes | None = None) -> str:
    """As Mosquitto writes it: PBKDF2-HMAC-SHA512 (RFC 8018), after the `:` of its password file."""
    salt = os.urandom(12) if salt is None else salt
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_ITERATIONS)
    return f"$7${PBKDF2_ITERATIONS}${b64encode(salt).decode()}${b64encode(derived).decode()}"


def _service(name: str, reads: Sequence[str], writes: Sequence[str]) -> list[str]:
    """A user who is no board: the patterns below would give it topics of its own, so those are denied first."""
    return [
        f"user {name}",
        f"topic deny {TOPICS}/{name}/#",
        *(f"topic read {TOPICS}/{topic}" for topic in reads),
        *(f"topic write {TOPICS}/{topic}" for topic in writes),
    ]
