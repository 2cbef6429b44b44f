"""What will end, and locks out boards or servers when it does: told a month before, at every command."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from edge.errors import KeyFileError
from edge.files import read_bounded
from provisioning.authority import CRL_WARNING, Role, moment
from provisioning.fleet import Fleet

CERTIFICATE_WARNING = timedelta(days=30)
AUTHORITY_WARNING = timedelta(days=365)
"""A change of the authority reaches every board before its own certificate ends."""

_MAX_CRL_BYTES = 16 * 1024**2

_RENEWAL = {
    Role.BROKER: "run `hadir-provision broker`",
    Role.PROVISION: "run `hadir-provision broker`",
    Role.CONSUMER: "run `hadir-provision consumer renew`",
    Role.AUTHORITY: "run `hadir-provision rotate-fleet`",
    Role.DEVICE: "boards rotate by themselves: see why this one did not with `hadir-provision show`",
}


def warnings(fleet: Fleet, now_s: int) -> tuple[str, ...]:
    """A line for each thing that ends soon or has ended. Raises KeyFileError where the list cannot be read."""
    now = moment(now_s)
    return (*_revocation_list(fleet, now), *_certificates(fleet, now))


def _revocation_list(fleet: Fleet, now: datetime) -> tuple[str, ...]:
    path = fleet.folder / "ca" / "crl.pem"
    try:
        crl = x509.load_pem_x509_crl(read_bounded(path, _MAX_CRL_BYTES))
    except (OSError, ValueError) as error:
        raise KeyFileError(
            f"{path}: the revocation list cannot be read; run `hadir-provision broker`"
        ) from error
    end = crl.next_update_utc
    if end is None or end - now > CRL_WARNING:
        return ()
    return (
        f"{path}: {_when(end, now)}, and then the broker lets no board in; run `hadir-provision broker` and see that "
        "the broker gets it",
    )


def _certificates(fleet: Fleet, now: datetime) -> tuple[str, ...]:
    """One of each name and role; those of revoked boards and servers end unmourned.

    It is the one that lasts longest; of a board the one that ends first, which is what it works with: that one is
    revoked when the board is seen with a later one.
    """
    last: dict[tuple[Role, str], datetime] = {}
    for issued in fleet.registry.certificates():
        if issued.revoked_s is None and issued.role is not Role.EVICTION:
            key, end = (
                (issued.role, "" if issued.role is Role.BROKER else issued.name),
                moment(issued.not_after_s),
            )
            choose = min if issued.role is Role.DEVICE else max
            last[key] = choose(end, last.get(key, end))
    return tuple(
        f"certificate of {name or role}: {_when(end, now)}; {_RENEWAL[role]}"
        for (role, name), end in last.items()
        if end - now <= (AUTHORITY_WARNING if role is Role.AUTHORITY else CERTIFICATE_WARNING)
    )


def _when(end: datetime, now: datetime) -> str:
    days = (end - now).days
    return f"ends on {end:%Y-%m-%d}, in {days} days" if end > now else f"ended on {end:%Y-%m-%d}"
