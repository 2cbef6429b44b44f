"""The server as a whole, over real brokers and databases: what is sent is stored, proven and receipted."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import Engine, select, text

from central.cli import main
from central.keyring import note_taken
from central.steps import Step
from central.store import tables
from central.store.database import reading, writing
from demo.broker import embedded_broker
from demo.central import Consuming, consuming, write_config
from edge.errors import KeyFileError
from edge.records import ChainPosition, ClockState, TimeReading
from edge.trust.events import start_claims
from edge.trust.identity import DeviceIdentity, load_signing_key
from edge.trust.jws import sign
from edge.trust.receipts import RECEIPT_TYP, Receipt, head_claims, verify_receipt
from edge.trust.tokens import EVENT_TYP, HEAD_TYP
from provisioning.fleet import DEVICES_FILE, KEYS_FILE, Fleet
from tests.brokers import BROKERS, Publish, publishing
from tests.certificates import tls_door
from tests.databases import opened
from tests.peers import ScriptedBroker
from tests.test_central import Board, altered, usual_signals

WAIT_S = 30


def configured(
    fleet: Fleet,
    folder: Path,
    broker_url: str,
    database_url: str,
    name: str = "central-1",
    devices: Path | None = None,
    broker_files: str = "",
) -> Path:
    """A consumer's configuration; the boards are the fleet's, or those of another registry."""
    return write_config(
        folder,
        broker_url,
        devices=devices or fleet.folder / DEVICES_FILE,
        keys=fleet.folder / KEYS_FILE,
        root_thumbprint=fleet.root_thumbprint,
        receipt_key=fleet.signing_key("receipt"),
        database_url=database_url,
        name=name,
        broker_files=broker_files,
    )


@dataclass
class Receipts:
    """What a board reads on its topic of receipts."""

    fleet: Fleet
    device: str
    taken: list[Receipt] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, payload: bytes) -> None:
        keys = self.fleet.keys.verification_keys(RECEIPT_TYP)
        with self.changed:
            self.taken.append(verify_receipt(payload, keys, self.device))
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until the next receipt, or so long."""
        with self.changed:
            self.changed.wait(seconds)

    def wait_for(self, seq: int) -> Receipt:
        """The first receipt that covers so much."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(one.seq >= seq for one in self.taken), WAIT_S), (
                self.taken
            )
            return next(one for one in self.taken if one.seq >= seq)


@contextmanager
def receipts(url: str, fleet: Fleet, device: str = "door-01") -> Iterator[Receipts]:
    """A client that reads a board's receipts."""
    address = urlsplit(url)
    read = Receipts(fleet, device)
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"reader-{device}", protocol=mqtt.MQTTv5)
    client.on_message = lambda _client, _data, message: read.take(bytes(message.payload))
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(address.hostname or "", address.port or 0, clean_start=True)
    client.subscribe(f"hadir/v1/{device}/down/receipt", qos=1)
    client.loop_start()
    try:
        assert subscribed.wait(WAIT_S)
        yield read
    finally:
        client.disconnect()
        client.loop_stop()


@dataclass
class Site:
    """A broker, a consumer on it, a client that publishes, and the receipts of door-01."""

    url: str
    config: Path
    central: Consuming
    publish: Publish
    receipts: Receipts


@pytest.fixture(params=sorted(BROKERS))
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    with BROKERS[request.param]() as url:
        yield url


@pytest.fixture
def site(broker: str, fleet: Fleet, database: Engine, database_url: str, tmp_path: Path) -> Iterator[Site]:
    config = configured(fleet, tmp_path, broker, database_url)
    with consuming(config) as central, publishing(broker) as publish, receipts(broker, fleet) as read:
        yield Site(broker, config, central, publish, read)


@pytest.fixture
def board(fleet: Fleet) -> Board:
    return Board(fleet)


def stored(database: Engine) -> list[tuple[int, str]]:
    with reading(database) as connection:
        event = tables.event.c
        return [tuple(row) for row in connection.execute(select(event.seq, event.token).order_by(event.seq))]


def test_events_are_stored_as_they_were_signed_and_receipted(
    site: Site, board: Board, database: Engine
) -> None:
    for token in (board.next(), board.next(), board.next("E7")):
        site.publish(board.topic, token)
    receipt = site.receipts.wait_for(3)
    assert (receipt.chain, receipt.hash, receipt.refused) == (board.chain, board.tokens[2].hash, ())
    assert stored(database) == [(seq, token.compact) for seq, token in enumerate(board.tokens, 1)]
    assert site.central.stop() == 0
    assert "counted=3" in site.central.log()
    assert "E7" not in site.central.log()


def test_a_head_that_is_not_believed_is_kept_as_evidence(
    site: Site, board: Board, fleet: Fleet, database: Engine
) -> None:
    """Once, what boards say of themselves was counted and forgotten where it could not be believed."""
    other = Board(fleet, "door-02")
    key = load_signing_key(fleet.board_folder("door-02") / "device.pem")
    made = TimeReading(1_764_000_000_000, 9_000, "boot", ClockState.SYNCED, 5)
    head = sign(
        head_claims(DeviceIdentity("door-02", fleet.site, key), other.chain, 0, None, made), key, HEAD_TYP
    )
    payload = json.dumps({"state": "online", "boot": "boot", "conn": 1, "head": head.compact})
    site.publish("hadir/v1/door-01/up/status", payload)
    site.publish("hadir/v1/door-01/up/health", b"\xff")
    site.publish(board.topic, board.next())
    site.receipts.wait_for(1)
    with reading(database) as connection:
        kept = connection.execute(select(tables.evidence.c.device, tables.evidence.c.reason)).all()
        states = connection.execute(select(tables.board)).all()
    assert sorted(map(tuple, kept)) == [("door-01", "malformed"), ("door-01", "wrong-owner")]
    assert states == []


def test_the_time_of_an_event_that_is_dated_ahead_is_not_believed(
    site: Site, board: Board, database: Engine
) -> None:
    """Once, it was flagged and its time was taken for a good one all the same."""
    key = load_signing_key(board.fleet.board_folder("door-01") / "device.pem")
    ahead = TimeReading(int(time.time() + 400) * 1000, 9_000, "boot", ClockState.SYNCED, 5)
    claims = start_claims(
        DeviceIdentity("door-01", board.fleet.site, key),
        ChainPosition(board.chain, 1, None, 1),
        ahead,
        cause="new",
        clean=True,
        version="1",
        last=None,
    )
    site.publish(board.topic, sign(claims, key, EVENT_TYP).compact)
    site.receipts.wait_for(1)
    with reading(database) as connection:
        dated = connection.execute(select(tables.event.c.at_ms, tables.event.c.quality)).all()
        alerts = connection.execute(select(tables.alert.c.kind)).scalars().all()
    assert (dated, alerts) == ([(None, None)], ["ahead"])


def test_a_token_that_is_not_believed_is_receipted_as_refused_and_no_outbox_wedges(
    site: Site, board: Board, database: Engine
) -> None:
    site.publish(board.topic, board.next())
    site.publish(board.topic, altered(board.next()))
    site.publish(board.topic, board.next())
    receipt = site.receipts.wait_for(3)
    assert [(one.seq, one.reason) for one in receipt.refused] == [(2, "bad-signature")]
    assert [seq for seq, _ in stored(database)] == [1, 3]


# What goes wrong around it


def test_what_is_here_when_it_is_told_to_stop_is_stored_and_receipted_still(
    site: Site, board: Board, database: Engine
) -> None:
    for token in [board.next() for _ in range(20)]:
        site.publish(board.topic, token)
    assert site.central.stop() == 0
    kept = len(stored(database))
    assert [seq for seq, _ in stored(database)] == list(range(1, kept + 1))
    if kept:
        assert site.receipts.wait_for(kept).hash == board.tokens[kept - 1].hash


def test_what_was_stored_and_not_receipted_is_receipted_when_it_comes_again(
    broker: str, fleet: Fleet, board: Board, database: Engine, database_url: str, tmp_path: Path
) -> None:
    """Killed between commit and receipt; the board sends again, to whichever consumer there is."""
    config = configured(fleet, tmp_path, broker, database_url)
    killer = ("-m", "tests.killed_central", "batch-committed")
    with publishing(broker) as publish, receipts(broker, fleet) as read:
        with consuming(config, module=killer) as central:
            publish(board.topic, board.next())
            assert central.process.wait(WAIT_S) == -signal.SIGKILL
        assert [seq for seq, _ in stored(database)] == [1]
        assert read.taken == []
        with consuming(config):
            publish(board.topic, board.tokens[0].compact)
            assert read.wait_for(1).hash == board.tokens[0].hash
    assert [seq for seq, _ in stored(database)] == [1]


@pytest.mark.parametrize("step", [step.value for step in Step])
def test_killed_at_any_step_nothing_is_lost_or_doubled(
    fleet: Fleet, board: Board, tmp_path: Path, step: str
) -> None:
    with embedded_broker() as url, publishing(url) as publish, receipts(url, fleet) as read:
        config = configured(fleet, tmp_path, url, "sqlite:///central.db")
        with consuming(config, module=("-m", "tests.killed_central", step)) as central:
            publish(board.topic, board.next())
            assert central.process.wait(WAIT_S) == -signal.SIGKILL
        with consuming(config) as central:
            publish(board.topic, board.tokens[0].compact)
            publish(board.topic, board.next())
            assert read.wait_for(2).hash == board.tokens[1].hash
            assert central.stop() == 0
    with opened("sqlite:///central.db", tmp_path) as engine:
        assert stored(engine) == [(seq, token.compact) for seq, token in enumerate(board.tokens, 1)]


def test_while_the_database_fails_nothing_is_acknowledged_and_then_all_is_stored(
    fleet: Fleet, board: Board, database: Engine, database_url: str, tmp_path: Path
) -> None:
    with (
        embedded_broker() as url,
        publishing(url) as publish,
        receipts(url, fleet) as read,
        consuming(configured(fleet, tmp_path, url, database_url)) as central,
    ):
        publish(board.topic, board.next())
        read.wait_for(1)
        with writing(database) as connection:
            connection.execute(text("ALTER TABLE event RENAME TO elsewhere"))
        publish(board.topic, board.next())
        assert central.said("Nothing that was committed is lost"), central.log()
        with writing(database) as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO event"))
        assert read.wait_for(2).hash == board.tokens[1].hash


def test_over_tls_with_an_access_list_it_consumes_and_says_once_where_it_may_not_receipt(
    fleet: Fleet, tmp_path: Path
) -> None:
    acl = "user central-1\ntopic read hadir/v1/+/up/#\nuser door-01\ntopic write hadir/v1/door-01/up/#\n"
    board = Board(fleet)
    with tls_door(acl=acl) as door:
        pair = door.authority.issue("central-1")
        files = (
            f'ca_file = "{door.authority.certificate}"\ncert_file = "{pair.certificate}"\n'
            f'private_key_file = "{pair.key}"'
        )
        config = configured(fleet, tmp_path / "central", door.url, "sqlite:///central.db", broker_files=files)
        with consuming(config) as central, door.publishing() as publish:
            publish(board.topic, board.next())
            publish(board.topic, board.next())
            assert central.said("publishing refused: Not authorized"), central.log()
            assert central.stop() == 0
            assert central.log().count("publishing refused") == 1
    with opened("sqlite:///central.db", tmp_path / "central") as engine:
        assert [seq for seq, _ in stored(engine)] == [1, 2]


# What stops it from starting


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (
            lambda folder: (folder / "central-1.toml").write_text("[broker]"),
            os.EX_CONFIG,
            "broker.url: is missing",
        ),
        (
            lambda folder: (folder / "receipt.pem").unlink(),
            os.EX_CONFIG,
            "receipt.pem: the private key cannot be read",
        ),
        (lambda folder: (folder / "receipt.pem").chmod(0o644), os.EX_CONFIG, "receipt.pem"),
        (lambda folder: (folder / "central.db").mkdir(), os.EX_UNAVAILABLE, "unable to open database file"),
        (lambda folder: None, os.EX_UNAVAILABLE, "check that it runs, and its address"),
    ],
    ids=["configuration", "key", "key's mode", "database", "broker"],
)
def test_what_is_wrong_at_the_start_is_one_line(
    fleet: Fleet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    code: int,
    said: str,
) -> None:
    with ScriptedBroker() as gone:
        url = gone.url
    config = configured(fleet, tmp_path, url, "sqlite:///central.db")
    change(tmp_path)
    with usual_signals():
        assert main(["run", "--config", str(config)]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("hadir-central: ")
    assert said in last


def test_it_does_not_start_with_an_older_registry_than_it_had(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: restarted with a copy from before a theft, it believed the stolen board again."""
    with ScriptedBroker() as gone:
        url = gone.url
    config = configured(fleet, tmp_path, url, "sqlite:///central.db")
    newest = json.loads((fleet.folder / DEVICES_FILE).read_text())["version"]
    with opened("sqlite:///central.db", tmp_path) as database, writing(database) as connection:
        note_taken(connection, "central-1", newest + 1, 1)
    with usual_signals():
        assert main(["run", "--config", str(config)]) == KeyFileError.exit_code
    assert f"version {newest} is older than {newest + 1}, which" in capsys.readouterr().err


def test_the_service_manager_is_told_when_it_is_ready_and_that_it_lives(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, embedded_broker() as url:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        config = configured(fleet, tmp_path, url, "sqlite:///central.db")
        with consuming(config) as central:
            assert manager.recv(1024) == b"READY=1\nSTATUS=consuming"
            assert manager.recv(1024).startswith(b"WATCHDOG=1\nSTATUS=")
            central.process.terminate()
            while (said := manager.recv(1024)) != b"STOPPING=1":
                assert said.startswith(b"WATCHDOG=1")
