"""The command `broker`: Mosquitto's files, and Mosquitto itself where it runs here."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from edge.command import Subparsers
from edge.errors import InputError
from provisioning.broker import NAMES
from provisioning.deploy import DEFAULT_CLAIM_PORT, DEFAULT_PORT, BrokerSettings, default_folder, write_broker
from provisioning.fleet import Fleet, open_fleet
from provisioning.mosquitto import run, running
from provisioning.serve import hand_out


def add_commands(commands: Subparsers) -> None:
    """Add it to the command line."""
    broker = commands.add_parser(
        "broker", help="write Mosquitto's files, and have Mosquitto read them where it runs here"
    )
    broker.add_argument("fleet", type=Path, metavar="FLEET")
    broker.add_argument(
        "--host",
        action="append",
        help="name or address that boards connect to; repeatable, the first is told to them; kept from run to run",
    )
    broker.add_argument("--port", type=int, help=f"for boards and servers; at first {DEFAULT_PORT}")
    broker.add_argument("--claim-port", type=int, help=f"for claims; at first {DEFAULT_CLAIM_PORT}")
    broker.add_argument("--bind", metavar="ADDRESS", help="listen on this one address; at first on all")
    broker.add_argument(
        "--folder",
        type=Path,
        help="where the files lie, here and on the broker's machine; at first FLEET/broker",
    )
    broker.add_argument("--run", action="store_true", help="then run Mosquitto, in the foreground")
    broker.set_defaults(act=_broker)


def _broker(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    settings = _settings(fleet, options)
    told = _told(fleet)
    before = _text(Path(settings.folder) / "mosquitto.conf")
    path = write_broker(fleet, settings, int(time.time()))
    print(f"broker {settings.url}, claims at {settings.claim_address}: {path}", flush=True)
    if told not in (None, settings.url):
        print(
            f"boards and servers set up before look for it at {told}: change broker.url in each central.toml, "
            "a board takes the new address with a claim (`hadir-provision renew`)",
            file=sys.stderr,
        )
    found = running(path)
    if options.run:
        if found:
            raise InputError(f"mosquitto runs with {path} already (process {found[0].pid})")
        run(path)
    for one in found:
        if before == _text(path):
            one.reload()
            print(f"mosquitto (process {one.pid}) was told to read its files again")
        else:
            one.restart()
            print(f"mosquitto (process {one.pid}) was restarted: its listeners changed")
    if found:
        print(hand_out(fleet))
    else:
        print(
            f"no mosquitto runs with it on this machine: `hadir-provision broker {fleet.folder} --run` runs it here. "
            f"Elsewhere: copy {', '.join(NAMES)} to {path.parent} there, readable by its user mosquitto alone, make "
            f"{path.parent}/state for it, and start it with `mosquitto -c {path}`, or send it SIGHUP; then "
            "`hadir-provision serve` gives boards the new revocation list"
        )


def _told(fleet: Fleet) -> str | None:
    """The address that boards and servers were given; None where the broker was not set up."""
    try:
        return BrokerSettings.of(fleet).url
    except InputError:
        return None


def _settings(fleet: Fleet, options: argparse.Namespace) -> BrokerSettings:
    """Those of before, with what was said now."""
    try:
        before = BrokerSettings.of(fleet)
    except InputError:
        if not options.host:
            raise
        before = BrokerSettings((), folder=default_folder(fleet))
    return BrokerSettings(
        hosts=tuple(options.host) if options.host else before.hosts,
        port=before.port if options.port is None else options.port,
        claim_port=before.claim_port if options.claim_port is None else options.claim_port,
        bind=before.bind if options.bind is None else options.bind,
        folder=before.folder if options.folder is None else str(options.folder.absolute()),
    )


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
