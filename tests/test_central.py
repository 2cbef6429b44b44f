"""The consumer as a whole: what arrives at a broker is told as what it is, counted once, acknowledged last."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import Full
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from central.cli import main
from central.consume import (
    MAX_PACKET_BYTES,
    MAX_QUEUED,
    BrokerAddress,
    Consumer,
    Message,
    _tls_context,
    consuming,
)
from central.listen import Listener
from central.registry import Registry, load_registry
from central.report import JsonObject
from demo.broker import embedded_broker
from demo.consumer import Listening, listening
from edge.errors import BrokerUnavailable, ConfigError, KeyFileError
from edge.records import Attendance, ChainPosition, ClockState, Direction, SignedToken, TimeReading
from edge.trust.events import attendance_claims, start_claims
from edge.trust.identity import DeviceIdentity, load_signing_key
from edge.trust.jws import SigningKey, decode_base64url, encode_base64url, sign
from edge.trust.tokens import EVENT_TYP, MAX_EVENT_BYTES
from provisioning.fleet import DEVICES_FILE, Fleet
from tests.brokers import BROKERS, Publish, mosquitto, publishing
from tests.certificates import Authority, tls_door
from tests.peers import ScriptedBroker, publish_packet

NOW_S = 1_764_000_000.0
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass
class Board:
    """A door's chain: seq 1 is its start, everything else an attendance."""

    fleet: Fleet
    device: str = "door-01"
    chain: str = "A" * 22
    tokens: list[SignedToken] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return f"hadir/v1/{self.device}/up/event"

    def next(self, person: str = "E1042", *, prev: str | None = None, key: SigningKey | None = None) -> str:
        made = self.token(
            len(self.tokens) + 1, person, prev or (self.tokens[-1].hash if self.tokens else None), key
        )
        self.tokens.append(made)
        return made.compact

    def token(
        self, seq: int, person: str = "E1042", prev: str | None = None, key: SigningKey | None = None
    ) -> SignedToken:
        key = key or load_signing_key(self.fleet.folder / "boards" / self.device / "device.pem")
        identity = DeviceIdentity(self.device, self.fleet.site, key)
        position = ChainPosition(self.chain, seq, prev, 1)
        made = TimeReading(int(NOW_S * 1000), 81_000, "boot", ClockState.SYNCED, 5)
        if seq == 1:
            claims = start_claims(identity, position, made, cause="new", clean=True, version="0.1", last=None)
        else:
            claims = attendance_claims(
                identity,
                position,
                made,
                Attendance(1, person, 4, 0.7, 0.4, 80_000),
                direction=Direction.IN,
                embedder="e" * 16,
                gallery=1,
            )
        return sign(claims, key, EVENT_TYP)


@pytest.fixture
def board(fleet: Fleet) -> Board:
    return Board(fleet)


@pytest.fixture
def registry(fleet: Fleet) -> Registry:
    return load_registry(fleet.folder / DEVICES_FILE)


def altered(token: str) -> str:
    """Another person in the payload, under the old signature."""
    header, payload, signature = token.split(".")
    text = decode_base64url(payload.encode()).replace(b"E1042", b"E9999")
    return f"{header}.{encode_base64url(text)}.{signature}"


def malleated(token: str) -> str:
    """The same token with ECDSA's other signature (r, n - s)."""
    signing_input, _, signature = token.rpartition(".")
    raw = decode_base64url(signature.encode())
    other = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return f"{signing_input}.{encode_base64url(raw[:32] + other)}"


@dataclass
class Scene:
    """A broker, the consumer on it as a process of its own, and a client that publishes."""

    central: Listening
    publish: Publish

    def told(self, count: int) -> list[tuple[object, object]]:
        """Verdict and seq, or reason, of everything that was told, once it is so much."""
        assert self.central.wait_for_any(count), self.central.events
        return [(event["verdict"], event.get("seq", event.get("reason"))) for event in self.central.events]


@pytest.fixture(params=sorted(BROKERS))
def scene(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Scene]:
    with (
        BROKERS[request.param]() as url,
        listening(url, fleet.folder / DEVICES_FILE) as central,
        publishing(url) as publish,
    ):
        yield Scene(central, publish)


def test_genuine_tokens_are_told_as_verified(scene: Scene, board: Board) -> None:
    for token in (board.next(), board.next(), board.next("E7")):
        scene.publish(board.topic, token)
    assert scene.told(3) == [("counted", 1), ("counted", 2), ("counted", 3)]
    last = scene.central.events[-1]
    assert (last["device"], last["event"], last["person"]) == ("door-01", "attendance", "E7")
    assert (last["believed"], last["hash"]) == (True, board.tokens[-1].hash)


def test_what_is_not_genuine_is_told_as_such_and_not_counted(scene: Scene, board: Board) -> None:
    for token in (board.next(), board.next()):
        scene.publish(board.topic, token)
    last = board.tokens[-1]
    stranger = board.token(3, prev=last.hash, key=SigningKey.generate()).compact
    foreign = Board(board.fleet, "door-02").next()
    scene.publish(board.topic, stranger)
    scene.publish(board.topic, altered(board.token(3, prev=last.hash).compact))
    scene.publish(board.topic, foreign)
    scene.publish(board.topic, b"\x00\xff not a token")
    scene.publish(board.topic, b"")
    scene.publish("hadir/v1/EVIL/up/event", last.compact)
    scene.publish(board.topic, board.next())
    assert scene.told(9)[2:] == [
        ("refused", "unknown-key"),
        ("refused", "bad-signature"),
        ("refused", "wrong-owner"),
        ("refused", "malformed"),
        ("refused", "malformed"),
        ("refused", "wrong-owner"),
        ("counted", 3),
    ]
    assert [event["seq"] for event in scene.central.believed()] == [1, 2, 3]


def test_the_same_token_again_is_counted_once(scene: Scene, board: Board) -> None:
    token = board.next()
    for _ in range(3):
        scene.publish(board.topic, token)
    scene.publish(board.topic, malleated(token))
    assert scene.told(4) == [("counted", 1)] + [("redelivered", 1)] * 3


def test_what_comes_too_early_waits(scene: Scene, board: Board) -> None:
    first, second, third = board.next(), board.next(), board.next()
    for token in (third, first, second):
        scene.publish(board.topic, token)
    assert scene.told(4) == [("waiting", 3), ("counted", 1), ("counted", 2), ("counted", 3)]


def test_a_fork_is_told_and_what_follows_is_held_back(scene: Scene, board: Board) -> None:
    for token in (board.next(), board.next()):
        scene.publish(board.topic, token)
    scene.publish(board.topic, board.token(2, "E9999", prev=board.tokens[0].hash).compact)
    scene.publish(board.topic, board.next())
    assert scene.told(4) == [("counted", 1), ("counted", 2), ("forked", 2), ("held", 3)]
    assert [event["person"] for event in scene.central.believed()] == [None, "E1042"]


def test_a_message_that_is_too_large_stops_nothing(scene: Scene, board: Board) -> None:
    """The first is larger than an event may be, the second than what the broker may send us at all."""
    scene.publish(board.topic, b"a" * (MAX_EVENT_BYTES + 1))
    scene.publish(board.topic, b"a" * (MAX_PACKET_BYTES + 1))
    scene.publish(board.topic, board.next())
    assert scene.central.wait_for(1)
    others = [event["reason"] for event in scene.central.events if not event["believed"]]
    assert others[0] == "too-large"
    assert set(others) == {"too-large"}


def test_it_ends_with_its_totals_when_told_to(fleet: Fleet, board: Board) -> None:
    with embedded_broker() as url, listening(url, fleet.folder / DEVICES_FILE) as central:
        with publishing(url) as publish:
            for token in (board.next(), board.next(), "junk"):
                publish(board.topic, token)
        assert central.wait_for_any(3)
        central.stop()
        assert central.exit_code == 0
        assert central.summary == ("attendances 1, counted 2, refused (malformed) 1, waiting 0, lost 0\n")


@contextmanager
def running(fleet: Fleet, *options: str) -> Iterator[tuple[subprocess.Popen[str], Publish]]:
    """A consumer that prints lines and is subscribed, and a client that publishes."""
    command = [sys.executable, "-m", "central.cli", "listen", "--devices", str(fleet.folder / DEVICES_FILE)]
    with (
        embedded_broker() as url,
        subprocess.Popen(
            [*command, "--broker", url, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        publishing(url) as publish,
    ):
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("listening on")
            yield process, publish
        finally:
            process.kill()


def test_it_ends_after_so_many_attendances(fleet: Fleet, board: Board) -> None:
    with running(fleet, "--count", "2") as (process, publish):
        for _ in range(3):
            publish(board.topic, board.next())
        lines, said = process.communicate(timeout=20)
    assert [line.split()[0] for line in lines.splitlines()] == ["verified"] * 3
    assert (process.returncode, said.split(",")[0]) == (0, "attendances 2")


def test_nobody_reading_what_it_prints_is_no_traceback(fleet: Fleet, board: Board) -> None:
    with running(fleet) as (process, publish):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        publish(board.topic, board.next())
        assert process.stderr.read() == "hadir-central: nobody reads what is printed any more\n"
        assert process.wait(20) == os.EX_IOERR


@contextmanager
def usual_signals() -> Iterator[None]:
    """The consumer runs in this process, which keeps its own handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Stopping:
    """A consumer that is told to stop while two messages are here already."""

    messages: list[Message]

    def take(self, timeout_s: float) -> Message | None:
        signal.raise_signal(signal.SIGTERM)
        return None

    def left(self) -> Iterator[Message]:
        yield from self.messages


def test_told_to_stop_it_still_tells_what_is_here(
    fleet: Fleet, board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acknowledged: list[int] = []
    messages = [
        Message(board.topic, board.next().encode(), partial(acknowledged.append, number)) for number in (1, 2)
    ]
    monkeypatch.setattr("central.listen.consuming", lambda broker: nullcontext(Stopping(messages)))
    with usual_signals():
        devices = str(fleet.folder / DEVICES_FILE)
        assert main(["listen", "--broker", "mqtt://127.0.0.1:9", "--devices", devices]) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["verified", "verified"]
    assert acknowledged == [1, 2]
    assert said.err.splitlines()[-1] == "attendances 1, counted 2, waiting 0, lost 0"


# One message after the other, without a broker


@dataclass
class Told:
    """A listener, the lines it told and when each message was acknowledged."""

    listener: Listener
    log: list[str]

    def take(self, topic: str, payload: str | bytes, now_s: float = NOW_S) -> list[str]:
        """What was told and done about one message."""
        self.log.clear()
        raw = payload.encode() if isinstance(payload, str) else payload
        self.listener.take(Message(topic, raw, lambda: self.log.append("acknowledged")), now_s)
        return list(self.log)


@pytest.fixture
def told(registry: Registry) -> Told:
    log: list[str] = []
    return Told(Listener(registry, join=False, tell=lambda line, _: log.append(line)), log)


def test_each_event_is_one_line_and_then_acknowledged(told: Told, board: Board) -> None:
    assert told.take(board.topic, board.next()) == [
        "verified    door-01     start        made 2025-11-24 16:00:00Z, synced  seq 1",
        "acknowledged",
    ]
    assert told.take(board.topic, board.next()) == [
        "verified    door-01     attendance   E1042    in  seen 2025-11-24 15:59:59Z, synced  seq 2",
        "acknowledged",
    ]
    assert told.take(board.topic, board.tokens[0].compact)[0].startswith("again       door-01     start ")
    forged = board.token(2, "E9999", prev=board.tokens[0].hash).compact
    assert told.take(board.topic, forged)[0].startswith("FORKED      door-01     attendance   E9999 ")
    assert told.take(board.topic, "junk") == [
        f"REFUSED     {board.topic}  malformed: 1 parts, expected 3",
        "acknowledged",
    ]
    assert told.listener.summary() == (
        "attendances 1, counted 2, redelivered 1, forked 1, refused (malformed) 1, waiting 0, lost 0"
    )


def test_what_could_not_be_told_is_not_acknowledged(registry: Registry, board: Board) -> None:
    """It will be sent again, to us or to the next consumer."""

    def cannot_print(line: str, finding: JsonObject) -> None:
        raise OSError(28, "No space left on device")

    acknowledged: list[str] = []
    listener = Listener(registry, join=False, tell=cannot_print)
    for payload in (board.next(), "junk"):
        message = Message(board.topic, payload.encode(), lambda: acknowledged.append("yes"))
        with pytest.raises(OSError, match="No space left"):
            listener.take(message, NOW_S)
    assert acknowledged == []


def test_a_topic_cannot_forge_a_line(told: Told) -> None:
    """Once, a line end in a topic began a line of the publisher's choice."""
    (line, _) = told.take("hadir/v1/x\nverified    door-01     attendance   E1\x1b[2J/up/event", "junk")
    assert line.startswith("REFUSED     hadir/v1/x\\nverified")
    assert line.isascii()
    assert line.isprintable()


def test_an_unknown_events_members_cannot_forge_a_line(told: Told, board: Board) -> None:
    """Once, what an unknown event called its direction was printed as it was."""
    told.take(board.topic, board.next())
    key = load_signing_key(board.fleet.folder / "boards" / "door-01" / "device.pem")
    claims = attendance_claims(
        DeviceIdentity("door-01", "hq", key),
        ChainPosition(board.chain, 2, board.tokens[0].hash, 1),
        TimeReading(int(NOW_S * 1000), 81_000, "boot", ClockState.HOLDOVER, 185),
        Attendance(1, "E1042", 4, 0.7, 0.4, 80_000),
        direction=Direction.IN,
        embedder="e" * 16,
        gallery=1,
    )
    ((_, event),) = claims["events"].items()
    claims["events"] = {"urn:hadir:event:unheard:1": event | {"direction": "\nverified    door-02"}}
    assert told.take(board.topic, sign(claims, key, EVENT_TYP).compact)[0] == (
        "verified    door-01     unheard      E1042  seen 2025-11-24 15:59:59Z, holdover to 185 ms  seq 2"
    )


def test_a_gap_is_told_once_and_again_only_when_it_is_another(told: Told, board: Board) -> None:
    other = Board(board.fleet, "door-02")
    for door in (board, other):  # of one chain id, which a board is free to choose
        for _ in range(6):
            door.next()
        told.take(door.topic, door.tokens[5].compact)
    told.log.clear()
    told.listener.look_for_gaps(NOW_S + 59)
    assert told.log == []
    told.listener.look_for_gaps(NOW_S + 61)
    told.listener.look_for_gaps(NOW_S + 63)
    chain = board.chain
    assert sorted(told.log) == [
        f"GAP         door-01     seq 1 to 5 of chain {chain} are missing",
        f"GAP         door-02     seq 1 to 5 of chain {chain} are missing",
    ]
    told.take(board.topic, board.tokens[0].compact, NOW_S + 64)
    told.log.clear()
    told.listener.look_for_gaps(NOW_S + 70)
    told.listener.look_for_gaps(NOW_S + 125)
    assert told.log == [f"GAP         door-01     seq 2 to 5 of chain {chain} are missing"]


# Acknowledgements and reconnecting, at paho's line


@dataclass
class Acknowledging:
    """A consumer whose client only notes what is acknowledged and subscribed."""

    consumer: Consumer
    client: mqtt.Client
    log: list[str]

    def connect(self, reason: str = "Success") -> None:
        code = ReasonCode(PacketTypes.CONNACK, reason)
        assert self.client.on_connect is not None
        self.client.on_connect(self.client, None, {}, code, None)  # type: ignore[call-arg, arg-type]

    def disconnect(self) -> None:
        reason = ReasonCode(PacketTypes.DISCONNECT, "Server busy")
        assert self.client.on_disconnect is not None
        self.client.on_disconnect(self.client, None, {}, reason, None)  # type: ignore[call-arg, arg-type]

    def subscribed(self, reason: str) -> None:
        codes = [ReasonCode(PacketTypes.SUBACK, reason)]
        assert self.client.on_subscribe is not None
        self.client.on_subscribe(self.client, None, 1, codes, None)  # type: ignore[call-arg, arg-type]

    def deliver(self, mid: int, topic: bytes = b"hadir/v1/door-01/up/event") -> None:
        message = mqtt.MQTTMessage(mid, topic)
        message.payload, message.qos = b"token", 1
        assert self.client.on_message is not None
        self.client.on_message(self.client, None, message)


@pytest.fixture
def acknowledging(monkeypatch: pytest.MonkeyPatch) -> Acknowledging:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, manual_ack=True)
    log: list[str] = []
    monkeypatch.setattr(client, "ack", lambda mid, qos: log.append(f"ack {mid}"))
    monkeypatch.setattr(client, "subscribe", lambda topics: log.append("subscribe"))
    return Acknowledging(Consumer(BrokerAddress("mqtt://broker"), client), client, log)


def taken(consumer: Consumer) -> Message:
    message = consumer.take(0)
    assert message is not None
    return message


def test_a_message_is_acknowledged_when_it_was_dealt_with_and_not_before(
    acknowledging: Acknowledging,
) -> None:
    acknowledging.connect()
    acknowledging.deliver(mid=7)
    assert acknowledging.log == ["subscribe"]
    taken(acknowledging.consumer).acknowledge()
    assert acknowledging.log == ["subscribe", "ack 7"]


def test_an_acknowledgement_never_reaches_a_message_of_a_later_connection(
    acknowledging: Acknowledging,
) -> None:
    """Once, number 7 of before was acknowledged after reconnecting, where 7 was a message not yet dealt with."""
    acknowledging.connect()
    acknowledging.deliver(mid=7)
    message = taken(acknowledging.consumer)
    acknowledging.disconnect()
    acknowledging.connect()
    acknowledging.deliver(mid=7)
    message.acknowledge()
    assert acknowledging.log == ["subscribe", "subscribe"]
    taken(acknowledging.consumer).acknowledge()
    assert acknowledging.log[-1] == "ack 7"


def test_a_subscription_that_is_not_renewed_is_an_error_once_all_was_taken(
    acknowledging: Acknowledging,
) -> None:
    """Once, the consumer then listened to nothing for ever."""
    acknowledging.connect()
    acknowledging.subscribed("Granted QoS 1")
    acknowledging.deliver(mid=1)
    acknowledging.subscribed("Not authorized")
    assert taken(acknowledging.consumer)
    with pytest.raises(BrokerUnavailable, match="subscription refused: Not authorized"):
        acknowledging.consumer.take(0)


def test_a_broker_that_is_busy_when_it_is_found_again_is_tried_again(acknowledging: Acknowledging) -> None:
    """Only at the start is a refusal the end: somebody is there who mends it."""
    acknowledging.connect()
    acknowledging.subscribed("Granted QoS 1")
    acknowledging.disconnect()
    acknowledging.connect("Server busy")
    assert acknowledging.consumer.take(0) is None
    acknowledging.connect()
    assert acknowledging.log == ["subscribe", "subscribe"]


def test_a_topic_that_is_no_utf8_does_not_end_the_thread_that_receives(acknowledging: Acknowledging) -> None:
    acknowledging.deliver(mid=1, topic=b"hadir/v1/\xff/up/event")
    assert taken(acknowledging.consumer).topic == "(not UTF-8)"


def test_a_packet_larger_than_memory_should_hold_ends_the_connection_and_not_the_consumer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Regression: whatever a broker claimed was read, up to 256 MB of it; the size was only announced."""
    caplog.set_level(logging.INFO, "central.consume")
    claims_256_mb = bytes([0x32, 0xFF, 0xFF, 0xFF, 0x7F])
    event = ("hadir/v1/door-01/up/event", b"token")
    with (
        ScriptedBroker(send_first=claims_256_mb, send=[event]) as broker,
        consuming(BrokerAddress(broker.url)) as consumer,
    ):
        message = consumer.take(20)
        assert message is not None
        assert message.payload == b"token"
        assert len(broker.connects) == 2
        message.acknowledge()
        assert broker.wait_until(lambda: broker.acknowledged == [1])
    told = [record.getMessage() for record in caplog.records]
    assert "a packet of 268435455 bytes, where at most 4194304 are taken" in told[0]
    assert told[1].endswith(": connected again")


def test_an_error_while_a_packet_is_read_ends_the_connection_and_a_new_one_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: paho's thread was gone without a word, and the consumer waited for ever for what never came."""
    failures = iter([ValueError("no such packet")])

    def fails_once(message: mqtt.MQTTMessage) -> str:
        for error in failures:
            raise error
        return message.topic

    monkeypatch.setattr("central.consume.topic_of", fails_once)
    with (
        ScriptedBroker(send=[("hadir/v1/door-01/up/event", b"token")]) as broker,
        consuming(BrokerAddress(broker.url)) as consumer,
    ):
        assert consumer.take(20) is not None
        assert len(broker.connects) == 2


def test_a_broker_that_answers_what_cannot_be_read_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: mqtt.Client, bufsize: int) -> bytes:
        raise ValueError("no such packet")

    monkeypatch.setattr(mqtt.Client, "_sock_recv", fails)
    with (
        ScriptedBroker() as broker,
        pytest.raises(BrokerUnavailable, match="it sent what cannot be read: no such packet; check that it"),
        consuming(BrokerAddress(broker.url)),
    ):
        pass


def test_of_a_message_larger_than_was_asked_for_no_more_is_kept_than_shows_that_it_is() -> None:
    """Regression: some thousand messages of megabytes, of a broker that is careless, waited in memory."""
    large = publish_packet("hadir/v1/door-01/up/event", b"a" * (2 * MAX_PACKET_BYTES), 9)
    with (
        ScriptedBroker(send_first=large) as broker,
        consuming(BrokerAddress(broker.url)) as consumer,
    ):
        message = consumer.take(20)
        assert message is not None
        assert len(message.payload) == MAX_PACKET_BYTES


def test_what_is_here_already_is_still_taken_by_who_stops(acknowledging: Acknowledging) -> None:
    for mid in (1, 2, 3):
        acknowledging.deliver(mid)
    for message in acknowledging.consumer.left():
        message.acknowledge()
        acknowledging.deliver(mid=9)  # what comes meanwhile would keep it for ever
    assert acknowledging.log == ["ack 1", "ack 2", "ack 3"]


def test_a_full_queue_holds_the_broker_back_until_something_is_taken(acknowledging: Acknowledging) -> None:
    """Messages of QoS 0 need no acknowledgement: without a bound they would fill the memory."""
    for mid in range(1, MAX_QUEUED + 1):
        acknowledging.deliver(mid)
    receiving = threading.Thread(target=acknowledging.deliver, args=(MAX_QUEUED + 1,))
    receiving.start()
    seen = 0
    while acknowledging.consumer.take(1 if receiving.is_alive() else 0):
        seen += 1
    receiving.join(20)
    assert seen == MAX_QUEUED + 1


def test_while_the_queue_stays_full_it_is_tried_again_and_nothing_is_lost(
    acknowledging: Acknowledging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.consume._PUT_S", 0.001)
    queue = acknowledging.consumer._messages
    put, was_full = queue.put, threading.Event()

    def noticing(message: Message, timeout: float) -> None:
        try:
            put(message, timeout=timeout)
        except Full:
            was_full.set()
            raise

    monkeypatch.setattr(queue, "put", noticing)
    for mid in range(1, MAX_QUEUED + 1):
        acknowledging.deliver(mid)
    receiving = threading.Thread(target=acknowledging.deliver, args=(MAX_QUEUED + 1,))
    receiving.start()
    assert was_full.wait(20)
    taken(acknowledging.consumer).acknowledge()
    receiving.join(20)
    for message in acknowledging.consumer.left():
        message.acknowledge()
    assert acknowledging.log == [f"ack {mid}" for mid in range(1, MAX_QUEUED + 2)]


def test_a_full_queue_does_not_hold_up_the_end(acknowledging: Acknowledging) -> None:
    for mid in range(1, MAX_QUEUED + 1):
        acknowledging.deliver(mid)
    acknowledging.consumer.close()
    acknowledging.deliver(MAX_QUEUED + 1)
    assert len(list(acknowledging.consumer.left())) == MAX_QUEUED


def test_a_broker_that_was_away_is_found_again_and_subscribed_to_anew(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    """Sessions begin clean, so that a subscription lives no longer than its connection.

    Regression: nothing told that the server was cut off from its boards, for however long.
    """
    caplog.set_level(logging.INFO, "central.consume")
    with ExitStack() as broker:
        url = broker.enter_context(embedded_broker())
        with consuming(BrokerAddress(url)) as consumer:
            with publishing(url) as publish:
                publish(board.topic, b"before")
                assert consumer.take(20) is not None
            broker.close()
            with embedded_broker(int(url.rpartition(":")[2])), publishing(url) as publish:
                # Until the consumer is back, a broker says success and has nobody to hand it to.
                for _ in range(30):
                    publish(board.topic, b"after")
                    message = consumer.take(1)
                    if message is not None:
                        break
                assert message is not None
                assert message.payload == b"after"
    told = [record.message.partition(": ")[2] for record in caplog.records]
    # The second broker goes before the consumer does.
    assert [one[:20] for one in told][:2] == ["the connection ended", "connected again"]


# What stops it from starting


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one line that it says."""
    with usual_signals():
        code = main(["listen", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hadir-central: ")
    assert captured.err.count("\n") == 1
    return code, captured.err


@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"keys": [{}]}'], ids=["missing", "empty", "no keys", "bad key"]
)
def test_a_registry_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "devices.jwks"
    if content is not None:
        path.write_text(content)
    code, said = fails(capsys, "--broker", "mqtt://127.0.0.1:9", "--devices", path)
    assert code == os.EX_CONFIG
    assert str(path) in said


def test_a_broker_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    with ScriptedBroker() as gone:
        url = gone.url
    code, said = fails(capsys, "--broker", url, "--devices", fleet.folder / DEVICES_FILE)
    assert (code, url in said, "check that it runs" in said) == (os.EX_UNAVAILABLE, True, True)


def test_a_broker_that_refuses_is_one_line(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    with ScriptedBroker(accept_reason=0x87) as broker:
        code, said = fails(capsys, "--broker", broker.url, "--devices", fleet.folder / DEVICES_FILE)
    assert (code, "refused: Not authorized" in said) == (os.EX_UNAVAILABLE, True)


def test_a_real_broker_that_asks_for_a_password_is_one_line(
    capsys: pytest.CaptureFixture[str], fleet: Fleet
) -> None:
    with mosquitto("allow_anonymous false") as url:
        code, said = fails(capsys, "--broker", url, "--devices", fleet.folder / DEVICES_FILE)
    assert (code, "refused: Not authorized" in said) == (os.EX_UNAVAILABLE, True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1",
        "http://127.0.0.1",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://127.0.0.1:99999",
        "mqtt://127.0.0.1:x",
        "mqtt://[::1",
        "mqtt://127.0.0.1:1883/path",
        "mqtt://127.0.0.1?tls=1",
        "mqtt://127.0.0.1#mqtts",
    ],
)
def test_an_address_that_cannot_be_is_a_matter_of_configuration(
    capsys: pytest.CaptureFixture[str], fleet: Fleet, url: str
) -> None:
    code, said = fails(capsys, "--broker", url, "--devices", fleet.folder / DEVICES_FILE)
    assert (code, "must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]" in said) == (os.EX_CONFIG, True)


def test_a_password_in_an_address_is_refused_and_never_shown(
    capsys: pytest.CaptureFixture[str], fleet: Fleet
) -> None:
    """Once, it was ignored, and then printed with whatever the broker said."""
    for url in ("mqtt://central:s3cret@127.0.0.1:9", "http://central:s3cret@127.0.0.1", "s3cret@["):
        code, said = fails(capsys, "--broker", url, "--devices", fleet.folder / DEVICES_FILE)
        assert (code, "s3cret" in said) == (os.EX_CONFIG, False)


@pytest.mark.parametrize("count", ["0", "-3", "x"])
def test_a_count_that_nothing_must_arrive_for_is_refused(
    capsys: pytest.CaptureFixture[str], fleet: Fleet, count: str
) -> None:
    """Once, `--count 0` ended at once, as if all had arrived."""
    devices = str(fleet.folder / DEVICES_FILE)
    with pytest.raises(SystemExit) as ended:
        main(["listen", "--broker", "mqtt://127.0.0.1:9", "--devices", devices, f"--count={count}"])
    assert ended.value.code == 2
    assert f"--count: {count!r} must be a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["ca_file", "cert_file", "private_key_file"])
def test_certificates_are_not_taken_for_an_unencrypted_connection(tmp_path: Path, option: str) -> None:
    """Once, they were ignored, and whoever gave them thought to have TLS."""
    files: dict[str, Any] = {option: tmp_path / "file.pem"}
    with (
        pytest.raises(ConfigError, match="certificate files are for mqtts://"),
        consuming(BrokerAddress("mqtt://127.0.0.1:9", **files)),
    ):
        raise AssertionError("it connected")


@pytest.mark.parametrize("option", ["ca_file", "cert_file"])
def test_certificate_files_that_cannot_be_used_are_named(tmp_path: Path, option: str) -> None:
    (tmp_path / "file.pem").write_text("no certificate")
    files: dict[str, Any] = {option: tmp_path / "file.pem"}
    with (
        pytest.raises(ConfigError, match="certificate files cannot be used"),
        consuming(BrokerAddress("mqtts://127.0.0.1:9", **files)),
    ):
        raise AssertionError("it connected")


@pytest.mark.parametrize("wrong", ["file", "folder"])
def test_a_private_key_that_others_can_read_or_replace_is_refused(tmp_path: Path, wrong: str) -> None:
    """Regression: of a consumer's two keys only the one that signs receipts was looked at."""
    folder = tmp_path / "consumer"
    folder.mkdir(0o700)
    key = folder / "consumer.key"
    key.touch(0o600)
    (key if wrong == "file" else folder).chmod(0o644 if wrong == "file" else 0o777)
    address = BrokerAddress("mqtts://127.0.0.1:9", cert_file=folder / "consumer.crt", private_key_file=key)
    why = "mode 0644 is readable" if wrong == "file" else "mode 0777 lets"
    with pytest.raises(KeyFileError, match=why), consuming(address):
        raise AssertionError("it connected")


def test_an_encrypted_private_key_is_refused_and_not_asked_a_password_for(tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and a service would wait for ever."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "central-1")])
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), 1, begin, begin + timedelta(days=1))
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "key.pem").chmod(0o600)
    address = BrokerAddress(
        "mqtts://127.0.0.1:9", cert_file=tmp_path / "cert.pem", private_key_file=tmp_path / "key.pem"
    )
    with pytest.raises(ConfigError, match="certificate files cannot be used"), consuming(address):
        raise AssertionError("it connected")


def test_over_tls_with_its_certificate_it_listens() -> None:
    with tls_door() as door:
        pair = door.authority.issue("central-1")
        address = BrokerAddress(door.url, "central-1", door.authority.certificate, pair.certificate, pair.key)
        with consuming(address) as consumer:
            assert consumer.take(0) is None


def test_with_the_authoritys_certificate_alone_the_server_is_judged_and_nothing_shown(tmp_path: Path) -> None:
    """As for a broker that wants no certificate of its consumers."""
    authority = Authority(tmp_path)
    context = _tls_context(BrokerAddress("mqtts://127.0.0.1:9", ca_file=authority.certificate))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1, "no authority beside the one that is named"
