"""Whether a token that arrived may be believed: everything that it alone can show."""

from __future__ import annotations

import re
from dataclasses import dataclass

from central.registry import Registry
from edge.errors import Refusal, TokenRefused
from edge.records import ClockState
from edge.trust.identity import device_urn, site_urn
from edge.trust.jws import verify
from edge.trust.tokens import EVENT_TYP, MAX_EVENT_BYTES, Event, parse_event

EVENT_TOPIC = re.compile(r"hadir/v1/([a-z0-9][a-z0-9-]{0,31})/up/event")

MAX_AHEAD_S = 300
"""A board that calls its clock synchronised cannot be further ahead than this; such a token is flagged."""


@dataclass(frozen=True, slots=True)
class Received:
    """A token whose signature, owner, audience and claims hold. Its place in the chain is the ledger's to judge."""

    device: str
    kid: str
    event: Event
    token: str
    hash: str
    arrived_s: float
    ahead: bool
    """Dated more than MAX_AHEAD_S after it arrived by a clock that calls itself synchronised."""


def verify_event(
    topic: str, payload: bytes, registry: Registry, arrived_s: float, *, revoked_too: bool = False
) -> Received:
    """Verify an event token as it arrived on a topic. Age never refuses.

    `revoked_too` lets a key that was revoked speak still, for what a person releases.

    Raises:
        TokenRefused: with the reason to store and count.
    """
    match = EVENT_TOPIC.fullmatch(topic)
    if match is None:
        raise TokenRefused(Refusal.WRONG_OWNER, f"{ascii(topic)[:80]} is no board's topic for events")
    device = match[1]
    verified = verify(payload, EVENT_TYP, registry.keys, max_bytes=MAX_EVENT_BYTES)
    registration = registry.registrations[verified.kid]
    if registration.device != device:
        raise TokenRefused(
            Refusal.WRONG_OWNER, f"signed by {registration.device}, arrived on {device}'s topic"
        )
    event = parse_event(verified.claims)
    if event.issuer != device_urn(device):
        raise TokenRefused(
            Refusal.WRONG_OWNER, f"iss is {ascii(event.issuer)[:80]}, the key belongs to {device}"
        )
    if event.audience != site_urn(registration.site):
        raise TokenRefused(
            Refusal.WRONG_AUDIENCE, f"aud is {ascii(event.audience)[:80]}, {device} belongs to another site"
        )
    if registration.revoked_at is not None and not revoked_too:
        raise TokenRefused(Refusal.REVOKED_KEY, f"the key of {device} was revoked")
    if not registration.speaks_for(event.chain, event.seq):
        raise TokenRefused(
            Refusal.WRONG_USE, f"this key of {device} does not speak for seq {event.seq} of that chain"
        )
    return Received(
        device=device,
        kid=verified.kid,
        event=event,
        token=payload.decode("ascii"),
        hash=verified.hash,
        arrived_s=arrived_s,
        ahead=event.clock is ClockState.SYNCED and event.issued_s > arrived_s + MAX_AHEAD_S,
    )


def event_name(urn: str) -> str:
    """The event's own name out of its URN: attendance, start, …"""
    return urn.split(":")[-2]
