"""The command `hadir-provision`: what it can do stands in the modules `provisioning.cli_…`, a group each.

They parse and print; what a command does is a function of another module.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from edge import __version__
from edge.command import carry_out
from provisioning import (
    cli_broker,
    cli_calibrate,
    cli_claims,
    cli_commands,
    cli_consumers,
    cli_fleet,
    cli_people,
    cli_records,
)
from provisioning.expiry import warnings
from provisioning.fleet import open_fleet
from provisioning.unfinished import unfinished
from provisioning.whole import remove_left

GROUPS = (
    cli_fleet,
    cli_broker,
    cli_claims,
    cli_consumers,
    cli_commands,
    cli_people,
    cli_calibrate,
    cli_records,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    options = _parser().parse_args(arguments)
    return carry_out("hadir-provision", lambda: _act(options))


def _act(options: argparse.Namespace) -> int | None:
    """The command, and then what was left undone or ends soon; not of a fleet that is made just now."""
    existed = "fleet" in options and options.fleet.is_dir()
    if "fleet" in options:
        remove_left(options.fleet)
    code: int | None = options.act(options)
    if existed:
        fleet = open_fleet(options.fleet)
        for warning in (*unfinished(fleet), *warnings(fleet, int(time.time()))):
            print(f"warning: {warning}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hadir-provision", description="Fleets, boards and enrolment.")
    parser.add_argument("--version", action="version", version=f"hadir-provision {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
