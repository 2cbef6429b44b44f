"""How fast events become durable, and how fast a backlog drains to a broker.

`drain_events_per_s` goes over plain TCP to the embedded broker on loopback, with
`delivery = "broker"`: read from the outbox, sent, acknowledged, and noted as delivered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.run import main, note
from benchmarks.site import now_ms
from demo.broker import embedded_broker
from edge.board.clock import Clock
from edge.config import BrokerConfig, EventsConfig
from edge.evaluate.figures import Figure
from edge.loops import Loop
from edge.records import Attendance, Direction
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.uplink.outbox import Outbox
from edge.uplink.publish import Publisher
from edge.uplink.recorder import Recorder
from edge.uplink.session import State

EVENTS = 2000


def measure(runs: int) -> Mapping[str, Figure]:
    """Both figures over so many runs, each with a new outbox."""
    commits, drains = [], []
    for run in range(runs):
        note(f"run {run + 1} of {runs}")
        with tempfile.TemporaryDirectory() as folder, Outbox(Path(folder) / "outbox.db") as outbox:
            commits.append(committing(outbox))
            drains.append(draining(outbox))
    return {
        "commit_events_per_s": Figure("1/s", tuple(commits)),
        "drain_events_per_s": Figure("1/s", tuple(drains)),
    }


def committing(outbox: Outbox) -> float:
    """Signed attendances made durable one by one, a second."""
    recorder = _recorder(outbox)
    someone = Attendance(track=1, person="E1", frames=3, similarity=0.7, margin=0.5, seen_mono_ms=1)
    begin = now_ms()
    for _ in range(EVENTS):
        recorder.attendance(someone)
    return EVENTS / (now_ms() - begin) * 1000


def draining(outbox: Outbox) -> float:
    """Events acknowledged by the broker and noted as such, a second, connecting included."""
    with embedded_broker() as url:
        config = BrokerConfig(url=url)
        publisher = Publisher(
            _recorder(outbox), config, EventsConfig("broker", drain_s=120), _status, lambda: b"{}", dict
        )
        loop = Loop("publisher", lambda loop: publisher.run(loop.turned))
        begin = now_ms()
        loop.start()
        publisher.stop()
        loop.join(180)
        elapsed_ms = now_ms() - begin
    if loop.error is not None:
        raise loop.error
    if outbox.waiting_count():
        raise RuntimeError(f"{outbox.waiting_count()} events were not delivered")
    return EVENTS / elapsed_ms * 1000


def _recorder(outbox: Outbox) -> Recorder:
    identity = DeviceIdentity("door-01", "hq", SigningKey.generate())
    return Recorder(outbox, identity, Clock(), Direction.IN, "e" * 64, 1, diagnostics=False)


def _status(state: State, conn: int) -> bytes:
    return f'{{"state": "{state}", "conn": {conn}}}'.encode()


if __name__ == "__main__":
    main("outbox", measure)
