"""Where a chain ends, said by both sides: the board's signed head, and the server's receipt.

A receipt covers everything of a chain up to a seq; a head tells how far the board is.
Both are small, retained or repeated, and replace what was said before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.errors import Refusal, TokenRefused
from edge.records import TimeReading
from edge.trust.identity import DeviceIdentity, device_urn
from edge.trust.jws import VerificationKey, verify
from edge.trust.members import bad, integer, nothing_else, take, text
from edge.trust.tokens import CHAIN_PATTERN, HASH_PATTERN, REASON_PATTERN

RECEIPT_TYP = "hadir-receipt+jwt"

MAX_RECEIPT_BYTES = 8 * 1024
"""One with MAX_REFUSED refusals has under 6 KiB."""

MAX_REFUSED = 32
"""Refusals that one receipt names; all of them are in the server's evidence table."""


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that the server stored and does not believe."""

    seq: int
    hash: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server has stored everything of this chain up to `seq`, whose token has this hash."""

    issuer: str
    audience: str
    issued_s: int
    chain: str
    seq: int
    hash: str
    refused: tuple[RefusedEvent, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a board's chain ended when it said so."""

    issuer: str
    audience: str
    issued_s: int
    chain: str
    seq: int
    """0 for a chain without an event."""
    hash: str | None
    """None for a chain without an event."""


def central_urn(consumer: str) -> str:
    """`iss` of a receipt: which consumer published it."""
    return f"urn:hadir:central:{consumer}"


def receipt_claims(
    issuer: str,
    device: str,
    now_s: int,
    *,
    chain: str,
    seq: int,
    head_hash: str,
    refused: Sequence[RefusedEvent] = (),
) -> dict[str, Any]:
    """What the server has stored of a board's chain. Of the refused ones it names the last MAX_REFUSED."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": device_urn(device),
        "iat": now_s,
        "chain": chain,
        "seq": seq,
        "hash": head_hash,
    }
    if refused:
        last = sorted(refused, key=lambda one: one.seq)[-MAX_REFUSED:]
        claims["refused"] = [{"seq": one.seq, "hash": one.hash, "reason": one.reason} for one in last]
    return claims


def verify_receipt(compact: str | bytes, keys: Mapping[str, VerificationKey], device: str) -> Receipt:
    """A receipt for this board, signed by one of the fleet's receipt keys. Raises TokenRefused."""
    receipt = parse_receipt(verify(compact, RECEIPT_TYP, keys, max_bytes=MAX_RECEIPT_BYTES).claims)
    if receipt.audience != device_urn(device):
        raise TokenRefused(
            Refusal.WRONG_AUDIENCE, f"aud is {ascii(receipt.audience)[:80]}, this board is {device}"
        )
    return receipt


def parse_receipt(claims: Mapping[str, Any]) -> Receipt:
    """A receipt from verified claims. Raises TokenRefused (bad claims), naming the claim."""
    nothing_else(claims, {"iss", "aud", "iat", "chain", "seq", "hash", "refused"})
    seq = integer(claims, "seq", low=1)
    refused = take(claims, "refused", list) if "refused" in claims else []
    if len(refused) > MAX_REFUSED:
        raise bad("refused", f"more than {MAX_REFUSED}")
    return Receipt(
        issuer=text(claims, "iss"),
        audience=text(claims, "aud"),
        issued_s=integer(claims, "iat"),
        chain=text(claims, "chain", CHAIN_PATTERN),
        seq=seq,
        hash=text(claims, "hash", HASH_PATTERN),
        refused=tuple(_refused(one, seq) for one in refused),
    )


def head_claims(
    identity: DeviceIdentity, chain: str, seq: int, head_hash: str | None, made: TimeReading
) -> dict[str, Any]:
    """Where this board's chain ends."""
    claims = {
        "iss": identity.issuer,
        "aud": identity.audience,
        "iat": made.real_ms // 1000,
        "chain": chain,
        "seq": seq,
    }
    return claims if head_hash is None else claims | {"hash": head_hash}


def parse_head(claims: Mapping[str, Any]) -> Head:
    """A head from verified claims. Raises TokenRefused (bad claims), naming the claim."""
    nothing_else(claims, {"iss", "aud", "iat", "chain", "seq", "hash"})
    seq = integer(claims, "seq")
    if ("hash" in claims) != (seq > 0):
        raise bad("hash", "missing" if seq > 0 else "a chain without an event has none")
    return Head(
        issuer=text(claims, "iss"),
        audience=text(claims, "aud"),
        issued_s=integer(claims, "iat"),
        chain=text(claims, "chain", CHAIN_PATTERN),
        seq=seq,
        hash=text(claims, "hash", HASH_PATTERN) if seq > 0 else None,
    )


def _refused(one: object, covered_seq: int) -> RefusedEvent:
    if not isinstance(one, dict):
        raise bad("refused", "not a list of objects")
    nothing_else(one, {"seq", "hash", "reason"})
    return RefusedEvent(
        seq=integer(one, "seq", low=1, high=covered_seq),
        hash=text(one, "hash", HASH_PATTERN),
        reason=text(one, "reason", REASON_PATTERN),
    )
