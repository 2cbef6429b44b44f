"""Commands about people: `enrol`, `remove`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge.command import Subparsers
from edge.config import RecognitionConfig
from provisioning.fleet import open_fleet


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    enrol = commands.add_parser("enrol", help="photographs of a person into the signed gallery")
    enrol.add_argument("fleet", type=Path)
    enrol.add_argument("person", help="an id such as E1042, not a name: it travels in every event")
    enrol.add_argument("photo", type=Path, nargs="+", help="one face each; three or more are best")
    add_models(enrol)
    enrol.set_defaults(act=_enrol)

    remove = commands.add_parser("remove", help="take a person out of the signed gallery")
    remove.add_argument("fleet", type=Path)
    remove.add_argument("person", help="the id under which they were enrolled")
    add_models(remove)
    remove.set_defaults(act=_remove)


def _remove(options: argparse.Namespace) -> None:
    # Imported here, because OpenCV and the models take a while and other commands need neither.
    from edge.assembly import open_eyes  # noqa: PLC0415
    from provisioning.galleries import next_gallery, publish, without_person  # noqa: PLC0415

    fleet = open_fleet(options.fleet)
    eyes = open_eyes(RecognitionConfig(embedder=options.embedder, models_dir=options.models_dir))
    with next_gallery(fleet, eyes) as gallery:
        smaller = without_person(gallery, options.person)
        boards = publish(fleet, smaller, "remove", options.person)
    print(f"removed {options.person}; gallery version {smaller.version}, {len(smaller.people)} people")
    tell_boards(boards)


def _enrol(options: argparse.Namespace) -> None:
    # Imported here, because OpenCV and the models take a while and other commands need neither.
    from edge.assembly import open_eyes  # noqa: PLC0415
    from edge.evaluate.site import MIN_PEOPLE  # noqa: PLC0415
    from provisioning.enrol import enrol  # noqa: PLC0415
    from provisioning.galleries import next_gallery, publish, with_person  # noqa: PLC0415

    fleet = open_fleet(options.fleet)
    eyes = open_eyes(RecognitionConfig(embedder=options.embedder, models_dir=options.models_dir))
    with next_gallery(fleet, eyes) as gallery:
        enrolment = enrol(eyes, options.person, options.photo, gallery)
        grown = with_person(gallery, enrolment.person, enrolment.template)
        boards = publish(
            fleet,
            grown,
            "enrol",
            enrolment.person,
            photos=enrolment.photos,
            replaced=enrolment.to_earlier is not None,
        )
    for photo, earlier in enrolment.repeated.items():
        print(f"{photo}: the same picture as {earlier}; counted once")
    if enrolment.lookalike is not None:
        other, similarity = enrolment.lookalike
        print(
            f"warning: {enrolment.person} looks like {other} (similarity {similarity:.2f}); at the door both will be "
            "treated as ambiguous. Is it the same person under two ids?",
            file=sys.stderr,
        )
    if enrolment.to_earlier is not None:
        print(
            f"{enrolment.person} was enrolled before; these photographs alone count from now on (similarity to the "
            f"earlier ones {enrolment.to_earlier:.2f})"
        )
    print(
        f"enrolled {enrolment.person} from {enrolment.photos} photograph(s), least similarity to their mean "
        f"{enrolment.least_similarity:.2f}; gallery version {grown.version}, {len(grown.people)} people"
    )
    if grown.thresholds is None and len(grown.people) >= MIN_PEOPLE:
        print(
            f"thresholds are still the models' own, measured on strangers to this place: once everybody is enrolled, "
            f"`hadir-provision calibrate {options.fleet}` (where all wear headscarves, a door needs it)"
        )
    tell_boards(boards)


def tell_boards(files: tuple[Path, ...]) -> None:
    """Print where each board's gallery lies now."""
    for path in files:
        print(f"board {path.parent.name}: {path}")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Options of every command that looks at photographs or vectors."""
    embedder = RecognitionConfig().embedder
    parser.add_argument("--embedder", default=embedder, help="default %(default)s")
    parser.add_argument(
        "--models-dir", type=Path, help="a folder with manifest.toml; default: the installed models"
    )
