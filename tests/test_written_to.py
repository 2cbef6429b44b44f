"""A card whose outbox somebody wrote to, up to the real server: nothing wedges, all else counts, and it is told.

Mosquitto, `hadir-central run` with its database, and the board's own uplink.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from demo.boards import make_fleet
from demo.central import consuming, write_config
from demo.door import DEVICE
from edge.board.clock import Clock
from edge.config import BrokerConfig, EventsConfig
from edge.loops import Loop
from edge.records import Direction
from edge.trust.identity import DeviceIdentity, load_signing_key
from edge.trust.receipts import RECEIPT_TYP
from edge.uplink.outbox import Outbox
from edge.uplink.publish import Publisher
from edge.uplink.recorder import Recorder
from edge.uplink.session import State
from provisioning.fleet import DEVICES_FILE, KEYS_FILE, Fleet
from tests.brokers import mosquitto
from tests.chains import somebody

EVENTS = 20
DRAIN_S = 60.0


@pytest.mark.parametrize(
    ("written", "gone"),
    [
        ("DELETE FROM event WHERE seq = 5", {5}),
        ("DELETE FROM event WHERE seq IN (5, 6, 20)", {5, 6, 20}),
        ("UPDATE event SET token = CAST(x'ff00' AS TEXT) WHERE seq = 7", {7}),
        ("UPDATE event SET token = 'x' || substr(token, 2) WHERE seq = 20", {20}),
    ],
    ids=["removed", "removed together", "undecodable", "altered"],
)
def test_what_was_written_to_is_told_and_all_else_is_stored_and_counts(
    tmp_path: Path, written: str, gone: set[int]
) -> None:
    fleet = make_fleet(tmp_path / "fleet", devices=[DEVICE])
    with (
        mosquitto("allow_anonymous true\nmax_queued_messages 0") as url,
        Outbox(tmp_path / "outbox.db") as outbox,
    ):
        recorder = recording(fleet, outbox)
        with closing(sqlite3.connect(outbox.path, isolation_level=None)) as card:
            card.execute(written)
        with consuming(server(fleet, tmp_path / "central", url)):
            drain(recorder, fleet, url)
        head = outbox.head()
        assert (head.acked_seq, head.acked_hash) == (head.seq, head.hash), "all of it is receipted"
    with closing(sqlite3.connect(tmp_path / "central" / "central.db")) as database:
        stored = {seq for (seq,) in database.execute("SELECT seq FROM event")}
        ((counted_to, held_from),) = database.execute("SELECT seq, held_from FROM chain").fetchall()
        alerts = {kind for (kind,) in database.execute("SELECT kind FROM alert")}
        assert database.execute("SELECT count(*) FROM evidence").fetchone() == (0,)
    assert stored == set(range(1, head.seq + 1)) - gone
    assert (counted_to, held_from) == (head.seq, None)
    assert alerts == {"skipped", "tamper"}


def recording(fleet: Fleet, outbox: Outbox) -> Recorder:
    """A board's start and those who passed, not yet sent."""
    key = load_signing_key(fleet.board_folder(DEVICE) / "device.pem")
    identity = DeviceIdentity(DEVICE, fleet.site, key)
    recorder = Recorder(outbox, identity, Clock(), Direction.IN, "e" * 64, 1, diagnostics=False)
    recorder.start("1.0")
    for number in range(EVENTS - 1):
        recorder.attendance(somebody(f"E{number}"))
    return recorder


def server(fleet: Fleet, folder: Path, url: str) -> Path:
    return write_config(
        folder,
        url,
        devices=fleet.folder / DEVICES_FILE,
        keys=fleet.folder / KEYS_FILE,
        root_thumbprint=fleet.root_thumbprint,
        receipt_key=fleet.signing_key("receipt"),
    )


def drain(recorder: Recorder, fleet: Fleet, url: str) -> None:
    """Send until everything is receipted, or for DRAIN_S."""
    publisher = Publisher(
        recorder,
        BrokerConfig(url=url),
        EventsConfig("receipt", drain_s=DRAIN_S),
        status,
        lambda: b"{}",
        lambda: fleet.keys.verification_keys(RECEIPT_TYP),
    )
    loop = Loop("publisher", lambda loop: publisher.run(loop.turned))
    loop.start()
    publisher.stop()
    loop.join(DRAIN_S + 20)
    if loop.error is not None:
        raise loop.error


def status(state: State, conn: int) -> bytes:
    return f'{{"state": "{state}", "conn": {conn}}}'.encode()
