"""The command `calibrate`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from edge.command import Subparsers
from edge.config import DecideConfig, RecognitionConfig
from provisioning.cli_people import add_models, tell_boards
from provisioning.fleet import open_fleet

SUMMARY = "thresholds from the gallery's own people, and who of them is too alike"

DESCRIPTION = """\
Measure how alike the enrolled people are, list who could be taken for whom, and write the thresholds
that follow into the signed gallery. To be done again after more people were enrolled."""


def add_commands(commands: Subparsers) -> None:
    """Add it to the command line."""
    calibrate = commands.add_parser("calibrate", help=SUMMARY, description=DESCRIPTION)
    calibrate.add_argument("fleet", type=Path)
    calibrate.add_argument(
        "--fpir-target",
        type=_share,
        default=DecideConfig().fpir_target,
        metavar="SHARE",
        help="of strangers that may pass as somebody, as in the boards' configuration; default %(default)s",
    )
    calibrate.add_argument(
        "--strangers",
        type=Path,
        metavar="FOLDER",
        help="person/image of people who are not to be recognised, such as a visitor whom a door took for "
        "an employee: whom they resemble needs more from now on; nothing of them is kept",
    )
    calibrate.add_argument(
        "--lookalikes-only",
        action="store_true",
        help="leave the general threshold; for fewer people than it needs",
    )
    calibrate.add_argument("--dry-run", action="store_true", help="print, and write nothing")
    add_models(calibrate)
    calibrate.set_defaults(act=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    # Imported here, because OpenCV and the models take a while and other commands need neither.
    from edge.assembly import open_eyes  # noqa: PLC0415
    from provisioning.calibrate import calibrate, embed_strangers, entry, report  # noqa: PLC0415
    from provisioning.galleries import next_gallery, publish  # noqa: PLC0415

    fleet = open_fleet(options.fleet)
    eyes = open_eyes(RecognitionConfig(embedder=options.embedder, models_dir=options.models_dir))
    strangers = [] if options.strangers is None else embed_strangers(eyes, options.strangers)
    with next_gallery(fleet, eyes) as gallery:
        calibration = calibrate(
            gallery,
            eyes.spec.thresholds,
            options.fpir_target,
            strangers,
            lookalikes_only=options.lookalikes_only,
        )
        print(report(calibration))
        boards = (
            () if options.dry_run else publish(fleet, calibration.gallery, "calibrate", **entry(calibration))
        )
    if options.dry_run:
        print("nothing was written")
    tell_boards(boards)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.0001 <= share <= 0.5:  # noqa: PLR2004 - as in the configuration
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0.0001 to 0.5")
    return share
