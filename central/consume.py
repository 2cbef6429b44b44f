"""Receives events from the broker: MQTT 5, acknowledged by hand, bounded in size.

The broker may hand a message to us again until it was acknowledged, so it is acknowledged
only after it was dealt with. The only importer of paho-mqtt on the server's side.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from cryptography import x509
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.errors import BrokerUnavailable, ConfigError
from edge.files import check_private
from edge.network import Network, topic_of
from edge.trust.refused import explain
from edge.trust.tls import Judged

EVENT_TOPICS = "hadir/v1/+/up/event"

BOARD_TOPICS = ("hadir/v1/+/up/status", "hadir/v1/+/up/health")
"""What boards say of themselves; every consumer reads it all, because a shared subscription gets nothing retained."""

ANSWER_S = 10.0
"""For TCP, TLS, CONNACK and SUBACK each."""

RECONNECT_MAX_S = 30

LAST_S = 3.0
"""At the end, for the last receipts to arrive; what does not is said again when the events come again."""

MAX_PACKET_BYTES = 16 * 1024
"""Announced to the broker: an event has at most 4 KiB, and nothing larger is for us. Of what comes larger all the same
the rest is left out, so that what waits has a bound; so much of it is refused too."""

MAX_IN_FLIGHT = 2048
"""Announced to the broker: what it may send before we acknowledge; the most that a board sends at once."""

MAX_QUEUED = 4096
"""Messages that wait to be taken. Beyond, nothing more is read: QoS 0 knows no other brake."""

_PUT_S = 0.2

log = logging.getLogger(__name__)

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and how to recognise it and be recognised."""

    url: str
    client_id: str = "central-1"
    ca_file: Path | None = None
    cert_file: Path | None = None
    private_key_file: Path | None = None
    topics: tuple[str, ...] = (EVENT_TOPICS,)
    """Filters to subscribe to."""


def shared(group: str, topics: str = EVENT_TOPICS) -> str:
    """The filter under which the consumers of a group share messages, each going to one of them (MQTT 5, 4.8.2)."""
    return f"$share/{group}/{topics}"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it arrived, to be acknowledged once it was dealt with."""

    topic: str
    payload: bytes
    acknowledge: Callable[[], object]


class Consumer:
    """A subscription to what boards send; messages wait in order until they are taken.

    paho's thread fills the queue, its owner's thread takes from it.
    """

    def __init__(self, broker: BrokerAddress, client: mqtt.Client) -> None:
        self._broker = broker
        self._client = client
        self._messages: Queue[Message] = Queue(MAX_QUEUED)
        self._subscribed = threading.Event()
        self._closing = threading.Event()
        self._refusal: str | None = None
        self._connection = 0
        self._denied = False
        self._away = False
        self._explained = False
        self._last: mqtt.MQTTMessageInfo | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish

    def take(self, timeout_s: float) -> Message | None:
        """The next message; None where none came in time.

        Raises BrokerUnavailable where the broker took the subscription back when it was renewed: nothing
        would ever come again.
        """
        try:
            return self._messages.get(timeout=timeout_s)
        except Empty:
            if self._refusal is not None:
                raise self._unavailable(self._refusal) from None
            return None

    def take_batch(self, most: int, timeout_s: float) -> list[Message]:
        """What is here, at most so many; waits for the first. Raises BrokerUnavailable, as `take`."""
        first = self.take(timeout_s)
        batch = [] if first is None else [first]
        while batch and len(batch) < most:
            try:
                batch.append(self._messages.get_nowait())
            except Empty:
                break
        return batch

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be taken."""
        return self._messages.empty()

    def publish_retained(self, topic: str, payload: str) -> None:
        """Publish at QoS 1, for whoever subscribes now or later. Without a connection it is sent with the next one."""
        self._last = self._client.publish(topic, payload, qos=1, retain=True)

    def left(self) -> Iterator[Message]:
        """What is here already, for who stops taking; not what comes meanwhile."""
        for _ in range(self._messages.qsize()):
            yield self._messages.get()

    def wait_until_listening(self) -> None:
        """Return once the broker has confirmed the subscription. Raises BrokerUnavailable."""
        if not self._subscribed.wait(ANSWER_S) or self._refusal is not None:
            raise self._unavailable(self._refusal or "no answer to the subscription")

    def close(self) -> None:
        """Let paho's thread go, wherever it waits, once what was published has arrived."""
        self._closing.set()
        if self._last is not None and self._client.is_connected():
            with suppress(RuntimeError, ValueError):  # paho's words for a connection that is lost meanwhile
                self._last.wait_for_publish(LAST_S)

    def _unavailable(self, reason: str) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"broker {self._broker.url}: {reason}; check that it speaks MQTT 5 and lets "
            f"{self._broker.client_id} read {', '.join(self._broker.topics)}"
        )

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not reason.is_failure:
            # Subscribed anew on every connection, because sessions begin clean.
            self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._broker.topics])
            if self._away:
                self._away = self._explained = False
                log.info("broker %s: connected again", self._broker.url)
        elif not self._subscribed.is_set():
            self._refuse(f"refused: {reason}")
        else:
            self._tell_away(f"refused: {reason}")

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connection += 1
        if self._subscribed.is_set() and not self._closing.is_set():
            self._tell_away(str(reason))

    def _tell_away(self, why: str) -> None:
        """Once until it is there again: it is tried every few seconds."""
        if not self._away:
            self._away = True
            log.warning(
                "broker %s: the connection ended (%s); trying again, nothing is lost meanwhile. Does it not come "
                "back, the broker's log tells why: was the certificate of %s revoked, or is it over?",
                self._broker.url,
                why,
                self._broker.client_id,
            )

    def failed(self, why: str) -> None:
        """What the broker sent cannot be read, so the connection was given up; another is tried."""
        self._connection += 1
        if not self._subscribed.is_set():
            self._refuse(why)
        elif not self._closing.is_set():
            self._tell_away(why)

    def tell_refused(self, error: ssl.SSLError) -> None:
        """TLS failed when it was tried again: told once, where that says more than that the connection ended."""
        if self._away and not self._explained and _explanation(self._broker, error) is not None:
            self._explained = True
            log.error("%s", _failure(self._broker, error))

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            refused = next(reason for reason in reasons if reason.is_failure)
            self._refuse(f"subscription refused: {refused}")
        self._subscribed.set()

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        acknowledge = partial(self._acknowledge, self._connection, message.mid, message.qos)
        arrived = Message(topic_of(message), bytes(message.payload[:MAX_PACKET_BYTES]), acknowledge)
        while not self._closing.is_set():
            try:
                return self._messages.put(arrived, timeout=_PUT_S)
            except Full:
                continue
        return None

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if reason.is_failure and not self._denied:
            self._denied = True  # once: it would be said of every receipt
            log.error(
                "broker %s: publishing refused: %s; let %s write hadir/v1/+/down/receipt, or no board will "
                "ever delete an event",
                self._broker.url,
                reason,
                self._broker.client_id,
            )

    def _acknowledge(self, connection: int, mid: int, qos: int) -> None:
        # On another connection this number may be another message's, which was not dealt with yet.
        if connection == self._connection:
            self._client.ack(mid, qos)

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        self._subscribed.set()


@contextmanager
def consuming(broker: BrokerAddress) -> Iterator[Consumer]:
    """Connect, subscribe, and yield a consumer that listens; reconnects by itself.

    Raises:
        BrokerUnavailable: nobody answers, or the broker refuses.
        ConfigError: URL or certificate files cannot be used.
        KeyFileError: others can read the private key, or put another in its place.
    """
    scheme, host, port = _endpoint(broker.url)

    def failed(why: str) -> None:
        consumer.failed(why)  # which is made of the client

    client = Network(broker.client_id, failed, manual_ack=True, reconnects=True)
    client.connect_timeout = ANSWER_S
    client.reconnect_delay_set(1, RECONNECT_MAX_S)
    consumer = Consumer(broker, client)
    if scheme == "mqtts":
        context = _tls_context(broker)
        context.sslsocket_class = _telling(consumer.tell_refused)
        client.tls_set_context(context)
    elif broker.ca_file or broker.cert_file or broker.private_key_file:
        raise ConfigError(
            f"broker {broker.url!r}: certificate files are for mqtts://, and this is not encrypted"
        )
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    properties.ReceiveMaximum = MAX_IN_FLIGHT
    properties.SessionExpiryInterval = 0
    try:
        client.connect(host, port, clean_start=True, properties=properties)
    except (OSError, ValueError) as error:
        raise BrokerUnavailable(_failure(broker, error)) from error
    client.loop_start()
    try:
        consumer.wait_until_listening()
        yield consumer
    finally:
        consumer.close()
        client.disconnect()
        client.loop_stop()


def _telling(told: Callable[[ssl.SSLError], None]) -> type[Judged]:
    """Sockets that say why TLS failed: paho, which connects again by itself, does not."""

    class Telling(Judged):
        def do_handshake(self, block: bool = False) -> None:
            try:
                super().do_handshake(block)
            except ssl.SSLError as error:
                told(error)
                raise

    return Telling


def _failure(broker: BrokerAddress, error: Exception) -> str:
    """What kept us from reaching the broker, and what helps."""
    explanation = _explanation(broker, error)
    if explanation is None:
        return f"broker {broker.url}: {error}; check that it runs, and its address"
    why, remedy = explanation
    return f"broker {broker.url}: {why}; {remedy}"


def _explanation(broker: BrokerAddress, error: Exception) -> tuple[str, str] | None:
    if not isinstance(error, ssl.SSLError) or broker.cert_file is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(broker.cert_file.read_bytes())
    except (OSError, ValueError):
        return None  # it was good when the connection was prepared
    return explain(error.reason or "", certificate, time.time())


def _endpoint(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ConfigError."""
    if "@" in url:
        # Not shown again: what stands before it is a secret, which every message about the broker would print.
        raise ConfigError(
            "broker: an address holds no user name or password, which everybody on this machine could read; "
            "use mqtts:// with a certificate"
        )
    try:
        address = urlsplit(url)
        scheme, host, port = address.scheme, address.hostname, address.port
        beyond = bool(address.path.strip("/") or address.query or address.fragment)
    except ValueError:  # a port out of range, half an IPv6 address
        scheme, host, port, beyond = "", None, None, False
    if scheme not in _PORTS or not host or beyond:
        raise ConfigError(f"broker {url!r}: must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    return scheme, host, port or _PORTS[scheme]


def _tls_context(broker: BrokerAddress) -> ssl.SSLContext:
    try:
        if broker.private_key_file is not None:
            check_private(broker.private_key_file, broker.private_key_file.stat())
        context = ssl.create_default_context(cafile=broker.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert_file is not None:
            # A password that is wrong: OpenSSL would ask a terminal for it, which a service does not have.
            context.load_cert_chain(broker.cert_file, broker.private_key_file, password="")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"broker {broker.url}: certificate files cannot be used: {error}") from error
    return context
