"""One connection to the broker, over paho-mqtt.

A connection lives once. What happens on it arrives in one inbox, in order, so that a
single thread owns every decision; when it breaks it is thrown away together with
paho's in-memory queue, and the next one sends again from the outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable
from edge.network import Network, topic_of
from edge.uplink.reach import Tls, address_of, ended, hang_up, refusal, silence, tls_context, unavailable

CONNECT_TIMEOUT_S = 10.0
"""For TCP, TLS and CONNACK each; a door's network answers in well under a second or is down."""

SESSION_EXPIRY_S = 7 * 24 * 3600
"""How long the broker keeps this board's session: the design's limit for a board that is away."""

WILL_DELAY_S = 30
"""A reconnect within this time is not a loss (MQTT 5, section 3.1.3.2.2)."""

DEFAULT_RECEIVE_MAXIMUM = 65535
"""Where CONNACK does not say (MQTT 5, section 3.2.2.3.3). paho does not obey it; we do."""

HISTORICAL = ("historical", "true")
"""User property of an event that was made some time before it is sent."""

MAX_INCOMING_BYTES = 128 * 1024
"""Of a payload; the trail of keys documents is the largest thing that comes (`edge.trust.fleetkeys`)."""

MAX_INCOMING_PACKET_BYTES = MAX_INCOMING_BYTES + 1024
"""Of a whole packet, topic and properties included; a broker may send no larger one (MQTT 5, 3.1.2.11.4)."""

MAX_UNHANDLED = 16
"""So many messages may wait here unacknowledged; the broker keeps the others (MQTT 5, 3.1.2.11.3)."""

REFUSED_SUBSCRIPTION = 0x80
"""A SUBACK reason from here on is a refusal (MQTT 5, section 3.9.3)."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection."""

    receive_maximum: int
    packet_max_bytes: int | None
    """The largest packet that the broker takes (MQTT 5, 3.2.2.3.6); None where it sets no limit."""


@dataclass(frozen=True, slots=True)
class Published:
    """A PUBACK arrived for the message with this id."""

    mid: int
    reason: int
    """MQTT 5 reason code (section 3.4.2.1); 0 is success."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker answered a subscription."""

    mid: int
    reasons: tuple[int, ...]
    """One for each filter, as they were asked for; from REFUSED_SUBSCRIPTION on a refusal."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message came down. The broker sends it again, also after a restart, until it is acknowledged."""

    topic: str
    payload: bytes
    retained: bool
    """It waited in the broker, rather than being sent just now."""
    mid: int
    qos: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over, or was never accepted."""

    reason: int
    detail: str
    """Names the broker, what happened and, where anybody can do something, what to do."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Something changed on our own side."""


Message = Connected | Published | Subscribed | Received | Closed | Wake


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says in our name when we vanish."""

    topic: str
    payload: bytes


class Connection:
    """An MQTT 5 connection that reports everything to `inbox`."""

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        will: Will,
        inbox: SimpleQueue[Message],
        tls: Tls | None = None,
    ) -> None:
        self._broker = broker
        self._tls = tls or Tls()
        self._inbox = inbox
        self._answered = False
        # paho's own reconnect would resend from its memory; the outbox is the only memory here. And what is
        # acknowledged was dealt with: a command that a power cut interrupts comes again.
        self._client = Network(client_id, self._failed, manual_ack=True)
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(DEFAULT_RECEIVE_MAXIMUM)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        delay = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=WILL_DELAY_S)
        self._client.will_set(will.topic, will.payload, qos=1, retain=True, properties=delay)
        if broker.url.startswith("mqtts://"):
            self._client.tls_set_context(tls_context(broker, self._tls))

    def open(self) -> Self:
        """Begin to connect; acceptance or refusal arrives in the inbox.

        Raises:
            BrokerUnavailable: nobody answers at that address, or TLS fails.
        """
        host, port = address_of(self._broker)
        properties = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=SESSION_EXPIRY_S,
            ReceiveMaximum=MAX_UNHANDLED,
            MaximumPacketSize=MAX_INCOMING_PACKET_BYTES,
        )
        try:
            # The session goes on: commands wait in it, and a will that is delayed is not sent.
            self._client.connect(
                host, port, keepalive=self._broker.keepalive_s, clean_start=False, properties=properties
            )
        except (OSError, ValueError) as error:
            raise unavailable(self._broker, error, self._tls.dates) from error
        self._client.loop_start()
        return self

    def subscribe(self, filters: Sequence[str]) -> int | None:
        """Ask for these topics at QoS 1; the message id of the answer, or None if the connection is gone.

        Retained messages of theirs are sent each time (MQTT 5, section 3.8.3.1, Retain Handling 0).
        """
        result, mid = self._client.subscribe([(each, SubscribeOptions(qos=1)) for each in filters])
        return mid if result == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def acknowledge(self, received: Received) -> None:
        """The message was dealt with, and need not come again."""
        self._client.ack(received.mid, received.qos)

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 1,
        retain: bool = False,
        content_type: str = "",
        historical: bool = False,
    ) -> int | None:
        """Hand a message to the connection; its message id, or None if the connection is gone."""
        properties = _of_publish(content_type, historical)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self) -> None:
        """Say goodbye, so that the will is not sent, and end paho's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._inbox.put(Closed(reason.value, refusal(self._broker, reason.value, str(reason))))
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM)
        packet_max_bytes = getattr(properties, "MaximumPacketSize", None)
        self._inbox.put(Connected(receive_maximum, packet_max_bytes))

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        detail = (
            ended(self._broker, reason.value, str(reason))
            if self._answered
            else hang_up(self._broker, str(reason))
        )
        self._inbox.put(Closed(reason.value, detail))

    def _failed(self, why: str) -> None:
        self._inbox.put(Closed(0, ended(self._broker, 0, why)))

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._inbox.put(Published(mid=mid, reason=reason.value))

    def _on_subscribe(
        self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._inbox.put(Subscribed(mid=mid, reasons=tuple(reason.value for reason in reasons)))

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        self._inbox.put(
            Received(
                topic_of(message), bytes(message.payload), bool(message.retain), message.mid, message.qos
            )
        )


def try_login(
    broker: BrokerConfig, client_id: str, *, keep_session: bool, timeout_s: float, tls: Tls | None = None
) -> dict[str, int]:
    """Log in and out again, with nothing sent, subscribed or left behind; what the broker grants.

    The result holds the numbers of CONNACK's properties by name (MQTT 5, section 3.2.2.3).
    `keep_session` goes on with the session that this client id has there, as it is:
    messages that wait in it stay, because none that comes meanwhile is acknowledged.

    Raises:
        ConfigError: the files for TLS cannot be used.
        BrokerUnavailable: unreachable, TLS failed, refused (with the broker's reason), or silent.
    """
    tls = tls or Tls()
    answers: SimpleQueue[dict[str, int] | Closed] = SimpleQueue()
    client = Network(client_id, lambda why: answers.put(Closed(0, hang_up(broker, why))), manual_ack=True)
    client.connect_timeout = timeout_s

    def connected(client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        granted = {name: value for name, value in vars(properties).items() if isinstance(value, int)}
        answers.put(
            Closed(reason.value, refusal(broker, reason.value, str(reason))) if reason.is_failure else granted
        )

    def disconnected(client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        answers.put(Closed(reason.value, hang_up(broker, str(reason))))

    client.on_connect = connected
    client.on_disconnect = disconnected
    if broker.url.startswith("mqtts://"):
        client.tls_set_context(tls_context(broker, tls))
    properties = _properties(
        PacketTypes.CONNECT,
        SessionExpiryInterval=SESSION_EXPIRY_S if keep_session else 0,
        ReceiveMaximum=1,
    )
    host, port = address_of(broker)
    try:
        client.connect(host, port, broker.keepalive_s, clean_start=not keep_session, properties=properties)
        client.loop_start()
        answer = answers.get(timeout=timeout_s)
    except (OSError, ValueError) as error:
        raise unavailable(broker, error, tls.dates) from error
    except Empty:
        raise BrokerUnavailable(silence(broker, timeout_s)) from None
    finally:
        client.disconnect()
        client.loop_stop()
    if isinstance(answer, Closed):
        raise BrokerUnavailable(answer.detail)
    return answer


def _properties(packet: int, **values: int | str) -> Properties:
    """MQTT 5 properties of a packet by their names in section 2.2.2.2, without the spaces."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


class _Packed(Properties):
    """Properties that are put into bytes once: with paho's own that takes a quarter of a backlog's time."""

    def pack(self) -> bytes:
        return _packed(self)


@cache
def _packed(properties: Properties) -> bytes:
    return bytes(Properties.pack(properties))  # type: ignore[no-untyped-call]


@cache
def _of_publish(content_type: str, historical: bool) -> Properties:
    """Of a PUBLISH. There are few kinds, and each is the same every time."""
    properties = _Packed(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if content_type:
        properties.ContentType = content_type
    if historical:
        properties.UserProperty = HISTORICAL
    return properties
