"""A plain MQTT 5 client for conversations: connect, ask, wait for the answer, leave.

The publisher has a connection of its own kind, because it must never wait; a claim and the
administrator's commands do wait, and want every refusal as an exception with the broker's reason.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable, PublishDenied
from edge.network import Network, topic_of
from edge.uplink.reach import address_of, ended, hang_up, refusal, silence, unavailable

TIMEOUT_S = 10.0
"""For connecting, and for each acknowledgement."""

MAX_PACKET_BYTES = 2 * 1024 * 1024
"""More than an answer with the longest trail of keys documents; a broker may not send larger ones."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that arrived."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Login:
    """Who the client is. Without a password the certificate in the TLS context says it."""

    client_id: str
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    detail: str


class Client:
    """One connection, as a context manager. Every method is called from one thread."""

    def __init__(self, broker: BrokerConfig, login: Login, context: ssl.SSLContext | None) -> None:
        self._broker = broker
        self._messages: SimpleQueue[Incoming | _Ended] = SimpleQueue()
        self._accepted: SimpleQueue[_Ended | None] = SimpleQueue()
        self._acknowledged: SimpleQueue[tuple[int, int] | _Ended] = SimpleQueue()
        self._client = Network(login.client_id, self._end)
        self._client.connect_timeout = TIMEOUT_S
        if login.username is not None:
            self._client.username_pw_set(login.username, login.password)
        if context is not None:
            self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._answered = False

    def __enter__(self) -> Self:
        """Connect. Raises BrokerUnavailable with the broker's own reason."""
        host, port = address_of(self._broker)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        try:
            self._client.connect(
                host, port, self._broker.keepalive_s, clean_start=True, properties=properties
            )
            self._client.loop_start()
            refused = self._accepted.get(timeout=TIMEOUT_S)
        except (OSError, ValueError) as error:
            self._leave()
            raise unavailable(self._broker, error) from error
        except Empty:
            self._leave()
            raise BrokerUnavailable(silence(self._broker, TIMEOUT_S)) from None
        if refused is not None:
            self._leave()
            raise BrokerUnavailable(refused.detail)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for topics at QoS 1, retained messages included. Raises BrokerUnavailable where one is refused."""
        wanted = [(topic, SubscribeOptions(qos=1)) for topic in topics]
        _, mid = self._client.subscribe(wanted)
        self._await(mid, f"subscription to {', '.join(topic for topic, _ in wanted)}")

    def publish(
        self, topic: str, payload: bytes | str, *, retain: bool = False, expiry_s: int | None = None
    ) -> None:
        """Publish at QoS 1 and wait until the broker has it.

        Raises PublishDenied where it refuses this one, with its reason, and BrokerUnavailable.
        """
        mid = self.send(topic, payload, retain=retain, expiry_s=expiry_s)
        self._await(mid, f"message to {topic}")

    def send(
        self, topic: str, payload: bytes | str, *, retain: bool = False, expiry_s: int | None = None
    ) -> int:
        """The same without waiting; `settle` waits for all of them."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = max(1, expiry_s)
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return info.mid

    def settle(self, mids: Iterable[int]) -> None:
        """Wait until the broker has all of these. Raises BrokerUnavailable with its reason."""
        for mid in mids:
            self._await(mid, "message")

    def receive(self, timeout_s: float) -> Incoming | None:
        """The next message, or None. Raises BrokerUnavailable where the connection is over."""
        try:
            message = self._messages.get(timeout=max(timeout_s, 0.0))
        except Empty:
            return None
        if isinstance(message, _Ended):
            raise BrokerUnavailable(message.detail)
        return message

    def _await(self, mid: int | None, what: str) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                answer = self._acknowledged.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except Empty:
                raise BrokerUnavailable(f"{silence(self._broker, TIMEOUT_S)} ({what})") from None
            if isinstance(answer, _Ended):
                raise BrokerUnavailable(answer.detail)
            acknowledged, reason = answer
            if acknowledged != mid:
                continue
            if reason >= 0x80:  # noqa: PLR2004 - MQTT 5, section 2.4
                raise PublishDenied(
                    f"broker {self._broker.url}: refused: {what} (0x{reason:02x}); check its access list"
                )
            return

    def _leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        failed = _Ended(refusal(self._broker, reason.value, str(reason))) if reason.is_failure else None
        self._answered = True
        self._accepted.put(failed)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._end(str(reason), reason.value)

    def _end(self, why: str, reason: int = 0) -> None:
        over = _Ended(ended(self._broker, reason, why) if self._answered else hang_up(self._broker, why))
        self._accepted.put(over)
        self._acknowledged.put(over)
        self._messages.put(over)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        self._acknowledged.put((mid, reason.value))

    def _on_subscribe(
        self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        self._acknowledged.put((mid, max(reason.value for reason in reasons)))

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        self._messages.put(Incoming(topic_of(message), bytes(message.payload), bool(message.retain)))
