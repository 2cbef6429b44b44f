"""One connection to the broker: the only importer of paho-mqtt on the board.

A connection lives once. What happens on it arrives in one inbox, in order, so that a
single thread owns every decision; when it breaks it is thrown away together with
paho's in-memory queue, and the next one sends again from the outbox.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Self
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable, ConfigError

CONNECT_TIMEOUT_S = 10.0
"""For TCP, TLS and CONNACK each; a door's network answers in well under a second or is down."""

SESSION_EXPIRY_S = 7 * 24 * 3600
"""How long the broker keeps this board's session: the design's limit for a board that is away."""

WILL_DELAY_S = 30
"""A reconnect within this time is not a loss (MQTT 5, section 3.1.3.2.2)."""

DEFAULT_RECEIVE_MAXIMUM = 65535
"""Where CONNACK does not say (MQTT 5, section 3.2.2.3.3). paho does not obey it; we do."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection."""

    receive_maximum: int


@dataclass(frozen=True, slots=True)
class Published:
    """A PUBACK arrived for the message with this id."""

    mid: int
    reason: int
    """MQTT 5 reason code (section 3.4.2.1); 0 is success."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over, or was never accepted."""

    reason: int
    detail: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Something changed on our own side."""


Message = Connected | Published | Closed | Wake


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says in our name when we vanish."""

    topic: str
    payload: bytes


class Connection:
    """An MQTT 5 connection that reports everything to `inbox`."""

    def __init__(self, broker: BrokerConfig, client_id: str, will: Will, inbox: SimpleQueue[Message]) -> None:
        self._broker = broker
        self._inbox = inbox
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            # paho's own reconnect would resend from its memory; the outbox is the only memory here.
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(DEFAULT_RECEIVE_MAXIMUM)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        delay = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=WILL_DELAY_S)
        self._client.will_set(will.topic, will.payload, qos=1, retain=True, properties=delay)
        if broker.url.startswith("mqtts://"):
            self._client.tls_set_context(_tls_context(broker))

    def open(self) -> Self:
        """Begin to connect; acceptance or refusal arrives in the inbox.

        Raises:
            BrokerUnavailable: nobody answers at that address, or TLS fails.
        """
        address = urlsplit(self._broker.url)
        properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=SESSION_EXPIRY_S)
        try:
            self._client.connect(
                address.hostname or "",
                address.port or _PORTS[address.scheme],
                keepalive=self._broker.keepalive_s,
                clean_start=True,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            raise BrokerUnavailable(
                f"broker {self._broker.url}: {error}; events wait in the outbox. Check that the broker runs, "
                "its address, and its certificate where it has one"
            ) from error
        self._client.loop_start()
        return self

    def publish(
        self, topic: str, payload: bytes | str, *, retain: bool = False, content_type: str = ""
    ) -> int | None:
        """Hand a QoS 1 message to the connection; its message id, or None if the connection is gone."""
        properties = _properties(
            PacketTypes.PUBLISH, **({"ContentType": content_type} if content_type else {})
        )
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self) -> None:
        """Say goodbye, so that the will is not sent, and end paho's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._inbox.put(Closed(reason.value, f"refused: {reason}"))
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM)
        self._inbox.put(Connected(receive_maximum=receive_maximum))

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._inbox.put(Closed(reason.value, str(reason)))

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._inbox.put(Published(mid=mid, reason=reason.value))


def _properties(packet: int, **values: int | str) -> Properties:
    """MQTT 5 properties of a packet by their names in section 2.2.2.2, without the spaces."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _tls_context(broker: BrokerConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert_file is not None and broker.private_key_file is not None:
            context.load_cert_chain(broker.cert_file, broker.private_key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"[broker] ca_file = {broker.ca_file}, cert_file = {broker.cert_file}, private_key_file = "
            f"{broker.private_key_file}: cannot be used for TLS: {error}"
        ) from error
    return context
