"""The real server in a process of its own, whose points can be aimed at, or with an error built in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import central.server
from central.cli import main as central_main
from central.consume import Consumer
from central.ledger import Outcome, store
from central.server import Server
from edge import steps
from torture.aim import Trigger

PUBACK_S = 2.0


def receipt_before_commit() -> None:
    """Receipts are at the broker before what they cover is committed."""
    live: list[tuple[Server, Consumer]] = []
    turn = Server.turn

    def remembering(self: Server, consumer: Consumer, *rest: Any) -> None:
        live[:] = [(self, consumer)]
        turn(self, consumer, *rest)

    def publish_now(self: Consumer, topic: str, payload: str) -> None:
        sent = self._client.publish(topic, payload, qos=1, retain=True)
        with suppress(RuntimeError):  # the broker is dead just now
            sent.wait_for_publish(PUBACK_S)

    def store_and_tell(*arguments: Any) -> Outcome:
        outcome = store(*arguments)
        server, consumer = live[0]
        server._pending.add(outcome.due, 0.0)
        server._publish(consumer, idle=True)
        return outcome

    Server.turn = remembering  # type: ignore[method-assign,assignment]
    Consumer.publish_retained = publish_now  # type: ignore[method-assign]
    central.server.store = store_and_tell  # type: ignore[attr-defined,assignment]


MUTATIONS: Mapping[str, Callable[[], None]] = {"receipt-before-commit": receipt_before_commit}
"""Errors that the torture must find, as those of `torture.mutations`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch for an aim, then be `hadir-central run`."""
    parser = argparse.ArgumentParser(prog="python -m torture.central")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--aim", type=Path, required=True, help="where an aim may appear")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS))
    options = parser.parse_args(arguments)
    if options.mutation is not None:
        MUTATIONS[options.mutation]()
    steps.watcher = Trigger(options.aim)
    return central_main(["run", "--config", str(options.config)])


if __name__ == "__main__":
    sys.exit(main())
