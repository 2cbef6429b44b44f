"""Commands about the fleet as a whole: `init`."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.command import Subparsers
from provisioning.fleet import DEFAULT_SITE, init_fleet
from provisioning.keys import choose_passphrase


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    init = commands.add_parser("init", help="make a fleet: its keys, its authority, its registry")
    init.add_argument("fleet", type=Path, metavar="FLEET", help="a folder that does not exist yet")
    init.add_argument(
        "--site", default=DEFAULT_SITE, help="of boards that name none, such as hq; default %(default)s"
    )
    init.set_defaults(act=_init)


def _init(options: argparse.Namespace) -> None:
    fleet = init_fleet(options.fleet, site=options.site, ask=choose_passphrase)
    print(f"fleet {fleet.folder}: root key {fleet.root_thumbprint}")
    print(f"carry {fleet.folder / 'offline'} away: everyday work needs nothing of it")
