"""What will end, and locks out boards or servers when it does: told a month before, at every command."""

from __future__ import annotations

from datetime import datetime, timedelta

from provisioning.authority import CRL_WARNING, Role, moment
from provisioning.fleet import Fleet
from provisioning.handout import HANDED_OUT, LISTS, end_of

CERTIFICATE_WARNING = timedelta(days=30)
AUTHORITY_WARNING = timedelta(days=365)
"""A change of the authority reaches every board before its own certificate ends."""

CLOCK_SLACK_S = 3600
"""Of another machine that works on the same folder."""

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
    return (
        *_clock(fleet, now_s),
        *_revocation_list(fleet, now),
        *_list_of_boards(fleet, now),
        *_certificates(fleet, now),
    )


def _clock(fleet: Fleet, now_s: int) -> tuple[str, ...]:
    """Certificates and claims that a clock in the past dates are over before they begin."""
    behind_s = fleet.registry.last_change_s() - now_s
    if behind_s <= CLOCK_SLACK_S:
        return ()
    return (
        f"this machine's clock is {behind_s // 3600} hours behind the newest entry of the audit: set it; what is "
        "issued meanwhile has wrong dates",
    )


def _revocation_list(fleet: Fleet, now: datetime) -> tuple[str, ...]:
    end = end_of(fleet, LISTS)
    if end - now > CRL_WARNING:
        return ()
    return (
        f"{fleet.folder / 'ca' / LISTS}: {_when(end, now)}, and then the broker lets no board in; run "
        "`hadir-provision broker` and see that the broker gets it",
    )


def _list_of_boards(fleet: Fleet, now: datetime) -> tuple[str, ...]:
    """By the one that they were given last, boards warn whoever asks them."""
    if not (fleet.folder / "ca" / HANDED_OUT).exists() or not fleet.active_devices():
        return ()
    end = end_of(fleet, HANDED_OUT)
    if end - now > CRL_WARNING:
        return ()
    return (
        f"the revocation list that boards were given: {_when(end, now)}; run `hadir-provision broker`, or "
        "`hadir-provision serve` for a moment, while the broker runs",
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
