"""The command `hadir-edge`: parses and prints; what it does is a function of another module."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge import __version__
from edge.board.alone import alone_on
from edge.claim_cli import DEFAULT_CONFIG
from edge.claim_cli import add_commands as add_claiming
from edge.command import carry_out
from edge.config import load_config
from edge.errors import GalleryError, InputError, ModelError
from edge.evaluate.cli import add_commands as add_evaluation


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    return carry_out("hadir-edge", lambda: options.act(options))


def _run(options: argparse.Namespace) -> None:
    from edge.assembly import tell_refused  # noqa: PLC0415 - --help and --version need no models
    from edge.service import Service  # noqa: PLC0415

    config = load_config(options.config)
    with alone_on(config.device.state_dir):
        try:
            service = Service(config, options.config)
        except (ModelError, GalleryError) as error:
            tell_refused(config, error)
            raise
        service.run()


def _check(options: argparse.Namespace) -> int:
    from edge.check.checks import check, exit_code  # noqa: PLC0415 - as above
    from edge.check.show import as_json, as_text, wants_colour  # noqa: PLC0415
    from edge.check.user import become_the_daemons_user, unsealed_for  # noqa: PLC0415

    unsealed = unsealed_for(options.config)
    become_the_daemons_user(options.config)
    findings = check(options.config, unsealed=unsealed)
    print(
        as_json(findings) if options.json else as_text(findings, colour=wants_colour(sys.stdout, os.environ))
    )
    return exit_code(findings)


def _resend(options: argparse.Namespace) -> None:
    from edge.check.user import become_the_daemons_user  # noqa: PLC0415
    from edge.uplink.outbox import Outbox  # noqa: PLC0415

    become_the_daemons_user(options.config)
    path = load_config(options.config).device.state_dir / "outbox.db"
    if not path.exists():
        raise InputError(f"{path}: there is no outbox; the daemon makes it when it first starts")
    with Outbox(path) as outbox:
        wanted = outbox.ask_resend(options.from_seq)
        chain = outbox.head().chain
    print(
        f"seq {wanted.from_seq} to {wanted.to_seq} of chain {chain}: sent again as soon as the daemon is connected"
    )


def _replay(options: argparse.Namespace) -> None:
    from edge.replay import show  # noqa: PLC0415 - as above

    config = None if options.config is None else load_config(options.config)
    show(config, options.file, options.annotate, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hadir-edge", description="Face attendance at one door.")
    parser.add_argument("--version", action="version", version=f"hadir-edge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="watch the door until stopped")
    run.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default {DEFAULT_CONFIG}")
    run.set_defaults(act=_run)
    check = commands.add_parser("check", help="say what is wrong with this board; changes nothing")
    check.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default {DEFAULT_CONFIG}")
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(act=_check)
    resend = commands.add_parser(
        "resend", help="have events sent again, out of the archive where they were acknowledged"
    )
    resend.add_argument(
        "--from",
        dest="from_seq",
        metavar="SEQ",
        type=int,
        required=True,
        help="the first; all after it follow",
    )
    resend.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default {DEFAULT_CONFIG}")
    resend.set_defaults(act=_resend)
    replay = commands.add_parser(
        "replay", help="tell what becomes of everybody in a recording; sends nothing"
    )
    replay.add_argument("file", metavar="FILE", help="a video, GIF, picture or folder of pictures")
    replay.add_argument("--config", type=Path, metavar="FILE", help="a board's; without it nobody is known")
    replay.add_argument(
        "--annotate", type=Path, metavar="OUT", help="write the clip, drawn on: *.avi or *.mp4"
    )
    replay.add_argument("--json", action="store_true", help="a line of JSON for each track")
    replay.set_defaults(act=_replay)
    add_claiming(commands)
    add_evaluation(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
