"""A server restored from yesterday's copy asks a real board for what it lacks, and gets it out of the archive."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from central.keyring import Keyring
from central.prove import prove
from central.reconcile import reconcile
from central.store.database import reading
from demo.broker import embedded_broker
from demo.central import consuming
from edge.config import BrokerConfig, EventsConfig
from edge.loops import Loop
from edge.records import ClockState, TimeReading
from edge.trust.jws import sign
from edge.trust.receipts import RECEIPT_TYP, head_claims
from edge.trust.tokens import HEAD_TYP
from edge.uplink.outbox import Outbox
from edge.uplink.publish import Publisher
from edge.uplink.recorder import Recorder
from provisioning.fleet import Fleet
from tests.chains import KEY, recorder_on, somebody
from tests.databases import opened
from tests.office import NOW_MS, Chain, register
from tests.test_server import configured

WAIT_S = 40.0


@contextmanager
def board(recorder: Recorder, url: str, fleet: Fleet) -> Iterator[None]:
    """The real uplink of a board, whose status tells its signed head."""

    def status(state: str, conn: int) -> bytes:
        head = recorder.outbox.head()
        made = TimeReading(NOW_MS, 10_000, "boot-a", ClockState.SYNCED, 5)
        claims = head_claims(recorder.identity, head.chain, head.seq, head.hash, made)
        token = sign(claims, recorder.identity.key, HEAD_TYP).compact
        return json.dumps({"state": state, "boot": "boot-a", "conn": conn, "head": token}).encode()

    keys = fleet.keys.verification_keys(RECEIPT_TYP)
    publisher = Publisher(
        recorder,
        BrokerConfig(url=url, retry_min_s=0.05, retry_max_s=0.2),
        EventsConfig("receipt", drain_s=WAIT_S),
        status,
        lambda: b"{}",
        lambda: keys,
    )
    loop = Loop("publisher", lambda loop: publisher.run(loop.turned))
    loop.start()
    try:
        yield
    finally:
        publisher.stop()  # which waits until everything is receipted
        loop.join(WAIT_S + 20)
        assert loop.error is None


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it holds soon."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.1) for _ in range(int(WAIT_S / 0.1)))


def missing(engine: Engine) -> list[tuple[range, ...]]:
    with reading(engine) as connection:
        return [found.ranges for found in reconcile(connection)]


def test_what_a_restored_server_lacks_comes_again_out_of_the_boards_archive(
    fleet: Fleet, tmp_path: Path
) -> None:
    devices = register(tmp_path / "devices.jwks", Chain("door-01", key=KEY))
    with embedded_broker() as url, Outbox(tmp_path / "board" / "outbox.db") as outbox:
        config = configured(fleet, tmp_path / "central", url, "sqlite:///central.db", devices=devices)
        database, copy = (tmp_path / "central" / name for name in ("central.db", "yesterday.db"))
        recorder = recorder_on(outbox)
        recorder.start("1.0")
        for number in range(4):
            recorder.attendance(somebody(f"E{number}"))
        with consuming(config) as central, board(recorder, url, fleet):
            assert eventually(lambda: outbox.waiting_count() == 0)
            assert central.stop() == 0
        shutil.copy(database, copy)
        for number in range(3):
            recorder.attendance(somebody(f"E1{number}"))
        with consuming(config) as central:
            with board(recorder, url, fleet):
                assert eventually(lambda: outbox.waiting_count() == 0)
            assert central.stop() == 0
        for path in tmp_path.glob("central/central.db*"):
            path.unlink()
        copy.rename(database)
        with (
            consuming(config) as central,
            board(recorder, url, fleet),
            opened("sqlite:///central.db", tmp_path / "central") as engine,
        ):
            assert eventually(lambda: missing(engine) == [(range(6, 9),)])
            outbox.ask_resend(6)
            assert eventually(lambda: missing(engine) == [])
            with reading(engine) as connection:
                (proof,) = prove(connection, Keyring(devices).registry)
            assert (proof.problems, proof.events) == ([], 8)
