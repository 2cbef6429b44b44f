"""A blank board, a fleet's desk and a real Mosquitto between them: the whole way of a claim, with the real commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import load_config
from edge.trust.claim import Claim
from edge.trust.identity import load_signing_key
from provisioning.fleet import Fleet
from provisioning.registry import ClaimState
from tests.claiming import Board
from tests.fleet_broker import FleetBroker, fleet_broker
from tests.quietly import desk, edge, new_claim, wait_for


@pytest.fixture
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as running:
        yield running


def claim_file(board: Board, claim: Claim) -> Path:
    path = board.places.config.with_name("hadir-claim.json")
    path.write_text(claim.file)
    return path


def state(fleet: Fleet, claim: Claim) -> ClaimState:
    known = fleet.registry.claim(claim.id)
    assert known is not None
    return known.state


def test_a_board_claims_its_identity_and_uses_the_claim_up(broker: FleetBroker) -> None:
    claim, board = new_claim(broker), Board.blank(broker.folder / "board")
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
