"""Who passed lately, as the outbox knows it, so that a restart does not record somebody twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge.records import ClockState, Direction, TimeReading
from edge.trust.jws import parse_object
from edge.trust.tokens import ATTENDANCE
from edge.uplink.outbox import Outbox

PAGE = 256
"""Events read at once, each about 1 kB."""

MOST = 4096
"""Events looked at, the latest: two days of a door for a thousand people. Bounds what a long cooldown costs a start."""


def last_passages(
    outbox: Outbox, now: TimeReading, direction: Direction, within_ms: float
) -> Mapping[str, int]:
    """When, on this boot's clock, each person was last recorded in this direction; at most `within_ms` ago.

    An attendance of an earlier boot counts where both it and this reading have a date.
    """
    passed: dict[str, int] = {}
    for claims in _latest(outbox):
        event = claims["events"].get(ATTENDANCE)
        if event is None or event.get("direction") != direction:
            continue
        seen_mono_ms = _on_this_boot(claims, event, now)
        if seen_mono_ms is None:
            continue
        age_ms = now.mono_ms - seen_mono_ms
        if age_ms > within_ms:
            break
        if age_ms >= 0:
            passed.setdefault(claims["sub_id"]["id"], seen_mono_ms)
    return passed


def _on_this_boot(claims: Mapping[str, Any], event: Mapping[str, Any], now: TimeReading) -> int | None:
    if event["boot"] == now.boot:
        return int(event["mono_ms"])
    if "toe" not in claims or now.state is ClockState.UNSYNCED:
        return None
    return now.mono_ms - (now.real_ms - round(float(claims["toe"]) * 1000))


def _latest(outbox: Outbox) -> Iterator[Mapping[str, Any]]:
    """The claims of the latest events, newest first; what cannot be read, or was altered, tells nothing here."""
    head = outbox.head().seq
    for end in range(head, max(0, head - MOST), -PAGE):
        begin = max(0, end - PAGE)
        for stored in reversed(outbox.held(begin, end - begin)):
            if not stored.fault:
                yield parse_object(stored.token.split(".")[1].encode(), "claims")
