"""How fast events become durable, and how fast a backlog of a long outage drains, receipts included.

`drain_events_per_s`: a board that was away for EVENTS really signed events (seeded in bulk,
since recording them one by one takes minutes and is the other figure) connects over TLS
with its certificate to Mosquitto; `hadir-central run` verifies and stores them in SQLite
and gives receipts. From the start of the publisher until the last receipt was taken; board,
broker and server share the machine. `drain_alone_events_per_s` is the same with receipts
from a process that verifies and stores nothing (`benchmarks.giver`): what the board itself
can do. Both fail unless everything was receipted, which nothing is that did not come in order.

`outbox_bytes_per_event`: what the database on the board's disk takes for each event, archived or
not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.crowd_site import Site, authority_file, broker, certified, consumer
from benchmarks.giver import giving
from benchmarks.run import main, note
from benchmarks.site import now_ms
from demo.boards import make_fleet
from demo.central import consuming
from demo.door import DEVICE
from edge.board.clock import Clock
from edge.config import BrokerConfig, EventsConfig
from edge.evaluate.figures import Figure
from edge.loops import Loop
from edge.records import Attendance, Direction
from edge.trust.fleetkeys import load_keys_document
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.trust.receipts import RECEIPT_TYP
from edge.uplink.outbox import Outbox
from edge.uplink.publish import Publisher
from edge.uplink.recorder import Recorder
from edge.uplink.session import State
from provisioning.fleet import KEYS_FILE

COMMITTED = 2000
EVENTS = 100_000
TIMEOUT_S = 600.0

SOMEONE = Attendance(track=1, person="E1", frames=3, similarity=0.7, margin=0.5, seen_mono_ms=1)


def measure(runs: int) -> Mapping[str, Figure]:
    """Both figures over so many runs, each with a new outbox, broker and server."""
    commits, sizes, drains, alone = [], [], [], []
    for run in range(runs):
        note(f"run {run + 1} of {runs}")
        with tempfile.TemporaryDirectory() as folder, Outbox(Path(folder) / "outbox.db") as outbox:
            commits.append(committing(outbox))
            sizes.append(bytes_per_event(outbox))
        drains.append(draining(_central))
        alone.append(draining(lambda site, url: giving(site, DEVICE, url)))
    return {
        "commit_events_per_s": Figure("1/s", tuple(commits)),
        "outbox_bytes_per_event": Figure("bytes", tuple(sizes)),
        "drain_events_per_s": Figure("1/s", tuple(drains)),
        "drain_alone_events_per_s": Figure("1/s", tuple(alone)),
    }


def committing(outbox: Outbox) -> float:
    """Signed attendances made durable one by one, a second."""
    recorder = _recorder(outbox, SigningKey.generate())
    recorder.start("benchmark")
    begin = now_ms()
    for _ in range(COMMITTED):
        recorder.attendance(SOMEONE)
    return COMMITTED / (now_ms() - begin) * 1000


def bytes_per_event(outbox: Outbox) -> float:
    """The database's pages, shared among its events."""
    pages, page_bytes = (
        outbox._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    return float(pages * page_bytes / outbox.head().seq)


def draining(server: Callable[[Site, str], AbstractContextManager[object]]) -> float:
    """Events receipted by this server at a broker's URL, a second, connecting included."""
    with tempfile.TemporaryDirectory(prefix="hadir-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the broker's user is another where root measures
        site = Site(make_fleet(folder / "fleet"), folder, {})
        key = SigningKey.generate()
        _register(site, key)
        with Outbox(folder / "board" / "outbox.db") as outbox:
            recorder = _recorder(outbox, key)
            note(f"signing {EVENTS:,} events")
            _seed(recorder)
            with broker(site, 1) as url, server(site, url):
                return _drained(site, recorder, url)


def _central(site: Site, url: str) -> AbstractContextManager[object]:
    return consuming(consumer(site, "central-1", url, "sqlite:///central.db"))


def _drained(site: Site, recorder: Recorder, url: str) -> float:
    pair = certified(site, DEVICE)
    keys = load_keys_document(site.fleet.folder / KEYS_FILE, site.fleet.root_thumbprint)
    publisher = Publisher(
        recorder,
        BrokerConfig(url, authority_file(site), pair.certificate, pair.key),
        EventsConfig("receipt", drain_s=TIMEOUT_S),
        _status,
        lambda: b"{}",
        lambda: keys.verification_keys(RECEIPT_TYP),
    )
    loop = Loop("publisher", lambda loop: publisher.run(loop.turned))
    begin = now_ms()
    loop.start()
    publisher.stop()  # which drains first
    loop.join(TIMEOUT_S + 60)
    elapsed_ms = now_ms() - begin
    if loop.error is not None:
        raise loop.error
    head = recorder.outbox.head()
    if recorder.outbox.waiting_count() or (head.acked_seq, head.acked_hash) != (head.seq, head.hash):
        raise RuntimeError(f"receipted up to seq {head.acked_seq} of {head.seq}")
    return head.seq / elapsed_ms * 1000


def _seed(recorder: Recorder) -> None:
    """Record a long outage, without waiting for the disk at every event."""
    database = recorder.outbox._database
    database.execute("PRAGMA synchronous = OFF")
    recorder.start("benchmark")
    for _ in range(EVENTS - 1):
        recorder.attendance(SOMEONE)
    database.execute("PRAGMA synchronous = FULL")


def _register(site: Site, key: SigningKey) -> None:
    entry = key.public_jwk | {
        "device": DEVICE,
        "site": site.fleet.site,
        "chain": None,
        "first_seq": None,
        "last_seq": None,
        "revoked_at": None,
    }
    (site.folder / "devices.jwks").write_text(json.dumps({"keys": [entry]}), encoding="utf-8")


def _recorder(outbox: Outbox, key: SigningKey) -> Recorder:
    identity = DeviceIdentity(DEVICE, "hq", key)
    return Recorder(outbox, identity, Clock(), Direction.IN, "e" * 64, 1, diagnostics=False)


def _status(state: State, conn: int) -> bytes:
    return f'{{"state": "{state}", "conn": {conn}}}'.encode()


if __name__ == "__main__":
    main("outbox", measure)
