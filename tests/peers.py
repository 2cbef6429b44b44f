"""A scripted MQTT 5 peer on a real socket, for answers that no real broker gives on demand.

It knows just the packets that a board exchanges (MQTT 5.0, chapter 3): CONNECT, CONNACK,
PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ and DISCONNECT.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14
SUCCESS = 0x00


@dataclass(frozen=True, slots=True)
class Publication:
    """A PUBLISH as it arrived."""

    connection: int
    """1 for the first connection, and so on."""
    topic: str
    payload: bytes
    retain: bool
    historical: bool = False
    """Whether it has that user property."""


Answer = Callable[[Publication], int | None]
"""The PUBACK reason for a publication; None says nothing at all."""


def always_success(publication: Publication) -> int | None:
    return SUCCESS


@dataclass
class ScriptedBroker:
    """Accepts one connection after the other and answers as told. A context manager."""

    answer: Answer = always_success
    accept_reason: int | None = SUCCESS
    """CONNACK's reason; None never answers CONNECT."""
    receive_maximum: int = 65535
    packet_max: int | None = None
    drop_after: int | None = None
    """Close the first connection, without a word, after so many publications on topics of events."""
    disconnect_reason: int | None = None
    """Send this DISCONNECT right after CONNACK on the first connection."""
    subscription_reason: int = 0x01
    """SUBACK's, for one filter."""
    send: Sequence[tuple[str, bytes]] = ()
    """Topics and payloads to send at QoS 1 after each SUBACK."""
    send_first: bytes = b""
    """Sent before that on the first connection, whatever it is."""
    acknowledged: list[int] = field(default_factory=list)
    """Message ids of what was sent and acknowledged."""
    publications: list[Publication] = field(default_factory=list)
    unanswered: list[tuple[str, bytes]] = field(default_factory=list)
    """Topics and payloads of what came at QoS 0."""
    connects: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> ScriptedBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        # Wakes accept(2), which closing the listener alone would not.
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(10)
        self._listener.close()

    def events(self) -> list[Publication]:
        with self._changed:
            return [p for p in self.publications if p.topic.endswith("/event")]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 20) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not condition() and time.monotonic() < deadline_s:
                self._changed.wait(0.05)  # also what happens on the board may make it true
            return condition()

    def wait_for_events(self, count: int) -> bool:
        return self.wait_until(lambda: len(self.events()) >= count)

    def _serve(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer:
                if self._closing:
                    return
                peer.settimeout(20)
                try:
                    self._talk(peer)
                except (ConnectionError, TimeoutError):
                    continue

    def _talk(self, peer: socket.socket) -> None:
        stream = peer.makefile("rb")
        while (packet := _read_packet(stream)) is not None:
            kind, flags, body = packet
            if kind == CONNECT and not self._accept(peer, body):
                return
            if kind == PINGREQ:
                peer.sendall(bytes([PINGRESP << 4, 0]))
            if kind == DISCONNECT:
                return
            if kind == SUBSCRIBE:
                self._grant(peer, body)
            if kind == PUBACK:
                self._note_acknowledged(body)
            if kind == PUBLISH and not self._take(peer, flags, body):
                return

    def _grant(self, peer: socket.socket, body: bytes) -> None:
        filters, at = 0, 3 + body[2]  # message id, one byte of property length
        while at < len(body):
            at += 3 + int.from_bytes(body[at : at + 2], "big")
            filters += 1
        answer = body[:2] + b"\0" + bytes([self.subscription_reason] * filters)
        peer.sendall(bytes([SUBACK << 4, len(answer)]) + answer)
        if len(self.connects) == 1:
            peer.sendall(self.send_first)
        for mid, (topic, payload) in enumerate(self.send, 1):
            peer.sendall(publish_packet(topic, payload, mid))

    def _note_acknowledged(self, body: bytes) -> None:
        with self._changed:
            self.acknowledged.append(int.from_bytes(body[:2], "big"))
            self._changed.notify_all()

    def _accept(self, peer: socket.socket, body: bytes) -> bool:
        with self._changed:
            self.connects.append(body)
            self._changed.notify_all()
        if self.accept_reason is None:
            return True
        properties = b"\x21" + struct.pack(">H", self.receive_maximum)  # 0x21: Receive Maximum
        if self.packet_max is not None:
            properties += b"\x27" + struct.pack(">I", self.packet_max)  # 0x27: Maximum Packet Size
        payload = bytes([0, self.accept_reason, len(properties)]) + properties
        peer.sendall(bytes([CONNACK << 4, len(payload)]) + payload)
        if self.disconnect_reason is not None and len(self.connects) == 1:
            peer.sendall(bytes([DISCONNECT << 4, 2, self.disconnect_reason, 0]))
            return False
        return self.accept_reason == SUCCESS

    def _take(self, peer: socket.socket, flags: int, body: bytes) -> bool:
        (topic_length,) = struct.unpack_from(">H", body)
        topic = body[2 : 2 + topic_length].decode()
        if not flags & 0b0110:  # QoS 0 has no message id, and wants no answer
            with self._changed:
                self.unanswered.append((topic, _without_properties(body[2 + topic_length :])))
                self._changed.notify_all()
            return True
        (mid,) = struct.unpack_from(">H", body, 2 + topic_length)
        start = 4 + topic_length
        publication = Publication(
            connection=len(self.connects),
            topic=topic,
            payload=_without_properties(body[start:]),
            retain=bool(flags & 1),
            historical=b"historical" in body[start : start + 1 + body[start]],
        )
        reason = self.answer(publication)
        with self._changed:
            self.publications.append(publication)
            self._changed.notify_all()
        if self.drop_after is not None and publication.connection == 1:
            sent = [p for p in self.events() if p.connection == 1]
            if len(sent) >= self.drop_after:
                return False
        if reason is not None:
            peer.sendall(bytes([PUBACK << 4, 4]) + struct.pack(">HBB", mid, reason, 0))
        return True


def _without_properties(body: bytes) -> bytes:
    """One byte of property length: they are short here."""
    return body[1 + body[0] :]


def publish_packet(topic: str, payload: bytes, mid: int) -> bytes:
    """A PUBLISH at QoS 1 without properties (MQTT 5, section 3.3)."""
    body = struct.pack(">H", len(topic)) + topic.encode() + struct.pack(">HB", mid, 0) + payload
    length, left = bytearray(), len(body)
    while left or not length:
        left, low = divmod(left, 128)
        length.append(low | (0x80 if left else 0))
    return bytes([PUBLISH << 4 | 2]) + bytes(length) + body


def _read_packet(stream: object) -> tuple[int, int, bytes] | None:
    """Type, flags and body of the next packet; None at the end of the stream."""
    first = _read(stream, 1)
    if not first:
        return None
    length, shift = 0, 0
    while True:
        (byte,) = _read(stream, 1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first[0] >> 4, first[0] & 0x0F, _read(stream, length)


def _read(stream: object, count: int) -> bytes:
    data: bytes = stream.read(count)  # type: ignore[attr-defined]
    return data
