"""A server's end for tests of a board: stores what comes, in order, and gives receipts when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import TokenRefused
from edge.trust.jws import SigningKey, VerificationKey, parse_object, sign, token_hash
from edge.trust.receipts import RECEIPT_TYP, RefusedEvent, central_urn, receipt_claims
from edge.trust.tokens import Event, parse_event

RECEIPT_KEY = SigningKey.generate()
ISSUER = central_urn("central-1")


def receipt_keys() -> dict[str, VerificationKey]:
    return {RECEIPT_KEY.kid: RECEIPT_KEY.verification_key(frozenset({RECEIPT_TYP}))}


def receipt(
    chain: str,
    seq: int,
    head_hash: str,
    *,
    device: str = "door-01",
    key: SigningKey = RECEIPT_KEY,
    refused: tuple[RefusedEvent, ...] = (),
) -> bytes:
    """A receipt as central signs it."""
    claims = receipt_claims(
        ISSUER, device, 1_800_000_000, chain=chain, seq=seq, head_hash=head_hash, refused=refused
    )
    return sign(claims, key, RECEIPT_TYP).compact.encode()


def event_of(token: str) -> Event:
    """What an event says, its signature not looked at."""
    return parse_event(parse_object(token.split(".")[1].encode(), "payload"))


class Server:
    """Keeps every event of one board by chain and place; gives a retained receipt for each, unless told not to."""

    def __init__(self, url: str, *, device: str = "door-01", gives: bool = True) -> None:
        self.arrivals: list[str] = []
        """Every token as it came, those that came again among them."""
        self.stored: dict[tuple[str, int], str] = {}
        """By chain and seq, the first token that came for it."""
        self.gives = gives
        self._device = device
        self._covered: dict[str, int] = {}
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        address = urlsplit(url)
        assert address.hostname is not None
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="central-1", protocol=mqtt.MQTTv5)
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect(address.hostname, address.port or 1883)
        self._client.loop_start()
        self._client.subscribe("hadir/v1/+/up/event", 1)
        assert self._subscribed.wait(20)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, payload: bytes) -> None:
        """Leave this as the board's retained receipt."""
        self._client.publish(f"hadir/v1/{self._device}/down/receipt", payload, qos=1, retain=True)

    def give(self, chain: str, seq: int) -> None:
        """Give a receipt up to there."""
        self.publish(receipt(chain, seq, token_hash(self.stored[chain, seq])))

    def forget_after(self, chain: str, seq: int) -> None:
        """Bring back an older copy of what is stored."""
        with self._changed:
            self.stored = {place: token for place, token in self.stored.items() if place[1] <= seq}
            self._covered[chain] = seq

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Whether it comes true. Looked at after each arrival, and now and then for what happens on the board."""
        deadline_s = time.monotonic() + 30
        with self._changed:
            while not condition() and time.monotonic() < deadline_s:
                self._changed.wait(0.02)
            return condition()

    def wait_for(self, count: int) -> bool:
        """Whether so many different events are stored."""
        return self.wait_until(lambda: len(self.stored) >= count)

    def events(self, chain: str) -> list[Event]:
        """What is stored of a chain, in its order."""
        return [event_of(token) for (of, _), token in sorted(self.stored.items()) if of == chain]

    def _take(self, client: object, userdata: object, message: mqtt.MQTTMessage) -> None:
        token = bytes(message.payload).decode()
        with self._changed:
            self.arrivals.append(token)
            with suppress(TokenRefused):
                event = event_of(token)
                self.stored.setdefault((event.chain, event.seq), token)
                self._advance(event.chain)
            self._changed.notify_all()

    def _advance(self, chain: str) -> None:
        skipped = {
            event.payload["skipped"]["seq"] for event in self.events(chain) if "skipped" in event.payload
        }
        seq = self._covered.get(chain, 0)
        while (chain, seq + 1) in self.stored or seq + 1 in skipped:
            seq += 1
        self._covered[chain] = seq
        while (
            seq and (chain, seq) not in self.stored
        ):  # its hash is told by what set it aside; the one before will do
            seq -= 1
        if self.gives and seq:
            self.give(chain, seq)
