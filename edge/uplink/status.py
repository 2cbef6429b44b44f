"""The retained status of a board: what it says of itself, and a head that its key signed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edge import __version__
from edge.records import TimeReading
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import sign
from edge.trust.receipts import head_claims
from edge.trust.seal import Protection
from edge.trust.tokens import HEAD_TYP
from edge.uplink.outbox import Head
from edge.uplink.session import State


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a board works with."""

    gallery: int
    """Version; 0 for none."""
    embedder: str
    """The embedder id; empty for none."""
    keys: int
    """Version of the keys document."""
    protection: Protection
    liveness: bool
    """Whether a face must be a living one before it counts."""


def status_payload(
    identity: DeviceIdentity,
    made: TimeReading,
    end: Head,
    state: State,
    conn: int,
    loaded: Loaded,
    troubles: Sequence[str] = (),
) -> bytes:
    """The payload of `up/status`; `conn` is the number of this connection within the boot."""
    status = {
        "state": state,
        "boot": made.boot,
        "conn": conn,
        "version": __version__,
        "gallery": loaded.gallery,
        "embedder": loaded.embedder[:16],
        "keys": loaded.keys,
        "key_protection": loaded.protection,
        "liveness": "on" if loaded.liveness else "off",
        "troubles": list(troubles),
        "head": signed_head(identity, made, end),
    }
    return json.dumps(status, separators=(",", ":")).encode()


def signed_head(identity: DeviceIdentity, made: TimeReading, end: Head) -> str:
    """Where the chain ends, as the board's key says it."""
    return sign(head_claims(identity, end.chain, end.seq, end.hash, made), identity.key, HEAD_TYP).compact
