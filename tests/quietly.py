"""A claimed board without eyes at a real broker, and somebody at the fleet's desk."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.trust.claim import Claim
from provisioning.claims import add_device, approve, receive_request
from provisioning.fleet import Fleet, open_fleet
from provisioning.link import connect, listener_of, spread
from provisioning.serve import Desk
from tests.claiming import Board
from tests.fleet_broker import FleetBroker

DEADLINE_S = 90.0


def new_claim(broker: FleetBroker, device: str = "door-01") -> Claim:
    """A board that is registered, and its claim; the broker knows."""
    fleet = broker.fleet
    claim = add_device(fleet, device, listener=listener_of(fleet), now_s=int(time.time()))
    spread(fleet, int(time.time()))
    return claim


def claimed(broker: FleetBroker, device: str = "door-01") -> Board:
    """A board that has come to its identity, by a stick."""
    fleet, claim, board = broker.fleet, new_claim(broker, device), Board.blank(broker.folder / device)
    board.places.config.write_text("[events]\ndrain_s = 0.5\n")  # nobody here sends receipts to wait for
    receive_request(fleet, claim.id, board.request(claim), int(time.time()))
    answer = approve(fleet, claim.id, listener=listener_of(fleet), now_s=int(time.time())).response
    assert answer is not None
    board.install(answer)
    spread(fleet, int(time.time()))
    return board


@contextmanager
def desk(broker: FleetBroker, *, auto: bool = False) -> Iterator[list[str]]:
    """Somebody at the desk, in a thread with a registry connection of its own; what they are told."""
    told: list[str] = []
    stop, ready = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            fleet = open_fleet(broker.fleet.folder)
            try:
                with connect(fleet) as client:
                    ready.set()
                    Desk(fleet, client, listener_of(fleet), auto=auto, tell=told.append).run(stop.is_set)
            finally:
                fleet.registry.close()
        except BaseException as error:  # noqa: BLE001 - shown where the test waits
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield told
    finally:
        stop.set()
        thread.join()
        assert not errors, errors


@contextmanager
def running(board: Board, *, clock: str = "good") -> Iterator[subprocess.Popen[bytes]]:
    """The board's process, which ends where a command restarts it, and is stopped at the end."""
    log = board.places.config.with_name("log")
    with log.open("ab") as output, subprocess.Popen(command(board, clock), stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def command(board: Board, clock: str) -> list[str]:
    """What runs a board."""
    return [sys.executable, "-m", "torture.quiet", "--config", str(board.places.config), "--clock", clock]


def log_of(board: Board) -> str:
    """What the board's processes have said."""
    return board.places.config.with_name("log").read_text()


def edge(*arguments: str | Path, timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    """`hadir-edge` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "edge", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it is so; fails where it takes too long."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.05)


def settled(fleet: Fleet, jti: str) -> bool:
    """Whether a board has answered a command."""
    given = fleet.registry.command(jti)
    return given is not None and given.status is not None
