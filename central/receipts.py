"""What the server tells the boards: signed, retained, at most as often as it helps.

A receipt says that everything of a chain up to a place is stored. Without a backlog it
goes out after each batch; while one flows, the receipts of one chain are gathered for at
most PACE_S, which keeps the window of a board moving and saves most of the signatures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from central.ledger import Due
from edge.errors import KeyFileError
from edge.trust.fleetkeys import load_keys_document
from edge.trust.identity import load_signing_key
from edge.trust.jws import SigningKey, sign
from edge.trust.receipts import RECEIPT_TYP, central_urn, receipt_claims

PACE_S = 0.03
"""With the time of the next batch, some 60 ms, this stays under the design's 100 ms."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed receipt and where it goes."""

    topic: str
    token: str


class Pending:
    """The receipts that are owed, the latest of each chain."""

    def __init__(self) -> None:
        self._due: dict[int, Due] = {}
        self._since_s: float | None = None

    def add(self, due: Iterable[Due], now_s: float) -> None:
        for one in due:
            self._due[one.chain_id] = one
        if self._due and self._since_s is None:
            self._since_s = now_s

    def take(self, now_s: float, *, idle: bool) -> list[Due]:
        """What is to go out now: all of it, or nothing yet."""
        if self._since_s is None or not (idle or now_s - self._since_s >= PACE_S):
            return []
        due, self._due, self._since_s = list(self._due.values()), {}, None
        return due


def load_receipt_key(path: Path, keys_file: Path, root_thumbprint: str) -> SigningKey:
    """The key that signs receipts, checked to be one that boards believe.

    Raises:
        KeyFileError: missing, readable by others, or not a receipt key of the keys document.
    """
    key = load_signing_key(path)
    if key.kid not in load_keys_document(keys_file, root_thumbprint).verification_keys(RECEIPT_TYP):
        raise KeyFileError(
            f"{path}: {keys_file} names no receipt key {key.kid}, so that no board would believe a receipt; copy both "
            "from the fleet's folder"
        )
    return key


def signed(due: Due, consumer: str, key: SigningKey, now_s: int) -> Receipt:
    """The receipt of one chain."""
    claims = receipt_claims(
        central_urn(consumer),
        due.device,
        now_s,
        chain=due.chain,
        seq=due.seq,
        head_hash=due.hash,
        refused=due.refused,
    )
    return Receipt(f"hadir/v1/{due.device}/down/receipt", sign(claims, key, RECEIPT_TYP).compact)
