"""Commands about central consumers: `consumer add`, `consumer renew`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edge.command import Subparsers
from provisioning.consumers import DATABASE, add_consumer, renew_consumer
from provisioning.fleet import open_fleet
from provisioning.link import spread


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    consumer = commands.add_parser("consumer", help="servers that receive the events")
    actions = consumer.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a folder that `hadir-central run` starts from")
    renew = actions.add_parser("renew", help="issue another certificate, before the old one ends")
    for parser, act in ((add, _add), (renew, _renew)):
        parser.add_argument("fleet", type=Path, metavar="FLEET")
        parser.add_argument("name", metavar="NAME", help="such as central-1")
        parser.set_defaults(act=act)
    add.add_argument(
        "--database",
        metavar="URL",
        default=DATABASE,
        help="where it stores: sqlite:////FOLDER/central.db or postgresql://[USER@]HOST[:PORT]/NAME, without a "
        "password; default %(default)s, beside its configuration",
    )


def _add(options: argparse.Namespace) -> None:
    fleet, now_s = open_fleet(options.fleet), int(time.time())
    path = add_consumer(fleet, options.name, now_s=now_s, database=options.database)
    spread(fleet, now_s)
    print(f"consumer {options.name}: {path}")
    print(
        f"`hadir-central run --config {path}` runs it here; or copy {path.parent} to the server: its private keys are "
        "for that machine alone"
    )


def _renew(options: argparse.Namespace) -> None:
    folder = renew_consumer(open_fleet(options.fleet), options.name, now_s=int(time.time()))
    print(f"consumer {options.name}: good for two years more; copy {folder} to the server and restart that")
