"""What the server sends down reaches whoever asked for it, and answers go up, without the publisher knowing them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config import BrokerConfig, EventsConfig
from edge.errors import Refusal, TokenRefused
from edge.loops import Loop
from edge.uplink.connection import MAX_INCOMING_BYTES
from edge.uplink.downlink import MAX_UNSENT, Downlink, Incoming, Outgoing, Send, matches
from edge.uplink.outbox import Outbox
from edge.uplink.publish import Publisher
from edge.uplink.session import State
from tests.brokers import BROKERS
from tests.chains import recorder_on
from tests.peers import ScriptedBroker, publish_packet

DOWN = "hadir/v1/door-01/down/"


class Recording:
    """A receiver that remembers, answers "pong", and refuses what it is told to refuse."""

    def __init__(self, *topics: str) -> None:
        self.topics: Sequence[str] = topics
        self.got: list[Incoming] = []
        self.connections = 0
        self._changed = threading.Condition()

    def connected(self, send: Send) -> None:
        with self._changed:
            self.connections += 1
            self._changed.notify_all()

    def receive(self, incoming: Incoming, send: Send) -> None:
        with self._changed:
            self.got.append(incoming)
            self._changed.notify_all()
        if incoming.payload == b"forged":
            raise TokenRefused(Refusal.BAD_SIGNATURE, "the signature does not fit")
        send(Outgoing("reply", b"pong to " + incoming.payload))

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, 20)


def status(state: State, conn: int) -> bytes:
    return f'{{"state": "{state}"}}'.encode()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


@contextmanager
def board(outbox: Outbox, url: str, *receivers: Recording) -> Iterator[Publisher]:
    config = BrokerConfig(url=url, retry_min_s=0.05, retry_max_s=0.1)
    events = EventsConfig("broker", drain_s=0)
    publisher = Publisher(
        recorder_on(outbox), config, events, status, lambda: b"{}", dict, receivers=receivers
    )
    loop = Loop("publisher", lambda loop: publisher.run(loop.turned))
    loop.start()
    try:
        yield publisher
    finally:
        publisher.stop()
        loop.join(60)
        if loop.error is not None:
            raise loop.error


class Server:
    """The other end: sends down, and remembers what came up."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("mqtt://").split(":")
        self.up: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="provision", protocol=mqtt.MQTTv5)
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect(host, int(port))
        self._client.loop_start()
        self._client.subscribe("hadir/v1/+/up/reply", 1)
        assert self._subscribed.wait(20)

    def _take(self, client: object, userdata: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.up.append((message.topic, bytes(message.payload)))
            self._changed.notify_all()

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        expiring = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        expiring.MessageExpiryInterval = 600
        sent = self._client.publish(DOWN + topic, payload, qos=1, retain=retain, properties=expiring)
        sent.wait_for_publish(20)

    def wait_for(self, payload: bytes) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: payload in [p for _, p in self.up], 20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with BROKERS[request.param]() as url:
        yield url


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    server = Server(url)
    yield server
    server.close()


def test_what_is_sent_down_is_received_once_and_the_answer_goes_up(
    outbox: Outbox, url: str, server: Server
) -> None:
    commands = Recording("command")
    with board(outbox, url, commands):
        assert commands.wait_until(lambda: commands.connections == 1)
        server.send("command", b"ping")
        assert server.wait_for(b"pong to ping")
    assert commands.got == [Incoming("command", b"ping", retained=False)]
    assert server.up == [("hadir/v1/door-01/up/reply", b"pong to ping")]


def test_a_retained_message_waits_for_the_board(outbox: Outbox, url: str, server: Server) -> None:
    server.send("keys", b"the fleet's keys", retain=True)
    keys = Recording("keys")
    with board(outbox, url, keys):
        assert keys.wait_until(lambda: len(keys.got) == 1)
    assert keys.got == [Incoming("keys", b"the fleet's keys", retained=True)]


def test_a_command_given_while_the_board_was_away_is_there_when_it_comes_back(
    outbox: Outbox, url: str, server: Server
) -> None:
    commands = Recording("command")
    with board(outbox, url, commands):
        assert commands.wait_until(lambda: commands.connections == 1)
    server.send("command", b"meanwhile")
    with board(outbox, url, commands):
        assert commands.wait_until(lambda: len(commands.got) == 1)
    assert commands.got[0].payload == b"meanwhile"


def test_each_receiver_gets_its_own_topics_and_a_refusal_ends_nothing(
    outbox: Outbox, url: str, server: Server
) -> None:
    keys, gallery = Recording("keys"), Recording("gallery", "gallery/+/+")
    with board(outbox, url, keys, gallery):
        assert gallery.wait_until(lambda: gallery.connections == 1)
        server.send("keys", b"forged")
        server.send("gallery/abc/7", b"a slice")
        server.send("keys", b"good")
        assert server.wait_for(b"pong to good")
    assert [incoming.payload for incoming in keys.got] == [b"forged", b"good"]
    assert [incoming.topic for incoming in gallery.got] == ["gallery/abc/7"]


def test_what_no_receiver_takes_or_believes_is_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down = Downlink([Recording("keys")])
    for _ in range(3):
        down.deliver(Incoming("keys", b"forged", retained=False), lambda _: None)
        down.deliver(Incoming("other", b"", retained=False), lambda _: None)
    assert down.refused == {"bad-signature": 3, "unasked": 3}
    assert len(caplog.records) == 2


def test_an_answer_that_nobody_acknowledged_is_sent_again_before_the_next(outbox: Outbox) -> None:
    down = Downlink([])
    sent: list[bytes] = []

    def publish(outgoing: Outgoing) -> int | None:
        sent.append(outgoing.payload)
        return len(sent)

    for payload in (b"one", b"two"):
        down.queue(Outgoing("reply", payload))
    down.send(lambda _: None)  # no connection
    down.send(publish)
    down.acknowledged(1)
    down.queue(Outgoing("reply", b"three"))
    down.connected(lambda _: None)
    down.send(publish)
    assert sent == [b"one", b"two", b"two", b"three"]


def test_what_nobody_takes_is_not_kept_without_end() -> None:
    down = Downlink([])
    for number in range(MAX_UNSENT + 5):
        down.queue(Outgoing("reply", str(number).encode()))
    sent: list[bytes] = []

    def publish(outgoing: Outgoing) -> int:
        sent.append(outgoing.payload)
        return len(sent)

    down.send(publish)
    assert (len(sent), sent[0]) == (MAX_UNSENT, b"5")


def test_a_refused_subscription_is_told_by_its_topic(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Recording("keys")
    with (
        ScriptedBroker(subscription_reason=0x87) as broker,
        board(outbox, broker.url, keys),
    ):
        assert keys.wait_until(lambda: keys.connections == 1)
    assert "may not read hadir/v1/door-01/down/keys (0x87)" in caplog.text


def test_a_message_is_acknowledged_when_it_was_dealt_with_and_not_before(outbox: Outbox) -> None:
    keys = Recording("keys")
    with (
        ScriptedBroker(
            send=[(DOWN + "keys", b"good"), (DOWN + "keys", b"x" * (MAX_INCOMING_BYTES + 1))]
        ) as broker,
        board(outbox, broker.url, keys),
    ):
        assert broker.wait_until(lambda: len(broker.acknowledged) == 2)
        assert broker.wait_until(lambda: any(p.topic.endswith("reply") for p in broker.publications))
    assert [incoming.payload for incoming in keys.got] == [b"good"], "the other is larger than is allowed"


def test_a_topic_that_is_no_utf_8_is_left_out_and_the_connection_goes_on(outbox: Outbox) -> None:
    """Regression: it ended the connection's thread without a word, and nothing was acknowledged from then on."""
    odd = publish_packet("abc", b"odd", 9).replace(b"abc", b"\xff\xfe\xfd")
    keys = Recording("keys")
    with (
        ScriptedBroker(send_first=odd, send=[(DOWN + "keys", b"good")]) as broker,
        board(outbox, broker.url, keys),
    ):
        assert broker.wait_until(lambda: broker.acknowledged == [9, 1])
        assert len(broker.connects) == 1
    assert [incoming.payload for incoming in keys.got] == [b"good"]


def test_a_packet_larger_than_memory_should_hold_ends_the_connection_and_not_the_board(
    outbox: Outbox,
) -> None:
    """Regression: whatever a broker claimed was read, up to 256 MB of it, several times over."""
    claims_256_mb = bytes([0x32, 0xFF, 0xFF, 0xFF, 0x7F])
    keys = Recording("keys")
    with (
        ScriptedBroker(send_first=claims_256_mb, send=[(DOWN + "keys", b"good")]) as broker,
        board(outbox, broker.url, keys),
    ):
        assert keys.wait_until(lambda: len(keys.got) == 1)
        assert len(broker.connects) == 2


def test_an_error_while_a_packet_is_read_ends_the_connection_and_a_new_one_is_made(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the thread was gone, the board thought itself connected, and waited for answers for ever."""
    failures = iter([ValueError("no such packet")])

    def fails_once(message: mqtt.MQTTMessage) -> str:
        for error in failures:
            raise error
        return message.topic

    monkeypatch.setattr("edge.uplink.connection.topic_of", fails_once)
    keys = Recording("keys")
    with ScriptedBroker(send=[(DOWN + "keys", b"good")]) as broker, board(outbox, broker.url, keys):
        assert keys.wait_until(lambda: len(keys.got) == 1)
        assert len(broker.connects) == 2


def test_what_has_changed_is_announced_at_once(outbox: Outbox) -> None:
    with ScriptedBroker() as broker, board(outbox, broker.url) as publisher:
        assert broker.wait_until(lambda: len(broker.publications) == 1)
        publisher.announce()
        assert broker.wait_until(lambda: len(broker.publications) == 2)
    assert [b"online" in p.payload for p in broker.publications] == [True, True, False]


@pytest.mark.parametrize(
    ("topic_filter", "topic", "does"),
    [
        ("keys", "keys", True),
        ("keys", "keys/x", False),
        ("gallery/+/+", "gallery/a/0", True),
        ("gallery/+/+", "gallery/a", False),
        ("+", "anything", True),
    ],
)
def test_a_plus_stands_for_one_level(topic_filter: str, topic: str, does: bool) -> None:
    assert matches(topic_filter, topic) is does


def test_a_refusal_is_told_for_each_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """Regression: after a forged keys document the log said nothing of a forged command."""
    down = Downlink([Recording("keys"), Recording("command")])
    for topic in ("keys", "command"):
        down.deliver(Incoming(topic, b"forged", retained=False), lambda _: None)
    assert ["down/keys" in caplog.messages[0], "down/command" in caplog.messages[1]] == [True, True]
    assert down.refused == {"bad-signature": 2}
