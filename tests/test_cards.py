"""What happens to cards, from the daemon to the server's database: restored, cloned, replaced, written to.

Real processes: Mosquitto, `hadir-central run`, `hadir-edge run`. The board's and the server's own tests show each step.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demo.door import DEVICE
from demo.mosquitto import program
from edge.trust.identity import write_signing_key
from edge.trust.jws import SigningKey, decode_base64url, encode_base64url, parse_object
from tests.conftest import People
from tests.schemas import FOLDER, fits
from torture.door import PASSES, Door, Life, look_into, make_door
from torture.receipts import ANY_BROKER, LAST_DRAIN_S, Rig, new_life, rig

RUN = PASSES + 1
"""Events of one run: its start, and everybody who passed."""


@dataclass
class Board:
    """A board's folder, of which copies can be made, with the card in it."""

    life: Life
    told: int = field(default=0)

    @property
    def folder(self) -> Path:
        return self.life.aim.parent

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def outbox(self) -> Path:
        return self.state / "outbox.db"

    def run(self) -> str:
        """One run to its good end; what it logged. Everything that it had to tell is receipted then."""
        death = self.life.live("")
        assert death.code == 0, death.log
        self.told += death.told
        return death.log

    def chain(self) -> str:
        found = look_into(self.outbox)
        assert found is not None
        assert found.waiting == 0
        return found.chain


@dataclass
class Site:
    """A server, its broker, and what it has stored."""

    door: Door
    rig: Rig

    def board(self, name: str) -> Board:
        """A new board with an empty card."""
        life = new_life(self.door, self.rig, name, archive_kept=True)
        life.be_patient(LAST_DRAIN_S)
        return Board(life)

    def clone(self, board: Board, name: str) -> Board:
        """The same board once more: keys, configuration and card."""
        shutil.copytree(board.folder, self.door.folder / name)
        return Board(Life(self.door.folder / name / "edge.toml", archive_kept=True))

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        database = sqlite3.connect(f"file:{self.rig.database}?mode=ro", uri=True)
        try:
            return database.execute(query, values).fetchall()
        finally:
            database.close()

    def counted(self, chain: str) -> Counter[object]:
        """Events of a chain that count, by type."""
        rows = self.rows(
            "SELECT event.type, event.was_chain IS NOT NULL FROM event JOIN chain ON chain.id = event.chain_id"
            " WHERE chain.chain = ? AND event.seq <= chain.seq"
            " AND (chain.held_from IS NULL OR event.seq < chain.held_from)",
            chain,
        )
        return Counter(kind for kind, _ in rows)

    def attendances(self) -> int:
        """All that count, of all chains; an event that was signed anew and is there already counts once."""
        rows = self.rows(
            "SELECT count(*) FROM event JOIN chain ON chain.id = event.chain_id"
            " WHERE event.type = 'attendance' AND event.seq <= chain.seq"
            " AND (chain.held_from IS NULL OR event.seq < chain.held_from)"
        )
        return int(str(rows[0][0]))

    def alerts(self) -> set[object]:
        return {kind for (kind,) in self.rows("SELECT kind FROM alert WHERE closed_ms IS NULL")}

    def forget_receipts(self) -> None:
        """As a broker does that lost what it retained."""
        address = urlsplit(f"mqtt://127.0.0.1:{self.rig.port}")
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.connect(str(address.hostname), address.port or 0)
        client.loop_start()
        client.publish(f"hadir/v1/{DEVICE}/down/receipt", b"", qos=1, retain=True).wait_for_publish(20)
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def site(people: People) -> Iterator[Site]:
    if program() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    assert people
    with tempfile.TemporaryDirectory(prefix="hadir-cards-") as name:
        door = make_door(Path(name), ANY_BROKER)
        with rig(door, Path(name) / "rig") as running:
            assert running.wait_until_ready()
            yield Site(door, running)
        assert running.server.problems == []


def test_a_card_restored_from_yesterday_begins_a_new_chain_and_loses_nothing(site: Site) -> None:
    board = site.board("board")
    board.run()
    shutil.copytree(board.state, board.folder / "yesterday")
    board.run()
    old = board.chain()
    shutil.rmtree(board.state)
    (board.folder / "yesterday").rename(board.state)
    log = board.run()
    board.run()
    new = board.chain()
    assert new != old
    assert "restored from a copy, or cloned" in log
    assert site.counted(old) == {"start": 2, "attendance": 2 * PASSES}
    assert site.counted(new)["tamper"] == 1
    assert site.attendances() == board.told
    assert site.alerts() == {"rolled-back", "tamper"}
    assert (board.state / f"outbox-{old}.db").exists()


def test_of_a_card_cloned_into_a_second_board_one_goes_on_and_the_other_begins_anew(site: Site) -> None:
    first = site.board("first")
    first.run()
    second = site.clone(first, "second")
    first.run()
    chain = first.chain()
    second.run()
    first.run()
    second.run()
    assert first.chain() == chain
    assert second.chain() != chain
    assert site.counted(chain) == {"start": 3, "attendance": 3 * PASSES}
    assert site.counted(second.chain())["tamper"] == 1
    assert site.attendances() == first.told + second.told
    assert site.alerts() == {"rolled-back", "tamper"}


def test_two_boards_of_one_card_that_both_sign_are_a_fork_and_both_are_kept(site: Site) -> None:
    """The broker forgot the receipt, so that the clone learned of the other only after it had sent its own."""
    first = site.board("first")
    first.run()
    second = site.clone(first, "second")
    first.run()
    chain = first.chain()
    site.forget_receipts()
    second.run()
    second.run()
    assert second.chain() != chain
    assert {"fork", "tamper"} <= site.alerts()
    ((held_from,),) = site.rows("SELECT held_from FROM chain WHERE chain = ?", chain)
    assert held_from == RUN + 1
    assert site.counted(chain) == {"start": 1, "attendance": PASSES}
    kept = site.rows(
        "SELECT DISTINCT event.seq FROM event JOIN chain ON chain.id = chain_id WHERE chain.chain = ?", chain
    )
    evidence = site.rows("SELECT DISTINCT seq FROM evidence WHERE reason = 'fork' AND chain = ?", chain)
    assert len(kept) == 2 * RUN
    assert len(evidence) >= 1


def test_a_board_replaced_under_the_same_door_has_a_new_chain_and_the_old_one_is_not_believed(
    site: Site,
) -> None:
    old = site.board("old")
    old.run()
    first = old.chain()
    new = site.board("new")
    (new.folder / "device.pem").unlink()
    key = SigningKey.generate()
    write_signing_key(new.folder / "device.pem", key)
    registry = json.loads(site.door.devices.read_text())
    (entry,) = registry["keys"]
    replacement = entry | key.public_jwk
    entry["revoked_at"] = 1_764_000_000
    registry["keys"].append(replacement)
    site.door.devices.write_text(json.dumps(registry))
    site.rig.server.kill()  # or wait the seconds until it looks
    assert site.rig.server.wait_until_ready()
    new.run()
    old.run()
    new.run()
    assert site.counted(new.chain()) == {"start": 2, "attendance": 2 * PASSES}
    assert site.counted(first) == {"start": 1, "attendance": PASSES}
    quarantined = site.rows("SELECT count(*) FROM evidence WHERE reason = 'revoked-key' AND chain = ?", first)
    assert quarantined == [(RUN,)]
    assert "revoked-key" in site.alerts()
    assert "tamper" not in site.alerts()


def test_whatever_board_and_server_say_is_what_the_contract_describes(site: Site) -> None:
    """Every message of a whole run, by its topic, against docs/events/asyncapi.json and the schemas that it names."""
    board = site.board("board")
    with overheard(site.rig.port) as messages:
        board.run()
    seen = Counter(check(topic, payload) for topic, payload in messages)
    assert seen["event"] == RUN
    assert seen.keys() == {"event", "status", "health", "receipt"}


@contextmanager
def overheard(port: int) -> Iterator[list[tuple[str, bytes]]]:
    heard: list[tuple[str, bytes]] = []
    subscribed = Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = lambda _client, _data, message: heard.append((message.topic, bytes(message.payload)))
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.subscribe("hadir/#", qos=1)
    client.loop_start()
    assert subscribed.wait(20)
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def check(topic: str, payload: bytes) -> str:
    """The channel of a message, which is as its document says."""
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    addresses = {channel["address"]: name for name, channel in document["channels"].items()}
    name = str(addresses[topic.replace(f"/{DEVICE}/", "/{device}/")])
    described = document["components"]["messages"][name]["payload"]
    if "x-claims" in described:
        assert len(payload) <= described["maxLength"]
        assert re.fullmatch(described["pattern"], payload.decode())
        assert fits(name, parse_object(payload.split(b".")[1], "payload"))
    else:
        assert described["schema"]["$ref"] == f"./{name}.schema.json"
        members = json.loads(payload)
        assert fits(name, members), members
        assert fits("head", parse_object(members["head"].split(".")[1].encode(), "head"))
    return name


def altered(token: str) -> str:
    """Somebody else's number under the old signature."""
    header, payload, signature = token.split(".")
    text = decode_base64url(payload.encode()).replace(b"P44", b"E66")
    return f"{header}.{encode_base64url(text)}.{signature}"


def test_a_token_altered_in_the_outbox_is_told_of_and_holds_nothing_up(site: Site) -> None:
    board = site.board("board")
    config = board.folder / "edge.toml"
    settings = config.read_text()
    nowhere = settings.replace(f":{site.rig.port}", ":1").replace(f"drain_s = {LAST_DRAIN_S}", "drain_s = 0")
    config.write_text(nowhere)
    board.run()
    database = sqlite3.connect(board.outbox)
    ((token,),) = database.execute("SELECT token FROM event WHERE seq = 3")
    with database:
        database.execute("UPDATE event SET token = ? WHERE seq = 3", (altered(token),))
    database.close()
    config.write_text(settings)
    board.run()
    assert site.counted(board.chain()) == {"start": 2, "attendance": 2 * PASSES - 1, "tamper": 1, "skip": 1}
    people = {person for (person,) in site.rows("SELECT person FROM event WHERE person IS NOT NULL")}
    assert people == {"P44"}
    assert {"tamper", "skipped"} <= site.alerts()
