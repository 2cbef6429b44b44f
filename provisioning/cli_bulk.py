"""The command `device import`: many boards from a CSV file, a claim for each."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge.command import Subparsers, number
from edge.files import write_durably
from provisioning.bulk import COLUMNS, Wanted, read_boards, with_progress
from provisioning.claims import DAY_S, LIFETIME_S, add_device
from provisioning.fleet import Fleet, open_fleet
from provisioning.link import listener_of, spread
from provisioning.serve import CLAIM_FILE


def add_import(actions: Subparsers) -> None:
    """Add it to the actions of `device`."""
    bulk = actions.add_parser("import", help="register the boards of a CSV file and make a claim for each")
    bulk.add_argument("fleet", type=Path, metavar="FLEET")
    bulk.add_argument("file", type=Path, metavar="FILE", help=f"columns: {', '.join(COLUMNS)}")
    bulk.add_argument(
        "--out", type=Path, metavar="FOLDER", help="claims go to FOLDER/DEVICE/; default FLEET/boards"
    )
    bulk.add_argument(
        "--days", type=number, default=LIFETIME_S / DAY_S, help="the claims are good for; default %(default)g"
    )
    bulk.set_defaults(act=_import)


def _import(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    boards = read_boards(options.file, fleet)
    out: Path = options.out or fleet.folder / "boards"
    done: list[str] = []
    try:
        for board in with_progress(boards, len(boards), "boards"):
            _add(fleet, board, out, int(options.days * DAY_S))
            done.append(board.device)
    except BaseException:
        if done:
            _tell_how_far(fleet, done, len(boards))
        raise
    finally:
        if done:
            spread(fleet, int(time.time()))
    print(f"{len(boards)} boards registered; the claim of each is {out}/DEVICE/{CLAIM_FILE}")


def _add(fleet: Fleet, board: Wanted, out: Path, lifetime_s: int) -> None:
    claim = add_device(
        fleet,
        board.device,
        listener=listener_of(fleet),
        now_s=int(time.time()),
        site=board.site,
        direction=board.direction,
        label=board.label,
        settings=board.settings,
        lifetime_s=lifetime_s,
    )
    folder = out / board.device
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(folder / CLAIM_FILE, claim.file.encode())


def _tell_how_far(fleet: Fleet, done: Sequence[str], total: int) -> None:
    """Where it was cut off: what is done stays done."""
    print(
        f"{len(done)} of {total} boards are registered and have their claims, the last is {done[-1]}: leave out their "
        f"lines when you run this again. The one after it may be registered without its claim (`hadir-provision list "
        f"{fleet.folder}`); `hadir-provision renew` makes another",
        file=sys.stderr,
    )
