"""How long three hundred blank boards take to become boards of a fleet: `python -m benchmarks.claims`.

Everything is real: Mosquitto with mutual TLS as `hadir-provision broker` sets it up, the desk
that `hadir-provision serve --auto` runs, and boards that make their keys, write them to disk,
ask, install what they are answered and leave their first status. They are threads here, some
dozens at a time; on site each has a processor of its own.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.run import main, note
from demo.boards import PASSPHRASE
from demo.fleet_broker import fleet_at_broker
from edge.board.clock import Clock
from edge.claiming import Places, claim_identity, forget_claim, keep_claim, prove, take_up
from edge.evaluate.figures import Figure
from edge.trust.claim import Claim
from edge.trust.protect import load_key_encryption_key, make_key_file
from edge.trust.store import IdentityStore
from edge.uplink.claim import Waiting, ask
from provisioning.claims import add_device
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet, open_fleet
from provisioning.link import connect, listener_of, spread
from provisioning.serve import Desk

BOARDS = 300
AT_A_TIME = 24
"""A claim waits for the network most of its time."""


def measure(runs: int) -> Mapping[str, Figure]:
    """From the first board that asks to the last whose claim is used up; making the claims is told apart."""
    adds, totals = [], []
    for run in range(runs):
        note(f"run {run + 1} of {runs}")
        with fleet_at_broker() as fleet, tempfile.TemporaryDirectory(prefix="hadir-boards-") as name:
            begin_s = time.monotonic()
            claims = _claims(fleet)
            adds.append(time.monotonic() - begin_s)
            with _desk(fleet.folder):
                begin_s = time.monotonic()
                _claim_all(claims, Path(name))
                _wait_until_used(fleet)
                totals.append(time.monotonic() - begin_s)
    return {
        "boards": Figure("", (float(BOARDS),)),
        "add_s": Figure("s", tuple(adds)),
        "total_s": Figure("s", tuple(totals)),
    }


def _claims(fleet: Fleet) -> Sequence[Claim]:
    listener, now_s = listener_of(fleet), int(time.time())
    claims = [
        add_device(fleet, f"door-{number:03d}", listener=listener, now_s=now_s) for number in range(BOARDS)
    ]
    spread(fleet, now_s)
    return claims


@contextmanager
def _desk(folder: Path) -> Iterator[None]:
    """In a process of its own, as on site."""
    stop = multiprocessing.get_context("spawn").Event()
    process = multiprocessing.get_context("spawn").Process(target=sit_at_the_desk, args=(folder, stop))
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join()


def sit_at_the_desk(folder: Path, stop: threading.Event) -> None:
    """`hadir-provision serve --auto`, without its signals."""
    fleet = open_fleet(folder, ask=lambda: PASSPHRASE)
    with connect(fleet) as client:
        Desk(fleet, client, listener_of(fleet), auto=True, tell=lambda line: None).run(stop.is_set)


def _claim_all(claims: Sequence[Claim], folder: Path) -> None:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for _ in pool.map(lambda claim: _claim(claim, folder / claim.id), claims):
            pass


def _claim(claim: Claim, folder: Path) -> None:
    """What `hadir-edge claim` does."""
    places, waiting = Places(folder / "edge.toml", folder / "state"), Waiting(threading.Event())
    keep_claim(places, claim.file.encode())
    make_key_file(places.state_dir)
    kek = load_key_encryption_key(places.state_dir, {})
    if kek is None:
        raise RuntimeError("the key-encryption key just made is not there")
    identity = claim_identity(
        places, claim, kek, lambda claim, request, opened: ask(claim, request, opened, waiting)
    )
    if identity is None:
        raise RuntimeError("no answer, although nobody asked to stop")
    take_up(places, IdentityStore(places.state_dir, kek), identity, Clock())
    prove(places, identity, kek, Clock())
    forget_claim(places)


def _wait_until_used(fleet: Fleet) -> None:
    while any(claim.state is not ClaimState.USED for claim in fleet.registry.claims()):
        time.sleep(0.1)


if __name__ == "__main__":
    main("claims", measure)
