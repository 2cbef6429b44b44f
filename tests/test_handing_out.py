"""The commands that register boards: nothing half done by a slip, and what is done is told with what to do next."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from demo.boards import PASSPHRASE
from edge.errors import InputError, KeyFileError
from edge.files import write_durably
from edge.trust.admission import Purpose
from edge.trust.claim import Claim
from provisioning import cli_bulk
from provisioning.claims import add_claim, add_device, approve, receive_request
from provisioning.cli import main
from provisioning.deploy import BrokerSettings, default_folder, write_broker
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet, open_fleet
from provisioning.link import listener_of
from tests.claiming import Board
from tests.test_broker import reachable

NOW_S = 1_764_000_000
SLIP = "a slip of the fingers"


@pytest.fixture
def ready(fleet: Fleet) -> Fleet:
    """A fleet with two boards and a broker that does not run."""
    reachable(fleet.folder)
    write_broker(fleet, BrokerSettings(("broker.local",), folder=default_folder(fleet)), NOW_S)
    return fleet


def passwords(fleet: Fleet) -> str:
    return (fleet.folder / "broker" / "claims.passwd").read_text()


def devices(fleet: Fleet) -> list[str]:
    return [device.device for device in fleet.registry.devices()]


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--qr", "door.gif"), 65, "a QR code is written as .svg or .png"),
        (("--qr", "/no/such/place/door.png"), 65, "there is no folder /no/such/place"),
        (("--file", "/no/such/place/claim.json"), 65, "is the card or stick mounted?"),
        (("--camera", "replay"), 65, "name what it plays with --source"),
        (("--days", "0"), 65, "a claim lives for a minute"),
        (("--days", "nan"), 2, "invalid number value: 'nan'"),
        (("--days", "inf"), 2, "invalid number value: 'inf'"),
    ],
)
def test_a_slip_registers_nothing(
    ready: Fleet, options: tuple[str, ...], code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: the board was registered, its claim lost, and the same command then refused."""
    before = devices(ready)
    try:
        assert main(["device", "add", str(ready.folder), "door-09", *options]) == code
    except SystemExit as ended:
        assert ended.code == code
    assert why in capsys.readouterr().err
    assert devices(ready) == before
    assert not Path("/no").exists()


@pytest.mark.parametrize("command", [("device", "add"), ("renew",), ("replace",)])
def test_another_passphrase_makes_no_claim(
    ready: Fleet,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Regression: it made one that could never be answered, and cancelled the one before."""
    assert main(["device", "add", str(ready.folder), "door-09"]) == 0
    before = devices(ready), ready.registry.claims()
    monkeypatch.setenv("HADIR_PASSPHRASE", SLIP)
    device = "door-10" if command[0] == "device" else "door-09"
    assert main([*command, str(ready.folder), device]) == KeyFileError.exit_code
    assert "does not open; the passphrase is another" in capsys.readouterr().err
    assert (devices(ready), ready.registry.claims()) == before


def test_the_registry_is_not_held_while_somebody_types_the_passphrase(ready: Fleet) -> None:
    def typing() -> str:
        with ready.change("meanwhile", "another command", now_s=NOW_S):
            pass
        return PASSPHRASE

    slow = open_fleet(ready.folder, ask=typing)
    try:
        add_device(slow, "door-09", listener=listener_of(slow), now_s=NOW_S)
    finally:
        slow.registry.close()
    assert "door-09" in devices(ready)


def test_a_claim_that_cannot_be_written_is_told_with_the_way_to_another(
    ready: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "hadir-claim.json"
    taken.mkdir()
    assert main(["device", "add", str(ready.folder), "door-09", "--file", str(taken)]) == 65
    said = capsys.readouterr().err
    assert "door-09 is registered, but its claim cannot be handed out" in said
    assert f"`hadir-provision renew {ready.folder} door-09`" in said
    assert main(["device", "add", str(ready.folder), "door-09"]) == InputError.exit_code
    assert "`hadir-provision renew`" in capsys.readouterr().err
    assert main(["renew", str(ready.folder), "door-09"]) == 0
    claim = Claim.parse((ready.folder / "boards" / "door-09" / "hadir-claim.json").read_bytes())
    assert f"{claim.id}:" in passwords(ready)


def test_an_import_that_is_cut_off_tells_how_far_it_came_and_lets_those_in(
    ready: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: the broker was not told of the boards before Ctrl-C, and nobody which they were."""
    path = tmp_path / "boards.csv"
    path.write_text("device\n" + "".join(f"gate-{n}\n" for n in range(5)))

    def write(path: Path, content: bytes) -> None:
        if "gate-3" in str(path):
            raise KeyboardInterrupt
        write_durably(path, content)

    monkeypatch.setattr(cli_bulk, "write_durably", write)
    assert main(["device", "import", str(ready.folder), str(path)]) == 130
    assert "3 of 5 boards are registered and have their claims, the last is gate-2" in capsys.readouterr().err
    for device in ("gate-0", "gate-1", "gate-2"):
        (claim,) = ready.registry.claims(device)
        assert f"{claim.claim}:" in passwords(ready)


def test_boards_are_approved_together_or_not_at_all_and_the_server_knows_them(
    ready: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: a second name that did not wait left the first approved, and unknown to the server."""
    assert main(["device", "add", str(ready.folder), "door-09"]) == 0
    claim = Claim.parse((ready.folder / "boards" / "door-09" / "hadir-claim.json").read_bytes())
    board = Board.blank(tmp_path / "board")
    (waiting,) = ready.registry.claims("door-09")
    receive_request(ready, claim.id, board.request(claim), waiting.made_s)
    assert main(["approve", str(ready.folder), "door-09", "door-01"]) == InputError.exit_code
    assert "door-01: does not wait to be approved" in capsys.readouterr().err
    (waiting,) = ready.registry.claims("door-09")
    assert waiting.state is ClaimState.PENDING
    assert main(["approve", str(ready.folder), "door-09"]) == 0
    (key,) = ready.registry.device_keys("door-09")
    assert key.kid in (ready.folder / "devices.jwks").read_text()


def test_an_alert_is_pending_until_the_board_came_by_another_claim(
    ready: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: it was told for ever, and whoever reads the same alert every day reads none."""
    listener, folder = listener_of(ready), str(ready.folder)
    first = add_device(ready, "door-09", listener=listener, now_s=NOW_S)
    receive_request(ready, first.id, Board.blank(tmp_path / "one").request(first), NOW_S)
    receive_request(ready, first.id, Board.blank(tmp_path / "two").request(first), NOW_S)
    second = add_claim(ready, "door-09", Purpose.RENEW, listener=listener, now_s=NOW_S + 1)
    assert main(["pending", folder]) == 0
    assert "ALERT door-09" in capsys.readouterr().out
    with ready.change("arrived", "door-09", now_s=NOW_S) as change:
        change.update_claim(second.id, ClaimState.USED)
    assert main(["pending", folder]) == 0
    assert capsys.readouterr().out == "no board waits\n"
    assert main(["show", folder, "door-09"]) == 0
    assert "ALERT" in capsys.readouterr().out


def test_a_cameras_password_is_not_shown(ready: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    source = "rtsp://admin:words@192.0.2.9/door"
    added = ["device", "add", str(ready.folder), "door-09", "--camera", "replay", "--source", source]
    assert main(added) == 0
    assert main(["show", str(ready.folder), "door-09"]) == 0
    said = capsys.readouterr().out
    assert "rtsp://…@192.0.2.9/door" in said
    assert "words" not in said


def test_what_is_no_request_is_named(
    ready: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: it said "malformed: header", and not of what."""
    (tmp_path / "odd").write_bytes(b"{}")
    assert main(["sign", str(ready.folder), str(tmp_path / "odd"), str(tmp_path / "answer")]) == 65
    assert f"{tmp_path / 'odd'}: not to be believed: malformed" in capsys.readouterr().err


def test_a_claim_of_a_board_that_is_revoked_meanwhile_is_not_approved(ready: Fleet, tmp_path: Path) -> None:
    listener = listener_of(ready)
    add_device(ready, "door-09", listener=listener, now_s=NOW_S)
    claim = add_claim(ready, "door-09", Purpose.RENEW, listener=listener, now_s=NOW_S)
    receive_request(ready, claim.id, Board.blank(tmp_path / "board").request(claim), NOW_S)
    with ready.change("revoke", "door-09", now_s=NOW_S) as change:
        change.revoke_device("door-09")
        change.update_claim(
            claim.id, ClaimState.PENDING
        )  # made just after, by a command that had looked before
    with pytest.raises(InputError, match="door-09: was revoked"):
        approve(ready, claim.id, listener=listener, now_s=NOW_S)
    assert ready.registry.device_keys("door-09") == ()


def test_nothing_is_made_that_others_may_write_into(
    ready: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: with umask 000, the folder of the consumers' keys let everybody put others in their place."""
    mask = os.umask(0)
    try:
        assert main(["consumer", "add", str(ready.folder), "central-1"]) == 0
        os.umask(0)
        assert main(["backup", str(ready.folder), str(tmp_path / "backup")]) == 0
        os.umask(0)
        assert main(["restore", str(tmp_path / "backup"), str(tmp_path / "new" / "fleet")]) == 0
    finally:
        os.umask(mask)
    for folder in (ready.folder, tmp_path / "new"):
        open_to_others = [path for path in folder.rglob("*") if path.stat().st_mode & 0o022]
        assert open_to_others == []
    assert (ready.folder / "consumers").stat().st_mode & 0o077 == 0


def test_a_restored_fleet_beside_the_living_one_leaves_its_broker_alone(ready: Fleet, tmp_path: Path) -> None:
    """Regression: it wrote its claims, and who was not revoked yet, into the files of the broker that runs."""
    assert main(["backup", str(ready.folder), str(tmp_path / "backup")]) == 0
    assert main(["device", "add", str(ready.folder), "door-09"]) == 0
    before = passwords(ready)
    again = tmp_path / "again"
    assert main(["restore", str(tmp_path / "backup"), str(again)]) == 0
    assert main(["device", "add", str(again), "door-10"]) == 0
    assert passwords(ready) == before
    restored = open_fleet(again)
    assert BrokerSettings.of(restored).folder == str(again / "broker")
    assert "".join(f"{c.claim}:" for c in restored.registry.claims("door-10")) in passwords(restored)
    restored.registry.close()


def test_a_brokers_folder_that_is_gone_is_named(ready: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(ready.folder / "broker")
    assert main(["consumer", "add", str(ready.folder), "central-1"]) == InputError.exit_code
    assert (
        "the broker's folder is not there; make it anew with `hadir-provision broker"
        in capsys.readouterr().err
    )
