"""What a receipt means for this board's chain.

A receipt is believed because a receipt key of the fleet signed it for this board. It can
still be an old one, of a chain that is no longer ours, or show that the server knows
another chain than this outbox: then the card was restored from a copy, or cloned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from edge.errors import Refusal, TokenRefused
from edge.trust.jws import VerificationKey
from edge.trust.receipts import Receipt, verify_receipt
from edge.uplink.downlink import Incoming, Send
from edge.uplink.outbox import Head

ReceiptKeys = Callable[[], Mapping[str, VerificationKey]]
"""The fleet's receipt keys as they are now, by kid."""


class Meaning(Enum):
    """What to do about a receipt."""

    PROGRESS = auto()
    """It covers more than was known."""
    OLD = auto()
    """It says nothing new about delivery."""
    FOREIGN = auto()
    """It is about another chain, one that this outbox has left or never had."""
    FORK = auto()
    """The server has another event at that place of our chain, or one that we never made."""


@dataclass(frozen=True, slots=True)
class ReceiptReader:
    """Verifies receipts for one board."""

    device: str
    keys: ReceiptKeys

    def read(self, payload: bytes) -> Receipt:
        """Raises TokenRefused, which changes nothing for the board."""
        if not payload:
            raise TokenRefused(Refusal.MALFORMED, "the retained receipt was deleted")
        return verify_receipt(payload, self.keys(), self.device)


def meaning(receipt: Receipt, head: Head, own_hash: str | None) -> Meaning:
    """Hold a verified receipt against the own chain; `own_hash` is ours at the receipt's seq, None if not held."""
    if receipt.chain != head.chain:
        return Meaning.FOREIGN
    if receipt.seq > head.seq or (own_hash is not None and own_hash != receipt.hash):
        return Meaning.FORK
    return Meaning.PROGRESS if receipt.seq > head.acked_seq else Meaning.OLD


class Receipts:
    """Receives what comes under `down/receipt`, and keeps the furthest for whoever takes it.

    `server_says` is told when each was issued, in seconds since 1970.
    """

    topics = ("receipt",)

    def __init__(self, reader: ReceiptReader, server_says: Callable[[int], None]) -> None:
        self._reader = reader
        self._server_says = server_says
        self._latest: Receipt | None = None

    def connected(self, send: Send) -> None:
        """Nothing to say: the retained receipt comes by itself."""

    def receive(self, incoming: Incoming, send: Send) -> None:
        """Verify it. Raises TokenRefused."""
        receipt, known = self._reader.read(incoming.payload), self._latest
        self._server_says(receipt.issued_s)
        # Several consumers: one may tell late how far the chain was when it looked.
        if known is None or known.chain != receipt.chain or known.seq < receipt.seq:
            self._latest = receipt

    def take(self) -> Receipt | None:
        """The furthest receipt that came and was not yet taken."""
        latest, self._latest = self._latest, None
        return latest
