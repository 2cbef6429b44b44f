"""The light viewer: verifies and tells each event as it comes, and remembers nothing beyond its own end."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from central.consume import BrokerAddress, Message, consuming
from central.registry import Registry
from central.report import (
    JsonObject,
    Totals,
    finding_line,
    finding_object,
    gap_line,
    gap_object,
    refusal_line,
    refusal_object,
)
from central.verify import verify_event
from central.watch import Ledger
from edge.errors import TokenRefused

Tell = Callable[[str, JsonObject], None]
"""Prints a finding, as a line or as JSON."""


def listen(
    broker: BrokerAddress, registry: Registry, *, join: bool, as_json: bool, count: int | None
) -> None:
    """Print what comes, until asked to stop or so many attendances were verified."""
    stop = stopping_on_signals()
    with consuming(broker) as consumer:
        print(f"listening on {broker.url} for {', '.join(broker.topics)}", file=sys.stderr, flush=True)
        listener = Listener(registry, join=join, tell=_tell_json if as_json else _tell_line)
        while not stop.is_set() and not listener.enough(count):
            message = consumer.take(0.2)
            if message is not None:
                listener.take(message, time.time())
            listener.look_for_gaps(time.time())
        if stop.is_set():
            for message in consumer.left():
                listener.take(message, time.time())
    print(listener.summary(), file=sys.stderr)


def stopping_on_signals() -> threading.Event:
    """What SIGINT and SIGTERM set, and nothing else: a handler may interrupt any line of the program."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: _set(stop, _frame))
    return stop


class Listener:
    """Verifies, judges and tells each message, and counts."""

    def __init__(self, registry: Registry, *, join: bool, tell: Tell) -> None:
        self._registry = registry
        self._ledger = Ledger(join=join)
        self._tell = tell
        self._gaps_told: set[tuple[str, str, int]] = set()
        self._looked_s = -math.inf
        self.totals = Totals()

    def take(self, message: Message, now_s: float) -> None:
        """Deal with one message, then acknowledge it."""
        try:
            received = verify_event(message.topic, message.payload, self._registry, now_s)
        except TokenRefused as refused:
            self.totals.refused[refused.reason] += 1
            self._tell(refusal_line(message.topic, refused), refusal_object(message.topic, refused, now_s))
        else:
            for finding in self._ledger.take(received):
                self.totals.add(finding)
                self._tell(finding_line(finding), finding_object(finding))
        message.acknowledge()

    def look_for_gaps(self, now_s: float) -> None:
        """Tell of each gap once; looks at most once a second, because it is asked after every message."""
        if abs(now_s - self._looked_s) < 1:
            return
        self._looked_s = now_s
        gaps = {(gap.device, gap.chain, gap.first_seq): gap for gap in self._ledger.gaps(now_s)}
        for place in gaps.keys() - self._gaps_told:
            self._tell(gap_line(gaps[place]), gap_object(gaps[place]))
        self._gaps_told = set(gaps)

    def enough(self, count: int | None) -> bool:
        """Whether so many attendances were verified."""
        return count is not None and self.totals.attendances >= count

    def summary(self) -> str:
        """All counts in one line."""
        return f"{self.totals}, waiting {self._ledger.waiting_count()}, lost {self._ledger.lost_count()}"


def _tell_line(line: str, _: JsonObject) -> None:
    print(line, flush=True)


def _tell_json(_: str, finding: JsonObject) -> None:
    print(json.dumps(finding, separators=(",", ":")), flush=True)


def _set(stop: threading.Event, _: FrameType | None) -> None:
    stop.set()
