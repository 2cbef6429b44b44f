"""The command `hadir-central`: parses and prints; what it does is a function of another module."""

from __future__ import annotations

import argparse
import json
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from central.consume import EVENT_TOPICS, BrokerAddress, Message, consuming
from central.ledger import Ledger
from central.registry import Registry, load_registry
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
from edge import __version__
from edge.command import carry_out
from edge.errors import TokenRefused

Tell = Callable[[str, JsonObject], None]
"""Prints a finding, as a line or as JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    options = _parser().parse_args(arguments)
    return carry_out("hadir-central", lambda: options.act(options))


def _listen(options: argparse.Namespace) -> None:
    registry = load_registry(options.devices)
    broker = BrokerAddress(
        options.broker, options.client_id, options.ca_file, options.cert_file, options.private_key_file
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: _set(stop, _frame))
    with consuming(broker) as consumer:
        print(f"listening on {options.broker} for {EVENT_TOPICS}", file=sys.stderr, flush=True)
        listener = Listener(registry, join=options.join, tell=_tell_json if options.json else _tell_line)
        while not stop.is_set() and not listener.enough(options.count):
            message = consumer.take(0.2)
            if message is not None:
                listener.take(message, time.time())
            listener.look_for_gaps(time.time())
        if stop.is_set():
            for message in consumer.left():
                listener.take(message, time.time())
    print(listener.summary(), file=sys.stderr)


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


def _positive(text: str) -> int:
    """A count for which something must arrive: with 0, a script would take nothing at all for success."""
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hadir-central", description="Receives and verifies attendance events."
    )
    parser.add_argument("--version", action="version", version=f"hadir-central {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listen = commands.add_parser("listen", help="print each event as it arrives and was verified")
    listen.add_argument("--broker", required=True, help="mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    listen.add_argument("--devices", type=Path, required=True, help="devices.jwks of the fleet")
    listen.add_argument("--client-id", default="central-1", help="default %(default)s")
    listen.add_argument("--ca-file", type=Path, help="for mqtts://: who signed the broker's certificate")
    listen.add_argument("--cert-file", type=Path, help="this consumer's certificate")
    listen.add_argument("--private-key-file", type=Path, help="its private key")
    listen.add_argument("--json", action="store_true", help="one JSON object a line")
    listen.add_argument(
        "--join", action="store_true", help="begin each chain at the first event seen, not at its beginning"
    )
    listen.add_argument("--count", type=_positive, help="stop after so many verified attendances")
    listen.set_defaults(act=_listen)
    return parser


if __name__ == "__main__":
    sys.exit(main())
