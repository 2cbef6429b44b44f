"""A blank board, a fleet's desk and a real Mosquitto between them: the whole way of a claim, with the real commands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.config import load_config
from edge.trust.claim import Claim
from edge.trust.identity import load_signing_key
from provisioning.claims import add_device
from provisioning.fleet import Fleet, open_fleet
from provisioning.link import connect, listener_of, spread
from provisioning.registry import ClaimState
from provisioning.serve import Desk
from tests.claiming import Board
from tests.fleet_broker import FleetBroker, fleet_broker

DEADLINE_S = 30.0


@pytest.fixture
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as running:
        yield running


def new_claim(broker: FleetBroker, device: str = "door-01") -> Claim:
    fleet = broker.fleet
    claim = add_device(fleet, device, listener=listener_of(fleet), now_s=int(time.time()))
    spread(fleet, int(time.time()))
    return claim


@contextmanager
def desk(broker: FleetBroker, *, auto: bool) -> Iterator[list[str]]:
    """Somebody at the desk, in a thread with a registry connection of its own; what they are told."""
    told: list[str] = []
    stop = threading.Event()
    errors: list[BaseException] = []
    ready = threading.Event()

    def work() -> None:
        try:
            fleet = open_fleet(broker.fleet.folder)
            try:
                with connect(fleet) as client:
                    ready.set()
                    Desk(fleet, client, listener_of(fleet), auto=auto, tell=told.append).run(stop.is_set)
            finally:
                fleet.registry.close()
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits
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


def edge(*arguments: str | Path, timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def blank(broker: FleetBroker, name: str = "board") -> Board:
    return Board.blank(broker.folder / name)


def claim_file(board: Board, claim: Claim) -> Path:
    path = board.places.config.with_name("hadir-claim.json")
    path.write_text(claim.file)
    return path


def state(fleet: Fleet, claim: Claim) -> ClaimState:
    known = fleet.registry.claim(claim.id)
    assert known is not None
    return known.state


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_board_claims_its_identity_and_uses_the_claim_up(broker: FleetBroker) -> None:
    claim, board = new_claim(broker), blank(broker)
    path = claim_file(board, claim)
    with desk(broker, auto=True) as told:
        done = edge("claim", "--config", board.places.config, "--claim", path)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: state(broker.fleet, claim) is ClaimState.USED)
        wait_for(lambda: any("is used up" in line for line in told))
    assert "this board is door-01" in done.stdout
    assert "the broker has seen its first status" in done.stdout
    assert not path.exists()
    config = load_config(board.places.config)
    (key,) = broker.fleet.registry.device_keys("door-01")
    assert load_signing_key(config.device.key_file, board.kek).kid == key.kid
    for secret in (claim.secret, claim.password):
        assert secret not in done.stdout + done.stderr
    with broker.client("provision") as peer:
        peer.subscribe("hadir/v1/claim/+/request", "hadir/v1/+/up/status")
        assert peer.received("hadir/v1/door-01/up/status")
        assert peer.topics() == ["hadir/v1/door-01/up/status"]
