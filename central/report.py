"""What is told about each event that arrived: a line for people, an object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from central.chain import Verdict
from central.verify import Received, event_name
from central.watch import Finding, Gap
from edge.errors import TokenRefused
from edge.records import ClockState
from edge.trust.tokens import ATTENDANCE

JsonObject = Mapping[str, object]

_BELIEVED = frozenset({Verdict.COUNTED})


@dataclass(slots=True)
class Totals:
    """How many of each kind arrived."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    attendances: int = 0

    def add(self, finding: Finding) -> None:
        self.verdicts[finding.verdict] += 1
        if finding.verdict is Verdict.COUNTED and finding.received.event.type == ATTENDANCE:
            self.attendances += 1

    def __str__(self) -> str:
        counts = [f"{verdict} {self.verdicts[verdict]}" for verdict in Verdict if self.verdicts[verdict]]
        counts += [f"refused ({reason}) {count}" for reason, count in sorted(self.refused.items())]
        return ", ".join([f"attendances {self.attendances}", *counts])


def finding_line(finding: Finding) -> str:
    """One line about a verified token."""
    received, event = finding.received, finding.received.event
    marks = {Verdict.COUNTED: "verified", Verdict.REDELIVERED: "again"}
    said = marks.get(finding.verdict, finding.verdict.upper())
    parts = [f"{said:<10}", f"{received.device:<10}", f"{event_name(received.event.type):<11}"]
    if event.person is not None:
        # Only an attendance's direction was checked; of other types it may be anything, also another line.
        direction = event.payload["direction"] if event.type == ATTENDANCE else ""
        parts.append(f"{event.person:<8} {direction}".rstrip())
    parts += [time_words(received), f"seq {event.seq}"]
    if received.ahead:
        parts.append("dated ahead of its arrival")
    if finding.detail:
        parts.append(f"({finding.detail})")
    return "  ".join(parts)


def finding_object(finding: Finding) -> JsonObject:
    """The same for programs."""
    received, event = finding.received, finding.received.event
    return {
        "verdict": finding.verdict,
        "believed": finding.verdict in _BELIEVED,
        "detail": finding.detail,
        "device": received.device,
        "event": event_name(received.event.type),
        "person": event.person,
        "direction": event.payload.get("direction"),
        "seen_s": event.seen_s,
        "clock": event.clock,
        "err_ms": event.err_ms,
        "arrived_s": received.arrived_s,
        "ahead": received.ahead,
        "chain": event.chain,
        "seq": event.seq,
        "hash": received.hash,
        "jti": event.jti,
    }


def refusal_line(topic: str, refused: TokenRefused) -> str:
    """One line about a token that is not believed."""
    # Whoever may publish chooses the topic: unescaped, it could hold a whole line of its own.
    return f"{'REFUSED':<10}  {ascii(topic)[1:-1][:60]}  {refused}"


def refusal_object(topic: str, refused: TokenRefused, arrived_s: float) -> JsonObject:
    """The same for programs."""
    return {
        "verdict": "refused",
        "believed": False,
        "reason": refused.reason,
        "detail": refused.detail,
        "topic": topic[:200],
        "arrived_s": arrived_s,
    }


def gap_line(gap: Gap) -> str:
    """One line about events that do not come."""
    return f"{'GAP':<10}  {gap.device:<10}  seq {gap.first_seq} to {gap.last_seq} of chain {gap.chain} are missing"


def gap_object(gap: Gap) -> JsonObject:
    """The same for programs."""
    return {"verdict": "gap", "believed": False} | asdict(gap)


def time_words(received: Received) -> str:
    """When it happened, and how good that is."""
    event = received.event
    if event.seen_s is None:
        word = "arrived" if event.clock is ClockState.UNSYNCED else "made"
        when = received.arrived_s if event.clock is ClockState.UNSYNCED else event.issued_s
        suffix = ", board's clock not set" if event.clock is ClockState.UNSYNCED else f", {event.clock}"
        return f"{word} {_utc(when)}{suffix}"
    error = f" to {event.err_ms} ms" if event.clock is ClockState.HOLDOVER else ""
    return f"seen {_utc(event.seen_s)}, {event.clock}{error}"


def _utc(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s after 1970"
