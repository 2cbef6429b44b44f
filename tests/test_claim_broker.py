"""A blank board, a fleet's desk and a real Mosquitto between them: the whole way of a claim, with the real commands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import load_config
from edge.errors import BrokerUnavailable
from edge.trust.admission import Admission
from edge.trust.claim import Claim
from edge.trust.identity import load_signing_key
from edge.uplink.claim import Waiting, _ask_once
from provisioning.claims import approve
from provisioning.cli import main
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet
from provisioning.link import listener_of
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


def test_something_else_in_the_brokers_place_learns_nothing_and_the_board_says_so(
    broker: FleetBroker,
) -> None:
    claim, board = new_claim(broker), Board.blank(broker.folder / "board")
    elsewhere = Claim.parse(claim.file.replace(claim.server, "P" * 22).encode())
    waiting = Waiting(threading.Event(), retry_min_s=0.01)
    asked = board.request(elsewhere)

    def opened(answer: bytes) -> Admission:
        raise AssertionError("nobody answered")

    with pytest.raises(BrokerUnavailable, match="its key is not the one that the claim names"):
        _ask_once(elsewhere, asked, opened, waiting.stop)
    assert claim.id not in (broker.folder / "log").read_text(), "no user name reached it"


def test_a_board_waits_through_refusals_and_is_let_in_when_it_may_be(broker: FleetBroker) -> None:
    claim, board = new_claim(broker), Board.blank(broker.folder / "board")
    log = board.places.config.with_name("log")
    arguments = ["claim", "--config", board.places.config, "--claim", claim_file(board, claim)]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "edge", *map(str, arguments)], stderr=output)
    try:
        wait_for(lambda: "waiting to be approved" in log.read_text())
        with desk(broker) as told:
            wait_for(lambda: any("waits for `approve`" in line for line in told))
            approve(broker.fleet, claim.id, listener=listener_of(broker.fleet), now_s=int(time.time()))
            assert process.wait(30) == 0
            wait_for(lambda: state(broker.fleet, claim) is ClaimState.USED)
    finally:
        process.kill()
        process.wait()


def test_a_stick_leads_to_the_same_as_the_network(broker: FleetBroker) -> None:
    """Files, rights and configuration are alike; keys and certificates are each board's own."""
    boards = []
    for device in ("door-01", "door-02"):
        claim, board = new_claim(broker, device), Board.blank(broker.folder / device)
        path = claim_file(board, claim)
        request, answer = broker.folder / f"{device}.request", broker.folder / f"{device}.answer"
        if device == "door-01":
            asked = edge("request", "--config", board.places.config, "--claim", path, request)
            assert asked.returncode == 0, asked.stderr
            assert not path.exists(), "the stick's claim would be good for whoever finds it"
            again = edge("request", "--config", board.places.config, "--claim", path, request)
            assert again.returncode == 0, again.stderr
            assert main(["sign", str(broker.fleet.folder), str(request), str(answer)]) == 0
            done = edge("install", "--config", board.places.config, answer)
        else:
            with desk(broker, auto=True):
                done = edge("claim", "--config", board.places.config, "--claim", path)
        assert done.returncode == 0, done.stderr
        boards.append(board)
    by_stick, by_network = boards
    for board in boards:
        files = {(p.name, p.stat().st_mode) for p in board.current.folder.iterdir()}
        assert {name for name, _ in files} == {
            *("device.pem", "sealing.pem", "certificate.pem", "ca.pem", "keys.jws", "edge.toml")
        }
        assert {mode & 0o777 for _, mode in files} == {0o600}
        assert not board.places.claim.exists()
    assert by_stick.places.config.read_text().replace("door-01", "door-02") == (
        by_network.places.config.read_text()
    )


def test_an_answer_on_the_wrong_stick_is_refused_and_nothing_changes(broker: FleetBroker) -> None:
    for device in ("door-01", "door-02"):
        claim, board = new_claim(broker, device), Board.blank(broker.folder / device)
        path = claim_file(board, claim)
        request = broker.folder / f"{device}.request"
        assert edge("request", "--config", board.places.config, "--claim", path, request).returncode == 0
        answer = broker.folder / f"{device}.answer"
        assert main(["sign", str(broker.fleet.folder), str(request), str(answer)]) == 0
    done = edge(
        "install", "--config", broker.folder / "door-02" / "edge.toml", broker.folder / "door-01.answer"
    )
    assert done.returncode == 65
    assert "cannot-open" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (broker.folder / "door-02" / "edge.toml").exists()


@pytest.mark.parametrize("content", [b"", b"nothing", b"a.b.c", b"\xff" * 50, b"A" * 20000])
def test_what_is_no_request_is_refused_in_one_line(
    broker: FleetBroker, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    request = broker.folder / "request"
    request.write_bytes(content)
    assert main(["sign", str(broker.fleet.folder), str(request), str(broker.folder / "answer")]) == 65
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not (broker.folder / "answer").exists()
