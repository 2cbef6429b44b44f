"""A board or server that was stolen: out at the broker within seconds, out at the server by its files."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from cryptography import x509

from demo.boards import add_board
from edge.errors import BrokerUnavailable, InputError, KeyFileError
from provisioning import revoke as revoking
from provisioning.cli import main
from provisioning.consumers import add_consumer
from provisioning.fleet import Fleet
from provisioning.keys import PASSPHRASE
from provisioning.link import spread
from provisioning.revoke import cut_off, revoke
from tests.fleet_broker import FleetBroker, Peer, fleet_broker
from tests.test_backup import certified

OFF_WITHIN_S = 5.0
"""The design's bar on the local broker."""
T = "hadir/v1"


@pytest.fixture(scope="module")
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(("door-01", "door-02", "door-03", "door-04")) as started:
        yield started


def test_a_connected_board_is_thrown_off_and_stays_off_while_others_notice_nothing(
    broker: FleetBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    files = broker.certificate("door-01")
    with broker.with_certificate(files) as stolen, broker.client("door-02") as other:
        assert stolen.connected
        began_s = time.monotonic()
        assert main(["revoke", str(broker.fleet.folder), "door-01"]) == 0
        assert stolen.ended(max(0.0, OFF_WITHIN_S - (time.monotonic() - began_s)))
        with broker.with_certificate(files) as again:
            assert not again.connected
        assert other.connected
        assert other.publish(f"{T}/door-02/up/event") in (0, 0x10)
    said = capsys.readouterr().out
    assert "door-01: revoked, with 1 keys and 1 certificates" in said
    assert "its templates count as disclosed" in said
    assert "not let in any more" in said


def test_what_the_broker_kept_of_it_is_cleared(broker: FleetBroker) -> None:
    with broker.client("door-03") as board, broker.client("provision") as provision:
        board.publish(f"{T}/door-03/up/status", b"kept", retain=True)
        for topic in ("keys", "crl"):
            provision.publish(f"{T}/door-03/down/{topic}", b"kept", retain=True)
    revoke(broker.fleet, "door-03", now_s=int(time.time()))
    cut_off(broker.fleet, "door-03", now_s=int(time.time()))
    with broker.client("provision") as reader, broker.client("door-02") as marker:
        reader.subscribe(f"{T}/+/up/status")
        marker.publish(f"{T}/door-02/up/status", b"marker")
        assert reader.received(f"{T}/door-02/up/status")
        assert (f"{T}/door-03/up/status", b"kept") not in reader.messages


def test_its_will_says_nothing_any_more(broker: FleetBroker) -> None:
    add_board(broker.fleet, "door-05")
    stolen = broker.client("door-05", will=(f"{T}/door-05/up/status", b"last words"))
    with broker.client("provision") as reader, stolen:
        assert stolen.connected
        revoke(broker.fleet, "door-05", now_s=int(time.time()))
        with_marker(broker, reader)
    assert (f"{T}/door-05/up/status", b"last words") not in reader.messages


def with_marker(broker: FleetBroker, reader: Peer) -> None:
    reader.subscribe(f"{T}/+/up/status")
    spread(broker.fleet, int(time.time()))
    assert revoking._held(broker.fleet, "door-05", int(time.time()))
    with broker.client("door-02") as marker:
        marker.publish(f"{T}/door-02/up/status", b"marker")
    assert reader.received(f"{T}/door-02/up/status")


def test_a_consumer_is_revoked_as_well_and_its_receipt_key_is_spoken_of(
    broker: FleetBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    add_consumer(broker.fleet, "central-9", now_s=int(time.time()))
    folder = broker.fleet.folder / "consumers" / "central-9"
    with broker.with_certificate((folder / "consumer.crt", folder / "consumer.key")) as stolen:
        assert stolen.connected
        assert main(["revoke", str(broker.fleet.folder), "central-9"]) == 0
        assert stolen.ended(OFF_WITHIN_S)
    assert "it had the key that signs receipts" in capsys.readouterr().out


def test_a_board_that_a_restored_registry_does_not_know_is_denied_by_name(broker: FleetBroker) -> None:
    with broker.client("door-77") as unknown:
        assert unknown.connected
        now_s = int(time.time())
        with pytest.raises(InputError, match=r"door-77.*not in this fleet"):
            revoke(broker.fleet, "door-77", now_s=now_s)
        revoke(broker.fleet, "door-77", now_s=now_s, unregistered=True)
        spread(broker.fleet, now_s)
        deadline_s = time.monotonic() + OFF_WITHIN_S
        denied = False
        while not denied and time.monotonic() < deadline_s:
            denied = unknown.publish(f"{T}/door-77/up/event") == 0x87
        assert denied


def test_revoked_once_more_a_board_with_a_tpm_has_disclosed_nothing(fleet: Fleet) -> None:
    """Regression: `revoke` asks to be run again where the broker is elsewhere, and then told another story."""
    kid = fleet.registry.device_keys("door-01")[0].kid
    with fleet.change("claimed", "door-01", now_s=1) as change:
        change.bind_key(kid, protection="tpm2")
    first = revoke(fleet, "door-01", now_s=1000)
    again = revoke(fleet, "door-01", now_s=2000)
    assert (first.keys, again.keys) == (1, 0)
    assert not first.disclosed
    assert not again.disclosed


def test_a_board_that_comes_back_is_said_to_come_back(
    broker: FleetBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a broker elsewhere, to which nobody has copied the new files."""
    monkeypatch.setattr(revoking, "spread", lambda fleet, now_s: None)
    monkeypatch.setattr(revoking, "_held", lambda fleet, name, now_s: False)
    with pytest.raises(BrokerUnavailable, match=r"door-04 comes back: .* Copy devices\.acl and crl\.pem"):
        cut_off(broker.fleet, "door-04", now_s=int(time.time()))


def test_taking_over_notices_that_somebody_took_the_session_back(broker: FleetBroker) -> None:
    """A thief who is still let in: while the session is held, he connects again and again."""
    files = broker.certificate("door-04")
    told: list[bool] = []
    stop = threading.Event()

    def insist() -> None:
        while not stop.is_set():
            with broker.with_certificate(files) as thief:
                thief.ended(0.3)

    thread = threading.Thread(target=insist)
    thread.start()
    try:
        told.append(revoking._held(broker.fleet, "door-04", int(time.time())))
    finally:
        stop.set()
        thread.join()
    assert told == [False]


def test_the_servers_file_names_the_moment(fleet: Fleet) -> None:
    now_s = 1_764_000_000
    revoke(fleet, "door-01", now_s=now_s)
    fleet.write_devices()
    entries = json.loads((fleet.folder / "devices.jwks").read_text())["keys"]
    assert {entry["device"]: entry["revoked_at"] for entry in entries} == {"door-01": now_s, "door-02": None}


def test_certificates_of_a_revoked_board_are_in_the_list(fleet: Fleet) -> None:
    serial = certified(fleet, "door-01")
    revoke(fleet, "door-01", now_s=1_764_000_000)
    fleet.write_revocation_list(1_764_000_001)
    crl = x509.load_pem_x509_crl((fleet.folder / "ca" / "crl.pem").read_bytes())
    assert serial in {entry.serial_number for entry in crl}


@pytest.mark.parametrize(
    ("protections", "disclosed"),
    [(["file"], True), (["host"], True), (["tpm2"], False), (["tpm2", "host"], True), ([], True)],
)
def test_templates_count_as_disclosed_unless_a_tpm_kept_every_key(
    fleet: Fleet, protections: list[str], disclosed: bool
) -> None:
    add_board(fleet, "door-08")
    for protection in protections[1:]:
        with fleet.change("test", "x", now_s=1) as change:
            change.add_key(f"{protection}-key", "door-08", {}, protection=protection)
    (key, *_) = fleet.registry.device_keys("door-08")
    if protections:
        with fleet.change("test", "x", now_s=1) as change:
            change.bind_key(key.kid, protection=protections[0])
    assert revoke(fleet, "door-08", now_s=2).disclosed is disclosed


@pytest.mark.parametrize("name", ["door-99", "central-9", "provision", "../x"])
def test_what_is_not_there_cannot_be_revoked(fleet: Fleet, name: str) -> None:
    before = [entry.n for entry in fleet.registry.audit()]
    with pytest.raises(InputError):
        revoke(fleet, name, now_s=1)
    assert [entry.n for entry in fleet.registry.audit()] == before


def test_with_another_passphrase_the_registry_is_changed_and_says_so(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Denying somebody needs no key, and must not wait for one."""
    monkeypatch.setenv(PASSPHRASE, "another one altogether")
    assert main(["revoke", str(fleet.folder), "door-01"]) == KeyFileError.exit_code
    assert "door-01 is revoked in the registry only: " in capsys.readouterr().err
    assert fleet.registry.device("door-01").revoked_s is not None


def test_without_a_broker_the_registry_is_changed_and_says_so(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["revoke", str(fleet.folder), "door-01"]) == InputError.exit_code
    assert "door-01 is revoked in the registry only: " in capsys.readouterr().err
    assert fleet.registry.device("door-01").revoked_s is not None
