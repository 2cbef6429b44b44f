"""The command `device import`: many boards from a CSV file, a claim for each."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edge.command import Subparsers
from edge.files import write_durably
from provisioning.bulk import COLUMNS, read_boards, with_progress
from provisioning.claims import DAY_S, LIFETIME_S, add_device
from provisioning.fleet import open_fleet
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
        "--days", type=float, default=LIFETIME_S / DAY_S, help="the claims are good for; default %(default)g"
    )
    bulk.set_defaults(act=_import)


def _import(options: argparse.Namespace) -> None:
    fleet, now_s = open_fleet(options.fleet), int(time.time())
    listener = listener_of(fleet)
    boards = read_boards(options.file, fleet)
    out: Path = options.out or fleet.folder / "boards"
    for board in with_progress(boards, len(boards), "boards"):
        claim = add_device(
            fleet,
            board.device,
            listener=listener,
            now_s=now_s,
            site=board.site,
            direction=board.direction,
            label=board.label,
            settings=board.settings,
            lifetime_s=int(options.days * DAY_S),
        )
        folder = out / board.device
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(folder / CLAIM_FILE, claim.file.encode())
    spread(fleet, int(time.time()))
    print(f"{len(boards)} boards registered; the claim of each is {out}/DEVICE/{CLAIM_FILE}")
