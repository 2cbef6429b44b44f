"""The command `hadir-provision`: parses and prints; what it does is a function of another module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge import __version__
from edge.command import carry_out
from edge.config import CAMERA_KINDS, RecognitionConfig
from edge.errors import InputError
from edge.records import Direction
from provisioning.boards import board_config, check_board_config, write_board_config
from provisioning.keys import init_fleet, open_fleet


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that `edge.errors` documents."""
    options = _parser().parse_args(arguments)
    return carry_out("hadir-provision", lambda: options.act(options))


def _init(options: argparse.Namespace) -> None:
    if options.source and options.camera != "replay":
        raise InputError(
            f"--source belongs to --camera replay, not to {options.camera}; leave one of them out"
        )

    def configured(device: str, root_thumbprint: str) -> str:
        return board_config(
            device=device,
            site=options.site,
            root_thumbprint=root_thumbprint,
            direction=options.direction,
            broker_url=options.broker,
            camera=options.camera,
            sources=options.source,
            state_dir=options.state_dir,
        )

    for device in options.device:
        # What a board would refuse is refused before any key is made.
        check_board_config(configured(device, root_thumbprint="0" * 43))
    fleet = init_fleet(options.fleet, site=options.site, devices=options.device)
    written = [
        write_board_config(folder, configured(folder.name, fleet.root_thumbprint))
        for folder in fleet.boards()
    ]
    print(
        f"fleet {fleet.folder} for site {fleet.site}: keys made; the private ones stay in {fleet.folder / 'keys'}"
    )
    for path in written:
        print(f"board {path.parent.name}: {path}")


def _remove(options: argparse.Namespace) -> None:
    # Imported here, because OpenCV and the models take a while and other commands need neither.
    from edge.assembly import open_eyes  # noqa: PLC0415
    from provisioning.galleries import current_gallery, publish, without_person  # noqa: PLC0415

    fleet = open_fleet(options.fleet)
    eyes = open_eyes(RecognitionConfig(embedder=options.embedder, models_dir=options.models_dir))
    smaller = without_person(current_gallery(fleet, eyes), options.person)
    boards = publish(fleet, smaller)
    print(f"removed {options.person}; gallery version {smaller.version}, {len(smaller.people)} people")
    for path in boards:
        print(f"board {path.parent.name}: {path}")


def _enrol(options: argparse.Namespace) -> None:
    # Imported here, because OpenCV and the models take a while and other commands need neither.
    from edge.assembly import open_eyes  # noqa: PLC0415
    from provisioning.enrol import enrol  # noqa: PLC0415
    from provisioning.galleries import current_gallery, publish, with_person  # noqa: PLC0415

    fleet = open_fleet(options.fleet)
    eyes = open_eyes(RecognitionConfig(embedder=options.embedder, models_dir=options.models_dir))
    gallery = current_gallery(fleet, eyes)
    enrolment = enrol(eyes, options.person, options.photo, gallery)
    if enrolment.lookalike is not None:
        other, similarity = enrolment.lookalike
        print(
            f"warning: {enrolment.person} looks like {other} (similarity {similarity:.2f}); at the door both will be "
            "treated as ambiguous. Is it the same person under two ids?",
            file=sys.stderr,
        )
    grown = with_person(gallery, enrolment.person, enrolment.template)
    boards = publish(fleet, grown)
    print(
        f"enrolled {enrolment.person} from {enrolment.photos} photograph(s), least similarity to their mean "
        f"{enrolment.least_similarity:.2f}; gallery version {grown.version}, {len(grown.people)} people"
    )
    for path in boards:
        print(f"board {path.parent.name}: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hadir-provision", description="Fleets, boards and enrolment.")
    parser.add_argument("--version", action="version", version=f"hadir-provision {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make a fleet's keys and a folder for each board")
    init.add_argument("fleet", type=Path, help="a folder that does not exist yet")
    init.add_argument("--site", required=True, help="the site that all boards belong to, such as hq")
    init.add_argument(
        "--device", action="append", required=True, help="a board's id, such as door-01; repeatable"
    )
    init.add_argument("--broker", default="mqtt://127.0.0.1:1883", help="default %(default)s")
    init.add_argument("--direction", type=Direction, choices=list(Direction), default=Direction.BOTH)
    init.add_argument("--camera", choices=CAMERA_KINDS, default="replay", help="default %(default)s")
    init.add_argument(
        "--source",
        action="append",
        default=[],
        help="for replay: a clip, a folder or an rtsp:// URL; repeatable",
    )
    init.add_argument(
        "--state-dir", help="where the board keeps its outbox; default: state/ beside edge.toml"
    )
    init.set_defaults(act=_init)

    enrol = commands.add_parser("enrol", help="photographs of a person into the signed gallery")
    enrol.add_argument("fleet", type=Path)
    enrol.add_argument("person", help="an id such as E1042, not a name: it travels in every event")
    enrol.add_argument("photo", type=Path, nargs="+", help="one face each; three or more are best")
    _add_models(enrol)
    enrol.set_defaults(act=_enrol)

    remove = commands.add_parser("remove", help="take a person out of the signed gallery")
    remove.add_argument("fleet", type=Path)
    remove.add_argument("person", help="the id under which they were enrolled")
    _add_models(remove)
    remove.set_defaults(act=_remove)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    embedder = RecognitionConfig().embedder
    parser.add_argument("--embedder", default=embedder, help="default %(default)s")
    parser.add_argument(
        "--models-dir", type=Path, help="a folder with manifest.toml; default: the installed models"
    )


if __name__ == "__main__":
    sys.exit(main())
