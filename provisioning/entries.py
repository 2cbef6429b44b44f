"""What the registry holds, a dataclass for each table, and how each is read from its row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge.records import Direction
from edge.trust.admission import Purpose
from provisioning.authority import Role


class ClaimState(StrEnum):
    """Where a claim is on its way."""

    OPEN = "open"
    """Made, and nobody has presented it."""
    PENDING = "pending"
    """A board presented it; an administrator has not approved it."""
    ISSUED = "issued"
    """Answered; the board has not shown yet that it took the answer."""
    USED = "used"
    CANCELLED = "cancelled"
    ALERT = "alert"
    """Two boards presented it; neither gets anything."""


LIVE_CLAIMS = (ClaimState.OPEN, ClaimState.PENDING, ClaimState.ISSUED)
"""Those whose user name and password the broker lets in until they expire."""


@dataclass(frozen=True, slots=True)
class Device:
    """A door's board: its id never changes, whatever hardware stands behind it."""

    device: str
    site: str
    direction: Direction
    label: str
    """A name to show to people; empty where there is none."""
    settings: Mapping[str, Any]
    """What its configuration will say beyond that, such as the camera."""
    added_s: int
    revoked_s: int | None


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A board's key, and for which part of which chain it speaks."""

    kid: str
    device: str
    jwk: Mapping[str, str]
    """Public members only."""
    sealing: str | None
    """The X25519 key of the board in base64url, to which galleries are sealed."""
    protection: str | None
    """As the board reported it: tpm2, host or file."""
    chain: str | None
    first_seq: int | None
    last_seq: int | None
    added_s: int
    revoked_s: int | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as it was registered."""

    serial: int
    role: Role
    name: str
    pem: str
    not_after_s: int
    issued_s: int
    revoked_s: int | None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A central consumer of the events."""

    name: str
    added_s: int
    revoked_s: int | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A one-time right to become a certain board."""

    claim: str
    device: str
    purpose: Purpose
    state: ClaimState
    secret: bytes
    """Wrapped by the key store."""
    password: str
    """As the broker's password file has it: a hash."""
    made_s: int
    expires_s: int
    request: str | None
    request_kid: str | None
    response: bytes | None
    used_s: int | None
    alert: str | None


@dataclass(frozen=True, slots=True)
class Given:
    """A command that was given to a board, and what came of it."""

    jti: str
    device: str
    n: int
    name: str
    token: str
    """As it is signed."""
    given_s: int
    expires_s: int
    status: str | None
    """None until the board has answered."""
    reason: str | None
    result: Mapping[str, Any] | None
    answered_s: int | None


def device_of(row: Sequence[Any]) -> Device:
    device, site, direction, label, settings, added_s, revoked_s = row
    return Device(device, site, Direction(direction), label, json.loads(settings), added_s, revoked_s)


def key_of(row: Sequence[Any]) -> DeviceKey:
    kid, device, jwk, *rest = row
    return DeviceKey(kid, device, json.loads(jwk), *rest)


def issued_of(row: Sequence[Any]) -> Issued:
    serial, role, *rest = row
    return Issued(int(serial, 16), Role(role), *rest)


def claim_of(row: Sequence[Any]) -> Claim:
    claim, device, purpose, state, *rest = row
    return Claim(claim, device, Purpose(purpose), ClaimState(state), *rest)


def given_of(row: Sequence[Any]) -> Given:
    jti, device, n, name, token, given_s, expires_s, status, reason, result, answered_s = row
    decoded = None if result is None else json.loads(result)
    return Given(jti, device, n, name, token, given_s, expires_s, status, reason, decoded, answered_s)
