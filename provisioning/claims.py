"""Claims on the administrator's side: made, presented by a board, approved, answered, used up.

One claim leads to one key of one board. The first key that presents it is the one; the same
key again gets the same answer, and a second key gets nothing, takes back what the first may
have got, and raises an alert: nobody can tell which of two boards is the right one.

Everything that changes does so in one transaction of the registry, with its entry in the
audit. Nothing here speaks to a broker (`provisioning.serve` does), so an answer can be
carried on a stick as well. What follows from the registry (`devices.jwks`, the broker's
access) the caller writes, once for many changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from secrets import choice
from typing import Any

from cryptography import x509

from edge.errors import InputError, Refusal, RetryLater, TokenRefused
from edge.records import Direction
from edge.trust.admission import Purpose, sign_admission
from edge.trust.claim import REQUEST_TYP, ClaimRequest, parse_request
from edge.trust.claim import Claim as Secret
from edge.trust.jws import SharedKey, VerificationKey, jwk_of, key_from_jwk, thumbprint, verify
from edge.trust.receipts import parse_head
from edge.trust.seal import sealing_key_text
from edge.trust.tokens import HEAD_TYP
from provisioning.authority import Role, moment, pem, requested_key
from provisioning.broker import password_hash
from provisioning.entries import Claim, ClaimState, Device
from provisioning.fleet import KEYS_FILE, Fleet
from provisioning.registry import Change

DAY_S = 24 * 3600
LIFETIME_S = 7 * DAY_S
"""A claim that is not used within a week was forgotten, or lost with its stick."""
MAX_LIFETIME_S = 30 * DAY_S

DELIVERY = "receipt"
"""How boards are told to count an event as delivered."""

ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without those that are mistaken for others."""
ID_LENGTH = 10
ID_PATTERN = re.compile(f"[{ID_LETTERS}]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Listener:
    """Where boards reach the broker."""

    url: str
    """Of the device listener."""
    claims: str
    """Host and port of the claim listener."""
    pin: str
    """Of the broker's key."""


class Outcome(StrEnum):
    """What came of a request."""

    PENDING = "pending"
    """It waits for an administrator."""
    ANSWERED = "answered"
    """The answer is there, or there again."""
    ALERT = "alert"
    """Another board presented this claim: nobody gets anything."""


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a request."""

    outcome: Outcome
    claim: Claim
    detail: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A key was seen at work for the first time."""

    kid: str
    claim: Claim | None
    """The claim that it came by, used up now."""
    superseded: tuple[str, ...]
    """Earlier keys of the board, which may say nothing later than this."""


def add_device(
    fleet: Fleet,
    device: str,
    *,
    listener: Listener,
    now_s: int,
    site: str | None = None,
    direction: Direction = Direction.BOTH,
    label: str = "",
    settings: Mapping[str, Any] | None = None,
    lifetime_s: int = LIFETIME_S,
) -> Secret:
    """Register a board and make the claim that it becomes that board with. Raises InputError."""
    fleet.store.unlock()  # before the registry is held
    with fleet.change("device-add", device, now_s=now_s) as change:
        change.add_device(device, site or fleet.site, direction, label=label, settings=settings)
        return _add_claim(fleet, change, device, Purpose.FIRST, listener, now_s, lifetime_s)


def add_claim(
    fleet: Fleet,
    device: str,
    purpose: Purpose,
    *,
    listener: Listener,
    now_s: int,
    lifetime_s: int = LIFETIME_S,
) -> Secret:
    """Another claim for a board that is registered; earlier ones that are still open are worth nothing then."""
    known = fleet.registry.device(device)
    if known.revoked_s is not None and purpose is not Purpose.REPLACE:
        raise InputError(f"{device}: was revoked; a new board at the same door: `hadir-provision replace`")
    fleet.store.unlock()
    with fleet.change(f"claim-{purpose}", device, now_s=now_s) as change:
        for claim in fleet.registry.claims(device):
            if claim.state in (ClaimState.OPEN, ClaimState.PENDING):
                change.update_claim(claim.claim, ClaimState.CANCELLED)
        return _add_claim(fleet, change, device, purpose, listener, now_s, lifetime_s)


def _add_claim(
    fleet: Fleet,
    change: Change,
    device: str,
    purpose: Purpose,
    listener: Listener,
    now_s: int,
    lifetime_s: int,
) -> Secret:
    if not 60 <= lifetime_s <= MAX_LIFETIME_S:  # noqa: PLR2004 - a minute, to be of any use
        raise InputError(f"a claim lives for a minute to {MAX_LIFETIME_S // DAY_S} days")
    claim_id = "".join(choice(ID_LETTERS) for _ in range(ID_LENGTH))
    secret = Secret.new(claim_id, broker=listener.claims, server=listener.pin, fleet=fleet.root_thumbprint)
    change.add_claim(
        claim_id,
        device,
        purpose,
        secret=fleet.store.wrap(secret.request_key.secret, _wrapping(claim_id)),
        password=password_hash(secret.password),
        expires_s=now_s + lifetime_s,
    )
    change.detail |= {"claim": claim_id, "purpose": purpose.value, "expires_s": now_s + lifetime_s}
    return secret


def receive_request(fleet: Fleet, claim_id: str, content: bytes, now_s: int) -> Received:
    """Take what a board asks under a claim.

    Raises:
        TokenRefused: there is no such claim any more, or the request is not to be believed; nothing is changed.
    """
    claim = fleet.registry.claim(claim_id) if ID_PATTERN.fullmatch(claim_id) else None
    if claim is None:
        raise TokenRefused(Refusal.UNKNOWN_KEY, f"claim {ascii(claim_id)[:40]} was never made")
    key = SharedKey(claim_id, fleet.store.unwrap(claim.secret, _wrapping(claim_id)), frozenset({REQUEST_TYP}))
    request = parse_request(content, key, fleet.root_thumbprint)
    kid = _kid(request)
    if claim.request_kid is not None and not _same_keys(fleet, claim, request, kid):
        return _alert(fleet, claim, request, kid, now_s)
    if claim.state is ClaimState.ISSUED:
        return Received(Outcome.ANSWERED, claim, "the same answer again")
    if claim.state is ClaimState.USED:
        raise TokenRefused(Refusal.EXPIRED, f"claim {claim_id}: was used already")
    if claim.state in (ClaimState.CANCELLED, ClaimState.ALERT):
        raise TokenRefused(Refusal.EXPIRED, f"claim {claim_id}: is worth nothing any more ({claim.state})")
    if claim.expires_s <= now_s:
        raise TokenRefused(Refusal.EXPIRED, f"claim {claim_id}: has expired")
    if claim.state is ClaimState.PENDING:
        return Received(Outcome.PENDING, claim, "waits to be approved")
    if any(known.kid == kid for known in fleet.registry.device_keys()):
        raise TokenRefused(
            Refusal.WRONG_OWNER, f"key {kid} is registered already, and a key belongs to one board"
        )
    with fleet.change("claim-request", claim.device, now_s=now_s, claim=claim_id, kid=kid) as change:
        _check_unchanged(fleet, claim)
        change.detail |= {"board": request.board, "protection": request.protection.value}
        change.update_claim(claim_id, ClaimState.PENDING, request=content.decode("ascii"), request_kid=kid)
    return Received(Outcome.PENDING, _again(fleet, claim_id), f"{request.board}, key {kid}")


def approve(fleet: Fleet, claim_id: str, *, listener: Listener, now_s: int) -> Claim:
    """Let the board in that presented this claim: certificate, place and keys, signed and sealed to it.

    Raises:
        InputError: no board presented it, or it is worth nothing any more.
    """
    claim = fleet.registry.claim(claim_id)
    if claim is None or claim.request is None or claim.request_kid is None:
        raise InputError(
            f"claim {claim_id}: no board has presented it; `hadir-provision pending` lists those"
        )
    if claim.state is not ClaimState.PENDING or claim.expires_s <= now_s:
        state = "expired" if claim.state is ClaimState.PENDING else claim.state
        raise InputError(f"claim {claim_id}: is {state}, so there is nothing to approve")
    device = fleet.registry.device(claim.device)
    request = _request_of(fleet, claim)
    public = requested_key(request.csr)
    authority = fleet.authority()
    certificate = authority.issue_device(public, device.device, moment(now_s))
    answer = sign_admission(
        claim_id,
        fleet.root_thumbprint,
        provision=fleet.signing_key("provision"),
        device_key=public,
        sealing_key=request.sealing_key,
        device=device.device,
        site=device.site,
        purpose=claim.purpose,
        certificates=[pem(certificate), authority.chain],
        settings=_settings(device, listener),
        trail=(fleet.folder / KEYS_FILE).read_bytes(),
        now_s=now_s,
    )
    with fleet.change("approve", device.device, now_s=now_s, claim=claim_id, kid=claim.request_kid) as change:
        _check_unchanged(fleet, claim)
        if claim.purpose is Purpose.REPLACE:
            _give_up(fleet, change, device)
        elif fleet.registry.device(claim.device).revoked_s is not None:
            raise InputError(
                f"{claim.device}: was revoked; a new board at the same door: `hadir-provision replace`"
            )
        _register(change, certificate, device, request, claim.request_kid)
        change.update_claim(claim_id, ClaimState.ISSUED, response=answer)
    return _again(fleet, claim_id)


def _register(
    change: Change, certificate: x509.Certificate, device: Device, request: ClaimRequest, kid: str
) -> None:
    change.add_key(
        kid,
        device.device,
        jwk_of(requested_key(request.csr)),
        sealing=sealing_key_text(request.sealing_key),
        protection=request.protection.value,
    )
    change.add_certificate(certificate, Role.DEVICE, device.device)
    change.detail["serial"] = f"{certificate.serial_number:x}"


def _give_up(fleet: Fleet, change: Change, device: Device) -> None:
    """The door's earlier board: whatever it still says waits for an administrator, as that of a stolen one."""
    for key in fleet.registry.device_keys(device.device):
        change.revoke_key(key.kid)
    for issued in fleet.registry.certificates(device.device):
        change.revoke_certificate(issued.serial)
    if device.revoked_s is not None:
        change.reinstate_device(device.device)


def _alert(fleet: Fleet, claim: Claim, request: ClaimRequest, kid: str, now_s: int) -> Received:
    """A second board: take back what the first may have got, unless it is that board for certain already."""
    detail = f"presented by a second board ({request.board}, key {kid}) beside key {claim.request_kid}"
    if claim.alert is not None:  # told once: whoever has the claim must not fill the audit
        return Received(Outcome.ALERT, claim, detail)
    state = ClaimState.USED if claim.state is ClaimState.USED else ClaimState.ALERT
    with fleet.change("claim-alert", claim.device, now_s=now_s, claim=claim.claim, kid=kid) as change:
        _check_unchanged(fleet, claim)
        change.detail["first_kid"] = claim.request_kid
        if claim.state is ClaimState.ISSUED and claim.request_kid is not None:
            change.revoke_key(claim.request_kid)
            for issued in fleet.registry.certificates(claim.device):
                if _certifies(issued.pem, claim.request_kid):
                    change.revoke_certificate(issued.serial)
        change.update_claim(claim.claim, state, alert=detail)
    return Received(Outcome.ALERT, _again(fleet, claim.claim), detail)


def take_status(fleet: Fleet, device: str, head_token: str, now_s: int) -> Arrival | None:
    """A board showed a head: what that settles; None where it settles nothing, as nearly always.

    The first that a key signs uses up the claim that let it in, and ends what the board's
    earlier key may say: that ends where the chain was handed over, or soon after.

    Raises:
        TokenRefused: no key of this board signed it; nothing is changed.
    """
    keys = {key.kid: key for key in fleet.registry.device_keys(device) if key.revoked_s is None}
    verified = verify(head_token, HEAD_TYP, {kid: _verification(key.jwk) for kid, key in keys.items()})
    head = parse_head(verified.claims)
    claim = next((c for c in fleet.registry.claims(device) if _answered(c, verified.kid)), None)
    order = list(keys)
    earlier = [keys[kid] for kid in order[: order.index(verified.kid)] if keys[kid].last_seq is None]
    if claim is None and not earlier:
        return None
    with fleet.change("arrived", device, now_s=now_s, kid=verified.kid) as change:
        change.detail |= {"chain": head.chain, "seq": head.seq}
        if claim is not None:
            _check_unchanged(fleet, claim)
            change.update_claim(claim.claim, ClaimState.USED, used_s=now_s)
            change.detail["claim"] = claim.claim
        for key in earlier:
            change.bind_key(key.kid, chain=head.chain, last_seq=head.seq)
        for issued in fleet.registry.certificates(device):
            if issued.revoked_s is None and not _certifies(issued.pem, verified.kid):
                change.revoke_certificate(issued.serial)
    return Arrival(verified.kid, claim, tuple(key.kid for key in earlier))


def _answered(claim: Claim, kid: str) -> bool:
    return claim.state is ClaimState.ISSUED and claim.request_kid == kid


def _verification(jwk: Mapping[str, str]) -> VerificationKey:
    return key_from_jwk(jwk, frozenset({HEAD_TYP}))


def _settings(device: Device, listener: Listener) -> dict[str, dict[str, Any]]:
    """What the board's configuration is to say, by section."""
    own: dict[str, dict[str, Any]] = {
        "device": {"direction": device.direction.value},
        "broker": {"url": listener.url},
        "events": {"delivery": DELIVERY},
    }
    for section, members in device.settings.items():
        own[section] = own.get(section, {}) | members
    return own


def _request_of(fleet: Fleet, claim: Claim) -> ClaimRequest:
    key = SharedKey(
        claim.claim, fleet.store.unwrap(claim.secret, _wrapping(claim.claim)), frozenset({REQUEST_TYP})
    )
    return parse_request((claim.request or "").encode(), key, fleet.root_thumbprint)


def _kid(request: ClaimRequest) -> str:
    try:
        return thumbprint(jwk_of(requested_key(request.csr)))
    except InputError as error:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"csr: {error}") from error


def _same_keys(fleet: Fleet, claim: Claim, request: ClaimRequest, kid: str) -> bool:
    """Both of them: a request with the board's own certificate request and another sealing key is a thief's."""
    first = _request_of(fleet, claim)
    return kid == claim.request_kid and sealing_key_text(request.sealing_key) == sealing_key_text(
        first.sealing_key
    )


def _certifies(certificate: str, kid: str) -> bool:
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return thumbprint(jwk_of(public)) == kid  # type: ignore[arg-type]  # ours are P-256


def _check_unchanged(fleet: Fleet, claim: Claim) -> None:
    """Inside the transaction: what was decided upon is still so. Raises RetryLater, which rolls it back."""
    if fleet.registry.claim(claim.claim) != claim:
        raise RetryLater(f"claim {claim.claim}: another command changed it just now; try again")


def _again(fleet: Fleet, claim_id: str) -> Claim:
    claim = fleet.registry.claim(claim_id)
    if claim is None:
        raise InputError(f"claim {claim_id}: not in this fleet")
    return claim


def _wrapping(claim_id: str) -> str:
    return f"claim-request-key:{claim_id}"
