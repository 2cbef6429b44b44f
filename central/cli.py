"""The command `hadir-central`: parses and prints; what it does is a function of another module."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from central.cli_store import add_commands
from central.consume import BrokerAddress
from central.listen import listen
from central.registry import load_registry
from central.run import run
from edge import __version__
from edge.command import carry_out

DEFAULT_CONFIG = Path("/etc/hadir/central.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # each command looks at the schema
    return carry_out("hadir-central", lambda: options.act(options))


def _run(options: argparse.Namespace) -> None:
    run(options.config)


def _listen(options: argparse.Namespace) -> None:
    registry = load_registry(options.devices)
    broker = BrokerAddress(
        options.broker, options.client_id, options.ca_file, options.cert_file, options.private_key_file
    )
    listen(broker, registry, join=options.join, as_json=options.json, count=options.count)


def _positive(text: str) -> int:
    """A count for which something must arrive: with 0, a script would take nothing at all for success."""
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hadir-central", description="Receives and verifies attendance events."
    )
    parser.add_argument("--version", action="version", version=f"hadir-central {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    running = commands.add_parser("run", help="store, prove and receipt events until stopped")
    running.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default {DEFAULT_CONFIG}")
    running.set_defaults(act=_run)
    look = commands.add_parser(
        "listen", help="print each event as it arrives and was verified; stores nothing"
    )
    look.add_argument("--broker", required=True, help="mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    look.add_argument("--devices", type=Path, required=True, help="devices.jwks of the fleet")
    look.add_argument("--client-id", default="central-1", help="default %(default)s")
    look.add_argument("--ca-file", type=Path, help="for mqtts://: who signed the broker's certificate")
    look.add_argument("--cert-file", type=Path, help="this consumer's certificate")
    look.add_argument("--private-key-file", type=Path, help="its private key")
    look.add_argument("--json", action="store_true", help="one JSON object a line")
    look.add_argument(
        "--join", action="store_true", help="begin each chain at the first event seen, not at its beginning"
    )
    look.add_argument("--count", type=_positive, help="stop after so many verified attendances")
    look.set_defaults(act=_listen)
    add_commands(commands, DEFAULT_CONFIG)
    return parser


if __name__ == "__main__":
    sys.exit(main())
