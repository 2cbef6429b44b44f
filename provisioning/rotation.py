"""A board's next key and certificate, in two commands: it makes the key, and then takes the certificate for it."""

from __future__ import annotations

from cryptography import x509

from edge.errors import InputError
from edge.trust.commands import Status
from edge.trust.jws import decode_base64url, jwk_of, thumbprint
from provisioning.authority import Role, moment, pem, requested_key
from provisioning.commands import Answered, give
from provisioning.entries import Given, Issued
from provisioning.fleet import Fleet

NAME = "rotate"
DUE_AT = 2 / 3
"""Of a certificate's life: what is left of a year is time enough for a board that is away for a season."""

LIFETIME_S = 24 * 3600


def begin(fleet: Fleet, device: str, now_s: int) -> Given:
    """Have a board make its next key. Raises InputError."""
    return give(fleet, device, NAME, {}, now_s=now_s, lifetime_s=LIFETIME_S)


def go_on(fleet: Fleet, answered: Answered, now_s: int) -> Given | None:
    """Certify the key that a board made, and give it the certificate; None where the answer asks for nothing.

    Raises:
        InputError: the certificate request is not to be believed; nothing is changed.
    """
    csr = answered.reply.result.get("csr")
    if answered.given.name != NAME or answered.reply.status is not Status.DONE or not isinstance(csr, str):
        return None
    device = answered.given.device
    try:
        public = requested_key(decode_base64url(csr.encode()))
    except ValueError as error:
        raise InputError(f"{device}: its certificate request cannot be read ({error})") from error
    kid = thumbprint(jwk_of(public))
    old = next(key for key in fleet.registry.device_keys(device) if key.kid == answered.reply.kid)
    authority = fleet.authority()
    certificate = authority.issue_device(public, device, moment(now_s))
    known = {key.kid: key for key in fleet.registry.device_keys()}
    if kid in known and known[kid].device != device:
        raise InputError(f"{device}: key {kid} is {known[kid].device}'s; nothing was certified")
    with fleet.change("rotate", device, now_s=now_s, kid=kid, old_kid=old.kid) as change:
        if fleet.registry.device(device).revoked_s is not None:
            raise InputError(f"{device}: was revoked meanwhile; nothing was certified")
        if kid not in known:
            change.add_key(kid, device, jwk_of(public), sealing=old.sealing, protection=old.protection)
        change.add_certificate(certificate, Role.DEVICE, device)
    args = {"kid": kid, "certificates": [pem(certificate), authority.chain]}
    return give(fleet, device, NAME, args, now_s=now_s, lifetime_s=LIFETIME_S)


def due(fleet: Fleet, now_s: int) -> tuple[str, ...]:
    """Boards whose certificate is two thirds through or of an earlier authority, and that were not told yet."""
    issuer = fleet.certificate("issuing").subject
    return tuple(
        device.device
        for device in fleet.active_devices()
        if _is_due(fleet.registry.certificates(device.device), issuer, now_s)
        and not _is_told(fleet.registry.last_command(device.device, NAME), now_s)
    )


def _is_told(given: Given | None, now_s: int) -> bool:
    return given is not None and given.status is None and given.expires_s > now_s


def _is_due(certificates: tuple[Issued, ...], issuer: x509.Name, now_s: int) -> bool:
    """By the oldest that it still has: a later one may never have reached it, and ends the oldest when it is seen."""
    good = [
        issued
        for issued in certificates
        if issued.role is Role.DEVICE and issued.revoked_s is None and issued.not_after_s > now_s
    ]
    if not good:
        return False  # nothing to rotate: it claims, or renews by a claim
    oldest = min(good, key=lambda issued: issued.not_after_s)
    if x509.load_pem_x509_certificate(oldest.pem.encode()).issuer != issuer:
        return True
    return now_s >= oldest.issued_s + (oldest.not_after_s - oldest.issued_s) * DUE_AT
