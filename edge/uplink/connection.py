"""One connection to the broker: the only importer of paho-mqtt on the board.

A connection lives once. What happens on it arrives in one inbox, in order, so that a
single thread owns every decision; when it breaks it is thrown away together with
paho's in-memory queue, and the next one sends again from the outbox.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from queue import Empty, SimpleQueue
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

REFUSED_CERTIFICATE_S = 0.5
"""How long a refusal may take to arrive after the handshake; on a local network a few milliseconds."""

SESSION_TAKEN_OVER = 0x8E
"""DISCONNECT's reason when another client uses the same id (MQTT 5, section 3.14.2.1)."""

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
    """Names the broker, what happened and, where anybody can do something, what to do."""


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
        self._answered = False
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
            self._client.tls_set_context(tls_context(broker))

    def open(self) -> Self:
        """Begin to connect; acceptance or refusal arrives in the inbox.

        Raises:
            BrokerUnavailable: nobody answers at that address, or TLS fails.
        """
        host, port = address_of(self._broker)
        properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=SESSION_EXPIRY_S)
        try:
            self._client.connect(
                host, port, keepalive=self._broker.keepalive_s, clean_start=True, properties=properties
            )
        except (OSError, ValueError) as error:
            raise unavailable(self._broker, error) from error
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
        self._answered = True
        if reason.is_failure:
            self._inbox.put(Closed(reason.value, refusal(self._broker, reason)))
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM)
        self._inbox.put(Connected(receive_maximum=receive_maximum))

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        detail = ended(self._broker, reason) if self._answered else hang_up(self._broker, reason)
        self._inbox.put(Closed(reason.value, detail))

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._inbox.put(Published(mid=mid, reason=reason.value))


def try_login(
    broker: BrokerConfig, client_id: str, *, keep_session: bool, timeout_s: float
) -> dict[str, int]:
    """Log in and out again, with nothing sent, subscribed or left behind; what the broker grants.

    The result holds the numbers of CONNACK's properties by name (MQTT 5, section 3.2.2.3).
    `keep_session` goes on with the session that this client id has there, as it is:
    messages that wait in it stay, because none that comes meanwhile is acknowledged.

    Raises:
        ConfigError: the files for TLS cannot be used.
        BrokerUnavailable: unreachable, TLS failed, refused (with the broker's reason), or silent.
    """
    answers: SimpleQueue[dict[str, int] | Closed] = SimpleQueue()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=mqtt.MQTTv5,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = timeout_s

    def connected(client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        granted = {name: value for name, value in vars(properties).items() if isinstance(value, int)}
        answers.put(Closed(reason.value, refusal(broker, reason)) if reason.is_failure else granted)

    def disconnected(client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        answers.put(Closed(reason.value, hang_up(broker, reason)))

    client.on_connect = connected
    client.on_disconnect = disconnected
    if broker.url.startswith("mqtts://"):
        client.tls_set_context(tls_context(broker))
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
        raise unavailable(broker, error) from error
    except Empty:
        raise BrokerUnavailable(silence(broker, timeout_s)) from None
    finally:
        client.disconnect()
        client.loop_stop()
    if isinstance(answer, Closed):
        raise BrokerUnavailable(answer.detail)
    return answer


def try_handshake(broker: BrokerConfig, *, timeout_s: float) -> None:
    """Go as far as TLS and hang up before a word of MQTT, so that no session of anybody is touched.

    With TLS 1.3 a refused client certificate shows only after the handshake, in the first
    read (RFC 8446, section 4.4.2.4 and appendix D), so a moment is waited for that.

    Raises:
        ConfigError: the files for TLS cannot be used.
        BrokerUnavailable: unreachable, or TLS failed.
    """
    host, port = address_of(broker)
    context = tls_context(broker)
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as channel,
        ):
            channel.settimeout(REFUSED_CERTIFICATE_S)
            try:
                hung_up = channel.recv(1) == b""
            except TimeoutError:  # the broker waits for our first word, as it should
                return
    except (OSError, ValueError) as error:
        raise unavailable(broker, error) from error
    if hung_up:
        raise BrokerUnavailable(f"broker {broker.url}: hung up right after TLS; the broker's log tells why")


def address_of(broker: BrokerConfig) -> tuple[str, int]:
    """Host and port of its URL."""
    address = urlsplit(broker.url)
    return address.hostname or "", address.port or _PORTS[address.scheme]


def unavailable(broker: BrokerConfig, error: Exception) -> BrokerUnavailable:
    """What kept us from reaching the broker, and what helps."""
    host, port = address_of(broker)
    match error:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not accepted ({error.verify_message})"
            remedy = (
                f"it must be valid today by this board's clock, for the name {host}, and signed under "
                "broker.ca_file; somebody else may be answering in the broker's place"
            )
        case ssl.SSLError():
            why = f"TLS failed ({error.reason or error})"
            remedy = (
                "check that this port speaks TLS, and that broker.cert_file is signed by the broker's CA "
                "and neither expired nor revoked"
            )
        case socket.gaierror():
            why = f"the name {host} cannot be resolved ({error.strerror})"
            remedy = "check broker.url and the network's DNS, or write the address"
        case ConnectionRefusedError():
            why = f"nobody listens at port {port} of {host}"
            remedy = "check that the broker runs, its port, and its firewall"
        case ConnectionResetError() | BrokenPipeError():
            why = f"port {port} of {host} hung up"
            remedy = (
                "check that it is the broker's, and that it speaks TLS just where broker.url says mqtts://"
            )
        case TimeoutError():
            why = f"{host} does not answer at port {port}"
            remedy = "check the network, the address, and that the broker is not stuck"
        case _:
            why = str(error)
            remedy = "check the network, and that the broker runs"
    return BrokerUnavailable(f"broker {broker.url}: {why}; {remedy}")


def refusal(broker: BrokerConfig, reason: ReasonCode) -> str:
    """The broker's own reason for refusing the connection, and what helps."""
    remedy = _REMEDIES.get(reason.value, "the broker's log tells more")
    return f"broker {broker.url}: refused: {reason} (0x{reason.value:02x}); {remedy}"


def hang_up(broker: BrokerConfig, reason: ReasonCode) -> str:
    """What an end of the connection before any answer means."""
    return (
        f"broker {broker.url}: hung up without an answer ({reason}); does it speak MQTT 5, and TLS at this "
        "port only for mqtts://? Its log tells more"
    )


def ended(broker: BrokerConfig, reason: ReasonCode) -> str:
    """Why a connection that had been accepted is over."""
    said = f"broker {broker.url}: the connection ended ({reason})"
    if reason.value == SESSION_TAKEN_OVER:
        said += "; another client logged in as this board: look for a second board with the same key"
    return said


def silence(broker: BrokerConfig, timeout_s: float) -> str:
    """What a broker means that takes the connection and then says nothing."""
    return (
        f"broker {broker.url}: accepted the connection and then said nothing for {timeout_s:.0f} s; check "
        "that it is an MQTT broker, that it is not stuck, and whether this port wants TLS (mqtts://)"
    )


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails, because paho then forgets it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


_REMEDIES = {
    0x84: "it speaks no MQTT 5; Mosquitto does from 1.6 on, and older protocols cannot say that an event was refused",
    0x85: "it does not take this client id; allow device.id as client id",
    0x86: "it wants another user name or password; use the client certificate that was made for this board",
    0x87: "it does not let this board in; check its access list, and whether the board's certificate was revoked",
    0x88: "it is not ready; try again later",
    0x89: "it is busy; try again later",
    0x8A: "it has banned this board; the administrator of the broker knows why",
    0x97: "a quota of the broker is used up; its log tells which",
    0x9F: "too many connections come in; try again later",
}
"""What helps against CONNACK's reasons (MQTT 5, section 3.2.2.2)."""


def _properties(packet: int, **values: int | str) -> Properties:
    """MQTT 5 properties of a packet by their names in section 2.2.2.2, without the spaces."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def tls_context(broker: BrokerConfig) -> ssl.SSLContext:
    """What TLS needs to know. Raises ConfigError where a file of it cannot be used."""
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _TlsSocket
        if broker.cert_file is not None and broker.private_key_file is not None:
            context.load_cert_chain(broker.cert_file, broker.private_key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"[broker] ca_file = {broker.ca_file}, cert_file = {broker.cert_file}, private_key_file = "
            f"{broker.private_key_file}: cannot be used for TLS: {error}"
        ) from error
    return context
