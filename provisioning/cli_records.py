"""Commands that show and name what the registry holds: `list`, `show`, `label`, `audit`."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge.command import Subparsers
from edge.errors import InputError
from provisioning.entries import Device, DeviceKey, Issued
from provisioning.fleet import Fleet, open_fleet

_USER = re.compile(r'//[^\s"]*@')


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    listing = commands.add_parser("list", help="all boards and consumers, a line each")
    listing.set_defaults(act=_list)
    show = commands.add_parser("show", help="everything that is known of a board")
    show.set_defaults(act=_show)
    label = commands.add_parser("label", help="give a board another display name; its id never changes")
    label.set_defaults(act=_label)
    audit = commands.add_parser("audit", help="who did what when, verified")
    audit.set_defaults(act=_audit)
    for parser in (listing, show, label, audit):
        parser.add_argument("fleet", type=Path, metavar="FLEET")
    for parser in (show, label):
        parser.add_argument("device")
    label.add_argument("label", help="such as 'Main entrance'; empty takes it away")
    audit.add_argument(
        "--head", metavar="HASH", help="fail unless this entry, noted earlier, is still in the chain"
    )
    audit.add_argument("--json", action="store_true", help="one JSON object a line")


def state_of(device: Device, keys: tuple[DeviceKey, ...]) -> str:
    """In a word or two, where a board stands."""
    if device.revoked_s is not None:
        return f"revoked {_day(device.revoked_s)}"
    return "active" if any(key.revoked_s is None for key in keys) else "waits for its claim"


def _list(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    for line in _listed(fleet):
        print(line)


def _listed(fleet: Fleet) -> Iterator[str]:
    registry = fleet.registry
    for device in registry.devices():
        keys = registry.device_keys(device.device)
        yield "  ".join(
            (
                f"{device.device:<32}",
                f"{device.site:<12}",
                f"{device.direction:<4}",
                f"{state_of(device, keys):<20}",
                f"{_end_of(registry.certificates(device.device)):<28}",
                device.label,
            )
        ).rstrip()
    for consumer in registry.consumers():
        state = "active" if consumer.revoked_s is None else f"revoked {_day(consumer.revoked_s)}"
        yield f"{consumer.name:<32}  {'consumer':<18}  {state:<20}  {_end_of(registry.certificates(consumer.name))}"


def _end_of(certificates: tuple[Issued, ...]) -> str:
    good = [issued.not_after_s for issued in certificates if issued.revoked_s is None]
    return f"certificate until {_day(max(good))}" if good else "no certificate"


def _show(options: argparse.Namespace) -> None:
    registry = open_fleet(options.fleet).registry
    device = registry.device(options.device)
    keys = registry.device_keys(device.device)
    print(f"{device.device}: {state_of(device, keys)}")
    print(f"  label        {device.label or '-'}")
    print(f"  site         {device.site}, direction {device.direction}")
    print(f"  added        {_time(device.added_s)}")
    if device.settings:
        # Without the password of a network camera.
        print(f"  settings     {re.sub(_USER, '//…@', json.dumps(device.settings))}")
    for key in keys:
        part = f"chain {key.chain} from {key.first_seq or 1}" if key.chain else "no chain yet"
        upto = f" to {key.last_seq}" if key.last_seq else ""
        over = f", revoked {_time(key.revoked_s)}" if key.revoked_s else ""
        print(f"  key          {key.kid}: {part}{upto}, protected by {key.protection or 'unknown'}{over}")
    for issued in registry.certificates(device.device):
        over = f", revoked {_time(issued.revoked_s)}" if issued.revoked_s else ""
        print(f"  certificate  {issued.serial:x} ({issued.role}) until {_day(issued.not_after_s)}{over}")
    for claim in registry.claims(device.device):
        alert = f", ALERT: {claim.alert}" if claim.alert else ""
        print(
            f"  claim        {claim.claim}: {claim.state}, for {claim.purpose}, until {_day(claim.expires_s)}{alert}"
        )


def _label(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    with fleet.change("label", options.device, now_s=int(time.time()), label=options.label) as change:
        change.label(options.device, options.label)
    print(f"{options.device}: {options.label or 'no label'}")


def _audit(options: argparse.Namespace) -> None:
    head, found = "", options.head is None
    for entry in open_fleet(options.fleet).registry.audit():
        if options.json:
            members = {"n": entry.n, "at_s": entry.at_s, "who": entry.who, "action": entry.action}
            print(
                json.dumps(members | {"subject": entry.subject, "detail": entry.detail, "hash": entry.hash})
            )
        else:
            detail = json.dumps(entry.detail, sort_keys=True) if entry.detail else ""
            print(
                f"{entry.n}  {_time(entry.at_s)}  {entry.who}  {entry.action}  {entry.subject}  {detail}".rstrip()
            )
        head = entry.hash
        found = found or entry.hash == options.head
    if not found:
        raise InputError(
            f"audit: no entry has the hash {options.head}: entries were cut off or the registry is another; compare "
            "it with a backup"
        )
    if not options.json:
        print(f"head {head}: note it elsewhere, and ask for it later with --head")


def _day(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}"


def _time(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%SZ}"
