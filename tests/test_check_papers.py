"""A claimed board at a real broker: what its check says of its keys, its list and the broker, whoever holds its key."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from edge.board.clock import Clock, KernelClock
from edge.check import user
from edge.check.checks import check
from edge.check.findings import Finding, Verdict
from edge.check.show import as_json
from edge.check.user import unsealed_for
from edge.claiming import Places
from edge.trust.protect import CREDENTIAL, SYSTEMD_CREDS, Unsealed, make_key_encryption_key, unseal
from edge.trust.revocations import FILE
from edge.trust.seal import KeyEncryptionKey, Protection
from provisioning.authority import moment, pem
from provisioning.claims import approve, receive_request
from provisioning.handout import HANDED_OUT
from provisioning.link import listener_of, spread
from provisioning.mosquitto import running as running_brokers
from provisioning.serve import at_the_desk, hand_out
from tests.claiming import Board
from tests.fleet_broker import FleetBroker, fleet_broker
from tests.quietly import claimed, desk, new_claim, running, wait_for

DAY_S = 24 * 3600
NOT_AUTHORIZED = 0x87


@pytest.fixture(scope="module")
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as started:
        yield started


def papers(board: Board, unsealed: Unsealed | None = None, *, synced: bool = True) -> dict[str, Finding]:
    """The lines of its check, by name; the board has no camera and no gallery."""
    clock = Clock(kernel=lambda: KernelClock(synchronised=synced, max_error_ms=3), boot="test")
    return {finding.check: finding for finding in check(board.places.config, clock, unsealed)}


# --- a key that systemd holds


@dataclass(frozen=True, slots=True)
class SealedBoard(Board):
    """Its key-encryption key is a credential of systemd."""

    store_of_systemd: Path

    @property
    def kek(self) -> KeyEncryptionKey:
        kek = unseal(self.store_of_systemd).kek
        assert kek is not None
        return kek


@pytest.fixture
def sealed(broker: FleetBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SealedBoard:
    """Sealed by the real systemd-creds, with a host key of the test's own, and claimed."""
    if not SYSTEMD_CREDS.exists():
        pytest.skip(f"{SYSTEMD_CREDS} is not installed (apt install systemd)")
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", str(tmp_path / "host-key"))
    folder = tmp_path / "board"
    folder.mkdir()
    board = SealedBoard(Places(folder / "edge.toml", folder / "state"), tmp_path / "store")
    if make_key_encryption_key(board.places.state_dir, store=board.store_of_systemd) is Protection.FILE:
        pytest.skip("systemd-creds seals nothing on this machine: neither a TPM nor a host key")
    device = f"door-{os.urandom(4).hex()}"
    claim, fleet, now_s = new_claim(broker, device), broker.fleet, int(time.time())
    receive_request(fleet, claim.id, board.request(claim), now_s)
    answer = approve(fleet, claim.id, listener=listener_of(fleet), now_s=now_s).response
    assert answer is not None
    board.install(answer)
    spread(fleet, now_s)
    return board


def test_root_opens_what_systemd_holds_and_tries_the_broker_with_it(sealed: SealedBoard) -> None:
    found = papers(sealed, unseal(sealed.store_of_systemd))
    assert found["broker"].verdict is Verdict.OK, found["broker"]
    assert "accepts MQTT 5 as door-" in found["broker"].found
    assert found["device key"].verdict is Verdict.OK
    assert "ES256, readable by its owner only; " in found["device key"].found
    assert "(key_protection file)" not in found["device key"].found


def test_the_opened_key_is_nowhere_on_the_disk(sealed: SealedBoard, tmp_path: Path) -> None:
    kek = sealed.kek
    papers(sealed, unseal(sealed.store_of_systemd))
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert kek.secret not in content
        assert kek.passphrase() not in content


def test_whoever_is_not_root_is_told_that_the_broker_was_not_tried_and_why(sealed: SealedBoard) -> None:
    found = papers(sealed)
    assert found["broker"].verdict is Verdict.WARNING
    assert (
        "not tried, because only root can open this board's key, which systemd holds" in found["broker"].found
    )
    assert "sudo hadir-edge check" in found["broker"].remedy
    assert "the service manager opens it for the daemon" in found["device key"].found


def test_a_credential_that_does_not_open_is_a_failure_of_the_key(sealed: SealedBoard) -> None:
    """As on a card that was put into another machine."""
    (sealed.store_of_systemd / CREDENTIAL).write_bytes(b"AAAA")
    found = papers(sealed, unseal(sealed.store_of_systemd))
    assert found["device key"].verdict is Verdict.FAILURE
    assert "does not open on this machine" in found["device key"].found
    assert (found["broker"].found, found["broker"].remedy) == ("not looked at", "mend the device key first")


def test_where_nothing_can_open_it_that_is_the_reason(sealed: SealedBoard, tmp_path: Path) -> None:
    missing = tmp_path / "no-systemd-creds"
    found = papers(sealed, unseal(sealed.store_of_systemd, program=missing))
    assert f"and {missing} is not there to open it" in found["broker"].found


def test_only_root_asks_and_only_for_a_board_whose_key_is_sealed(
    sealed: SealedBoard, broker: FleetBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user, "unseal", partial(unseal, sealed.store_of_systemd))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    opened = unsealed_for(sealed.places.config).kek
    assert opened is not None
    assert opened.secret == sealed.kek.secret
    plain = claimed(broker, f"door-{os.urandom(4).hex()}")
    assert unsealed_for(plain.places.config) == Unsealed()
    assert unsealed_for(tmp_path / "none.toml") == Unsealed()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unsealed_for(sealed.places.config) == Unsealed()


# --- the list that comes down


def test_a_board_gets_the_list_from_the_desk_and_its_check_tells_until_when_it_is_good(
    broker: FleetBroker,
) -> None:
    board = claimed(broker, "door-01")
    assert "crl" not in papers(board), "it holds none yet"
    with desk(broker), running(board):
        wait_for((board.places.state_dir / FILE).exists)
    found = papers(board)["crl"]
    assert found.verdict is Verdict.OK
    assert found.found.endswith("this board is not in it")
    (board.places.state_dir / FILE).write_text("damaged")
    found = papers(board)["crl"]
    assert (found.verdict, str(board.places.state_dir / FILE) in found.found) == (Verdict.WARNING, True)


def test_at_an_empty_desk_the_list_is_handed_out_without_any_board_at_all(broker: FleetBroker) -> None:
    board = claimed(broker, "door-02")
    assert "board(s) were given the revocation list until 20" in hand_out(broker.fleet)
    assert (broker.fleet.folder / "ca" / HANDED_OUT).read_bytes() == broker_list(broker)
    with running(board):
        wait_for((board.places.state_dir / FILE).exists)


def broker_list(broker: FleetBroker) -> bytes:
    return (broker.fleet.folder / "ca" / "crl.pem").read_bytes()


def test_whoever_sits_at_the_desk_hands_it_out(broker: FleetBroker) -> None:
    with at_the_desk(broker.fleet) as empty:
        assert empty
        assert "`hadir-provision serve`, which runs, gives boards" in hand_out(broker.fleet)


def test_a_broker_that_may_not_be_written_to_is_told_of_and_the_desk_goes_on(
    broker: FleetBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Its access list is of an earlier version, and was not copied anew."""
    path = Path(broker.settings.folder) / "devices.acl"
    before = path.read_text()
    rule = "topic write hadir/v1/+/down/crl\n"
    assert rule in before
    path.write_text(before.replace(rule, ""))
    (one,) = running_brokers(Path(broker.settings.folder) / "mosquitto.conf")
    one.reload()
    try:
        with broker.client("provision") as peer:
            wait_for(lambda: peer.publish("hadir/v1/door-01/down/crl") == NOT_AUTHORIZED)
        assert "board(s) are still to be given the revocation list until 20" in hand_out(broker.fleet)
        caplog.clear()
        with desk(broker):
            wait_for(lambda: "boards do not get the revocation list" in caplog.text)
            board = claimed(broker, "door-03")
            wait_for(lambda: retained(broker, board))
        assert "(0x87); check its access list: run `hadir-provision broker`" in caplog.text
    finally:
        path.write_text(before)
        one.reload()


def retained(broker: FleetBroker, board: Board) -> bool:
    """Whether the keys document of a board that came later waits for it."""
    with broker.client("door-03") as peer:
        peer.subscribe("hadir/v1/door-03/down/keys")
        return peer.received("hadir/v1/door-03/down/keys")


# --- what the broker says


def test_a_list_that_has_ended_at_the_broker_is_told_with_what_the_administrator_does(
    broker: FleetBroker,
) -> None:
    board = claimed(broker, "door-04")
    ended = broker.fleet.authority().revocation_list([], 900, moment(time.time() - 400 * DAY_S))
    folder = Path(broker.settings.folder)
    (folder / "crl.pem").write_text(pem(ended))
    (one,) = running_brokers(folder / "mosquitto.conf")
    one.reload()
    found = papers(board)["broker"]
    assert found.verdict is Verdict.FAILURE
    assert "the broker's revocation list has ended, which locks out every board" in found.found
    assert found.remedy.startswith("`hadir-provision broker FLEET`, see that the broker gets crl.pem")
    unsure = papers(board, synced=False)["broker"]
    assert "its clock does not tell whether that is over" in unsure.found
    with running(board):
        log = board.places.config.with_name("log")
        wait_for(lambda: "the broker's revocation list has ended" in log.read_text())
    spread(broker.fleet, int(time.time()))
    assert papers(board)["broker"].verdict is Verdict.OK


def test_the_report_for_programs_has_the_line_too(broker: FleetBroker) -> None:
    board = claimed(broker, "door-05")
    (board.places.state_dir / FILE).write_bytes(broker_list(broker))
    clock = Clock(kernel=lambda: KernelClock(synchronised=True, max_error_ms=3), boot="test")
    told = json.loads(as_json(check(board.places.config, clock)))
    assert [line["verdict"] for line in told["checks"] if line["check"] == "crl"] == ["ok"]
