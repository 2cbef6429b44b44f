"""Root, authority and all fleet keys change without a visit to any door, wherever it is cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from edge import steps
from edge.errors import AlreadyRunning, InputError
from edge.records import Direction
from edge.trust.fleetkeys import load_keys_document
from provisioning import cli_commands
from provisioning.authority import pem
from provisioning.cli import main
from provisioning.commands import give
from provisioning.consumers import add_consumer, is_current
from provisioning.deploy import BrokerSettings, default_folder, write_broker
from provisioning.fleet import KEYS_FILE, Fleet, open_fleet
from provisioning.handover import Handover, Stage, alone, announce, finish, switch, take_over, uncertified
from provisioning.link import spread
from provisioning.serve import reported_keys
from provisioning.steps import FleetStep
from provisioning.unfinished import unfinished
from tests.claiming import NOW_S, new_fleet
from tests.cuts import Cut, cut_once
from tests.fleet_broker import FleetBroker, fleet_broker
from tests.quietly import claimed, desk, running, settled, wait_for
from tests.test_broker import reachable


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = new_fleet(tmp_path / "fleet")
    yield made
    made.registry.close()


def kids(fleet: Fleet, root: str) -> dict[str, set[str]]:
    """By use, the keys that somebody believes who is pinned to this root."""
    found: dict[str, set[str]] = {}
    for key in load_keys_document(fleet.folder / KEYS_FILE, root).listed:
        found.setdefault(key.use, set()).add(key.kid)
    return found


def test_after_a_handover_every_key_is_another_and_the_old_pin_leads_to_the_new_root(fleet: Fleet) -> None:
    old_root, before = fleet.root_thumbprint, kids(fleet, fleet.root_thumbprint)
    assert announce(fleet, NOW_S).version == 2
    announced = kids(fleet, old_root)
    assert all(len(announced[use]) == 2 for use in before)
    assert fleet.signing_key("command").kid in before["command"], "nothing signs with the next keys yet"
    fleet, handover = switch(fleet, {}, NOW_S)
    assert handover.version == 3
    assert fleet.root_thumbprint != old_root
    assert fleet.signing_key("command").kid not in before["command"]
    finish(fleet, {}, NOW_S)
    after = kids(fleet, old_root)
    assert after == kids(fleet, fleet.root_thumbprint)
    assert after["root"] == {fleet.root_thumbprint}
    for use in ("provision", "command", "receipt", "enrol"):
        assert after[use].isdisjoint(before[use])
        assert len(after[use]) == 1
    assert before["gallery"] < after["gallery"], "boards hold galleries that the old key signed"
    assert fleet.keys.authorities == (pem(fleet.certificate("root")),)
    assert Handover.of(fleet).stage is Stage.NONE


@pytest.mark.parametrize("step", list(FleetStep))
def test_wherever_a_handover_is_cut_off_it_goes_on_with_the_same_documents(
    fleet: Fleet, step: FleetStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the points in each stage that passes it; every document that anybody could have seen stays the one."""
    old_root = fleet.root_thumbprint
    seen: dict[int, str] = {1: fleet.keys.hash}
    cut_off: set[Stage] = set()

    def attempt() -> bool:
        """One run of the command, cut off at the step once in each stage; whether it came to the end."""
        again = open_fleet(fleet.folder, ask=lambda: "correct horse battery staple")

        def cut(reached: object) -> None:
            stage = Handover.of(again).stage
            if reached is step and stage not in cut_off:
                cut_off.add(stage)
                raise Cut

        monkeypatch.setattr(steps, "watcher", cut)
        now_s = NOW_S + len(cut_off)
        try:
            if Handover.of(again).stage in (Stage.NONE, Stage.ANNOUNCING):
                announce(again, now_s)
            if Handover.of(again).stage in (Stage.ANNOUNCED, Stage.SWITCHING):
                again, _ = switch(again, {}, now_s)
            finish(again, {}, now_s)
        except Cut:
            return False
        finally:
            again.registry.close()
            held = load_keys_document(fleet.folder / KEYS_FILE, old_root)
            assert seen.setdefault(held.version, held.hash) == held.hash
        return True

    while not attempt():
        pass
    assert len(cut_off) == (3 if step is FleetStep.DECIDED else 1)
    final = load_keys_document(fleet.folder / KEYS_FILE, old_root)
    assert final.version == 4
    assert not list(fleet.folder.rglob("old-*"))
    assert not list(fleet.folder.rglob("next-*"))


def test_no_step_is_taken_before_every_board_is_ready_for_it(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="no next keys are announced"):
        switch(fleet, {}, NOW_S)
    with pytest.raises(InputError, match="no handover is under way"):
        finish(fleet, {}, NOW_S)
    with fleet.change("device-add", "door-01", now_s=NOW_S) as change:
        change.add_device("door-01", "hq", Direction.IN)
        change.add_key("K" * 43, "door-01", {})
        change.add_device("still-in-its-box", "hq", Direction.IN)
    announce(fleet, NOW_S)
    with pytest.raises(InputError, match="door-01: has not taken the announced keys"):
        switch(fleet, {"door-01": 1}, NOW_S)
    assert fleet.refreshed().root_thumbprint == fleet.root_thumbprint
    fleet, _ = switch(fleet, {"door-01": 2}, NOW_S)
    with pytest.raises(InputError, match="door-01: has not taken the new keys"):
        finish(fleet, {"door-01": 2}, NOW_S)


def issuers(fleet: Fleet) -> set[x509.Name]:
    """Of what the broker and its server show."""
    files = ("broker/server.crt", "consumers/central-1/consumer.crt")
    return {x509.load_pem_x509_certificates((fleet.folder / one).read_bytes())[0].issuer for one in files}


def test_a_switch_that_is_cut_off_before_broker_and_servers_have_theirs_goes_on_there(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: they never got any, and when it was finished no board believed the broker."""
    monkeypatch.setenv("HADIR_PASSPHRASE", "correct horse battery staple")
    monkeypatch.setattr(cli_commands, "attend", lambda *_: None)  # no broker runs here
    now_s = int(time.time())
    reachable(fleet.folder)
    write_broker(fleet, BrokerSettings(("broker.local",), folder=default_folder(fleet)), now_s)
    add_consumer(fleet, "central-1", now_s=now_s)
    announce(fleet, now_s)
    fleet, _ = switch(fleet, {}, now_s)
    issuer = fleet.certificate("issuing").subject
    assert issuers(fleet) != {issuer}, "and here it was cut off"
    assert main(["rotate-fleet", str(fleet.folder)]) == 0
    assert issuers(fleet) == {issuer}
    assert is_current(fleet, "central-1")
    before = [issued.serial for issued in fleet.registry.certificates("central-1")]
    assert main(["rotate-fleet", str(fleet.folder), "--finish"]) == 0
    assert issuers(fleet) == {issuer}
    assert [issued.serial for issued in fleet.registry.certificates("central-1")] == before
    assert "finished: keys document 4" in capsys.readouterr().out


def test_a_finish_that_is_cut_off_before_the_broker_was_told_is_told_by_every_command(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: the broker went on trusting the old authority, and nothing said so."""
    monkeypatch.setenv("HADIR_PASSPHRASE", "correct horse battery staple")
    now_s = int(time.time())
    reachable(fleet.folder)
    write_broker(fleet, BrokerSettings(("broker.local",), folder=default_folder(fleet)), now_s)
    announce(fleet, now_s)
    fleet, _ = switch(fleet, {}, now_s)
    take_over(fleet, now_s)
    finish(fleet, {}, now_s)
    trusted = fleet.folder / "broker" / "ca.crt"
    assert trusted.read_text().count("BEGIN") == 4, "and here it was cut off"
    assert main(["list", str(fleet.folder)]) == 0
    assert f"warning: {trusted}: not as the registry has it" in capsys.readouterr().err
    assert main(["broker", str(fleet.folder)]) == 0
    assert trusted.read_text().count("BEGIN") == 2
    assert "not as the registry has it" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (FleetStep.NEXT_MADE, "run `hadir-provision rotate-fleet` again"),
        (FleetStep.NEXT_TAKEN, "run `hadir-provision rotate-fleet` again"),
        (FleetStep.FINISH_PUBLISHED, "run `hadir-provision rotate-fleet --finish` again"),
    ],
)
def test_a_change_of_all_keys_that_is_cut_off_within_a_step_is_told_until_it_is_done(
    fleet: Fleet, step: FleetStep, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_of_it() -> None:
        announce(fleet, NOW_S)
        switched, _ = switch(fleet, {}, NOW_S)
        finish(switched, {}, NOW_S)

    cut_once(monkeypatch, step)
    with pytest.raises(Cut):
        all_of_it()
    (line,) = unfinished(fleet)
    assert line.startswith("a change of all keys was cut off: ")
    assert said in line


def test_of_two_who_change_all_keys_at_once_the_second_is_told_to_wait(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: each announced next keys, the document listed them twice, and no command opened the fleet again."""
    with alone(fleet):
        assert main(["rotate-fleet", str(fleet.folder)]) == AlreadyRunning.exit_code
    assert "another `hadir-provision rotate-fleet` is at work" in capsys.readouterr().err
    assert Handover.of(fleet).stage is Stage.NONE


@pytest.fixture
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as running_one:
        yield running_one


def test_a_board_follows_its_fleet_to_another_root_and_authority(broker: FleetBroker) -> None:
    board, fleet = claimed(broker), broker.fleet
    first = board.current.signing_key().kid
    with desk(broker), running(board):
        wait_for(lambda: reported_keys(fleet) == {"door-01": 1})
        announce(fleet, int(time.time()))
        wait_for(lambda: reported_keys(fleet) == {"door-01": 2})
    fleet, _ = switch(fleet, reported_keys(fleet), int(time.time()))
    write_broker(fleet, BrokerSettings.of(fleet), int(time.time()))
    spread(fleet, int(time.time()))
    assert uncertified(fleet) == ("door-01",)
    with desk(broker):
        with running(board) as process:
            assert process.wait(30) == 0  # told to rotate, and restarted for its new certificate
        with running(board):
            wait_for(lambda: uncertified(fleet) == ())
            wait_for(lambda: reported_keys(fleet) == {"door-01": 3})
            finish(fleet, reported_keys(fleet), int(time.time()))
            spread(fleet, int(time.time()))
            wait_for(lambda: reported_keys(fleet) == {"door-01": 4})
            given = give(fleet, "door-01", "ping", {}, now_s=int(time.time()))
            wait_for(lambda: settled(fleet, given.jti))
    answered = fleet.registry.command(given.jti)
    assert answered is not None
    assert answered.status == "done"
    assert board.current.signing_key().kid != first
    leaf = x509.load_pem_x509_certificates((board.current.folder / "certificate.pem").read_bytes())[0]
    assert leaf.issuer == fleet.certificate("issuing").subject
