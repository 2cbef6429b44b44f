"""Many boards at once, on one thread and at little cost: what loads a server without taking its processor.

Each is a connection of its own over TLS with its own certificate, speaks just enough MQTT 5,
and sends tokens that were signed beforehand. As a board does, it has only so many events
unreceipted at once, reads its receipts and sends the next as they come.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import struct
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RECEIVE_BYTES = 64 * 1024

CONNACK, PUBLISH, SUBACK, PUBACK = 2, 3, 9, 4


@dataclass(slots=True)
class CrowdBoard:
    """One board: its connection, what it has to send, and when each event was sent and receipted."""

    device: str
    stream: ssl.SSLSocket
    packets: Sequence[bytes]
    """One for each event, seq 1 first."""
    sent_s: list[float] = field(default_factory=list)
    receipted: int = 0
    latencies_s: list[float] = field(default_factory=list)
    out: bytearray = field(default_factory=bytearray)
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def done(self) -> bool:
        return self.receipted == len(self.packets)

    def fill(self, window: int, now_s: float) -> None:
        """Queue what the window allows."""
        stop = min(len(self.packets), self.receipted + window)
        for number in range(len(self.sent_s), stop):
            self.out += self.packets[number]
            self.sent_s.append(now_s)

    def flush(self) -> bool:
        """Write; whether something is left to be written."""
        while self.out:
            try:
                del self.out[: self.stream.send(self.out)]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                return True
        return False

    def read(self, now_s: float) -> None:
        """Read what is here, and note what is receipted. Raises ConnectionError where the broker has closed."""
        while True:
            try:
                data = self.stream.recv(RECEIVE_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                break
            if not data:
                raise ConnectionError(f"{self.device}: the broker closed the connection")
            self.buffer += data
        for kind, body in _packets(self.buffer):
            if kind == PUBLISH:
                self._take_receipt(body, now_s)

    def _take_receipt(self, body: bytes, now_s: float) -> None:
        (length,) = struct.unpack_from(">H", body)
        token = body[2 + length + 1 + body[2 + length] :]  # QoS 0: no packet id; few properties
        claims = token.split(b".")[1]
        seq = int(json.loads(urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))["seq"])
        self.latencies_s += [now_s - sent_s for sent_s in self.sent_s[self.receipted : seq]]
        self.receipted = max(self.receipted, seq)


@dataclass(frozen=True, slots=True)
class Load:
    """What a crowd saw."""

    events: int
    elapsed_s: float
    latencies_s: Sequence[float]
    """From sending each event to the receipt that covers it."""


def drive(boards: Sequence[CrowdBoard], window: int, timeout_s: float) -> Load:
    """Send all that all boards have, until everything is receipted. Raises TimeoutError."""
    selector = selectors.DefaultSelector()
    for board in boards:
        selector.register(board.stream, selectors.EVENT_READ, board)
    begin_s = time.monotonic()
    open_boards = len(boards)
    for board in boards:
        _turn(selector, board, window, begin_s)
    while open_boards:
        now_s = time.monotonic()
        if now_s - begin_s > timeout_s:
            missing = sum(len(board.packets) - board.receipted for board in boards)
            raise TimeoutError(f"{missing} events were not receipted in {timeout_s:g} s")
        for key, events in selector.select(1.0):
            board = key.data
            if events & selectors.EVENT_READ:
                was_done = board.done
                board.read(time.monotonic())
                open_boards -= board.done and not was_done
            _turn(selector, board, window, time.monotonic())
    elapsed_s = time.monotonic() - begin_s
    latencies = [latency for board in boards for latency in board.latencies_s]
    return Load(sum(len(board.packets) for board in boards), elapsed_s, latencies)


def connect(host: str, port: int, context: ssl.SSLContext, device: str) -> ssl.SSLSocket:
    """A connected and subscribed board, whose socket no longer blocks."""
    stream = context.wrap_socket(socket.create_connection((host, port), timeout=20), server_hostname=host)
    stream.sendall(_packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x00\x00" + _text(device)))
    _expect(stream, CONNACK)
    stream.sendall(_packet(0x82, b"\x00\x01\x00" + _text(f"hadir/v1/{device}/down/receipt") + b"\x00"))
    _expect(stream, SUBACK)
    stream.setblocking(False)
    return stream


def event_packet(device: str, number: int, token: str) -> bytes:
    """A PUBLISH at QoS 1 (MQTT 5, section 3.3)."""
    payload = token.encode("ascii")
    return _packet(0x32, _text(f"hadir/v1/{device}/up/event") + struct.pack(">HB", number, 0) + payload)


def client_context(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    return context


def _turn(selector: selectors.BaseSelector, board: CrowdBoard, window: int, now_s: float) -> None:
    board.fill(window, now_s)
    more = board.flush()
    selector.modify(board.stream, selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0), board)


def _expect(stream: ssl.SSLSocket, kind: int) -> None:
    buffer = bytearray()
    while True:
        buffer += stream.recv(RECEIVE_BYTES)
        for found, body in _packets(buffer):
            if found != kind or (kind == CONNACK and body[1] != 0):
                raise ConnectionError(f"the broker answers {found} {bytes(body[:4])!r}, expected {kind}")
            return


def _packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Whole packets, taken out of the buffer: kind and body."""
    while len(buffer) >= 2:  # noqa: PLR2004 - a header and one byte of length
        length, shift, at = 0, 0, 1
        while at < len(buffer):
            byte = buffer[at]
            length |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not byte & 0x80:
                break
        else:
            return
        if len(buffer) < at + length:
            return
        kind, body = buffer[0] >> 4, bytes(buffer[at : at + length])
        del buffer[: at + length]
        yield kind, body


def _packet(header: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, byte = length >> 7, length & 0x7F
        encoded.append(byte | (0x80 if length else 0))
        if not length:
            return bytes([header]) + bytes(encoded) + body


def _text(text: str) -> bytes:
    raw = text.encode("ascii")
    return struct.pack(">H", len(raw)) + raw
