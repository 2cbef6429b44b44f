"""A fleet in one encrypted file and back; a restored fleet gives no number out again and lets nobody in again."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from central.registry import load_registry
from demo.boards import PASSPHRASE, add_board, make_fleet
from edge.errors import AlreadyRunning, InputError, KeyFileError
from provisioning.authority import Role, moment, pem
from provisioning.backup import MARGIN, Restored, back_up, restore
from provisioning.broker import device_access
from provisioning.cli import main
from provisioning.fleet import CRL_NUMBER, GALLERY_VERSION, KEYS_VERSION, Fleet
from provisioning.handover import alone

NOW_S = 1_764_000_000
LATER_S = NOW_S + 5000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.backup"


def restored(
    path: Path, *, now_s: int = LATER_S, passphrase: str = PASSPHRASE, broker: Path | None = None
) -> Restored:
    return restore(path, path.parent / "again", ask=lambda: passphrase, now_s=now_s, broker=broker)


def certified(fleet: Fleet, device: str) -> int:
    """Give a board a certificate; its serial number."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    certificate = fleet.authority().issue_device(public, device, moment(NOW_S))
    with fleet.change("certificate", device, now_s=NOW_S) as change:
        change.add_certificate(certificate, Role.DEVICE, device)
    return certificate.serial_number


def revoked_serials(fleet: Fleet) -> set[int]:
    crl = x509.load_pem_x509_crl((fleet.folder / "ca" / "crl.pem").read_bytes())
    return {entry.serial_number for entry in crl}


def test_a_revoked_certificate_leaves_the_list_a_month_after_its_end_unless_nobody_knows_that(
    fleet: Fleet,
) -> None:
    """Or the list would grow for ever, and with it what every board is given."""
    serial, day_s = certified(fleet, "door-01"), 24 * 3600
    with fleet.change("revoke", "door-01", now_s=NOW_S) as change:
        change.revoke_certificate(serial)
        change.add_revoked_serial(17)  # found by a restored registry in the broker's list
    fleet.write_revocation_list(NOW_S + (365 + 29) * day_s)
    assert revoked_serials(fleet) == {serial, 17}
    fleet.write_revocation_list(NOW_S + (365 + 31) * day_s)
    assert revoked_serials(fleet) == {17}


def test_everything_comes_back(fleet: Fleet, path: Path) -> None:
    (fleet.folder / "gallery.hadir").write_bytes(b"a gallery")
    back_up(fleet, path, now_s=NOW_S)
    again = restored(path).fleet
    assert again.root_thumbprint == fleet.root_thumbprint
    assert again.keys == fleet.keys
    assert again.registry.devices() == fleet.registry.devices()
    assert again.registry.device_keys() == fleet.registry.device_keys()
    assert (again.folder / "gallery.hadir").read_bytes() == b"a gallery"
    for use in ("root", "gallery", "command", "receipt", "provision"):
        assert again.signing_key(use).kid == fleet.signing_key(use).kid
    assert [entry.action for entry in again.registry.audit()][-3:] == ["backup", "restore", "crl"]


def test_modes_come_back_and_are_private(fleet: Fleet, path: Path) -> None:
    back_up(fleet, path, now_s=NOW_S)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = restored(path).fleet
    for name in ("keys/gallery.pem", "offline/root.pem", "registry.db", "boards/door-01/device.pem"):
        assert stat.S_IMODE((again.folder / name).stat().st_mode) == 0o600, name


def test_nothing_of_it_can_be_read_without_the_passphrase(fleet: Fleet, path: Path) -> None:
    back_up(fleet, path, now_s=NOW_S)
    content = path.read_bytes()
    board_key = (fleet.folder / "boards/door-01/device.pem").read_bytes()
    assert board_key not in content
    assert b"door-01" not in content
    with pytest.raises(KeyFileError, match=rf"{path}: does not open; the passphrase is another"):
        restored(path, passphrase="something else")
    assert not (path.parent / "again").exists()


@pytest.mark.parametrize("position", [20, 200, -1])
def test_an_altered_backup_is_refused_whole(fleet: Fleet, path: Path, position: int) -> None:
    back_up(fleet, path, now_s=NOW_S)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises((KeyFileError, InputError)):
        restored(path)
    assert not (path.parent / "again").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 something else", b"hadir-backup-2\n{}\n"])
def test_another_file_is_no_backup(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a backup of a fleet"):
        restored(path)


def test_nothing_is_ever_overwritten(fleet: Fleet, path: Path) -> None:
    back_up(fleet, path, now_s=NOW_S)
    with pytest.raises(InputError, match="never overwritten"):
        back_up(fleet, path, now_s=NOW_S)
    with pytest.raises(InputError, match="exists already; name a new folder"):
        restore(path, fleet.folder, ask=lambda: PASSPHRASE, now_s=LATER_S)


def test_no_backup_is_made_under_another_passphrase(
    fleet: Fleet, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it was, and nobody could ever open it."""
    before = [entry.n for entry in fleet.registry.audit()]
    monkeypatch.setenv("HADIR_PASSPHRASE", "a slip of the fingers")
    assert main(["backup", str(fleet.folder), str(path)]) == KeyFileError.exit_code
    assert "does not open; the passphrase is another" in capsys.readouterr().err
    assert not path.exists()
    assert [entry.n for entry in fleet.registry.audit()] == before


def test_no_backup_is_made_while_the_keys_are_changed(fleet: Fleet, path: Path) -> None:
    """Regression: it held keys of before and a registry of after, and could go neither on nor back."""
    with (
        alone(fleet),
        pytest.raises(AlreadyRunning, match="another `hadir-provision rotate-fleet` is at work"),
    ):
        back_up(fleet, path, now_s=NOW_S)
    assert not path.exists()
    back_up(fleet, path, now_s=NOW_S)


@pytest.mark.parametrize("name", ["backup\n99  root@vm  revoke  door-02", "backup\udcff"])
def test_a_name_that_the_audit_cannot_print_is_refused(fleet: Fleet, path: Path, name: str) -> None:
    """Regression: one held a line of the audit that nobody had written, another was a traceback."""
    with pytest.raises(InputError, match="choose another"):
        back_up(fleet, path.with_name(name), now_s=NOW_S)


def test_a_backup_does_not_lie_in_what_it_is_of(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="lies in the fleet's own folder"):
        back_up(fleet, fleet.folder / "boards" / "fleet.backup", now_s=NOW_S)


def test_a_restored_fleet_gives_no_number_out_again(fleet: Fleet, path: Path) -> None:
    """Between backup and restore the fleet made versions that the backup does not know."""
    back_up(fleet, path, now_s=NOW_S)
    given = {}
    for number in range(40):
        with fleet.change("work", "x", now_s=NOW_S + number) as change:
            given = {name: change.next(name) for name in (KEYS_VERSION, CRL_NUMBER, GALLERY_VERSION, "new")}
    again = restored(path).fleet
    for name in (KEYS_VERSION, CRL_NUMBER):
        assert again.registry.counter(name) > given[name], name
        assert again.registry.counter(name) >= LATER_S - NOW_S + MARGIN


def test_a_restored_fleets_file_for_servers_is_newer_than_all_before_it(fleet: Fleet, path: Path) -> None:
    """Regression: servers take none that is older than what they had; also of a backup that did not count changes."""
    with closing(sqlite3.connect(fleet.folder / "registry.db")) as registry, registry:
        registry.execute("DELETE FROM counters WHERE name = 'changes'")
    back_up(fleet, path, now_s=NOW_S)
    for number in range(40):
        with fleet.change("work", "x", now_s=NOW_S + number):
            pass
    given = load_registry(fleet.write_devices()).version
    assert load_registry(restored(path).fleet.folder / "devices.jwks").version > given


def test_a_restored_fleet_does_not_reissue_a_serial_number(fleet: Fleet, path: Path) -> None:
    back_up(fleet, path, now_s=NOW_S)
    since = {certified(fleet, "door-01") for _ in range(20)}
    again = restored(path).fleet
    assert not since & {certified(again, "door-01") for _ in range(20)}


def test_a_clock_behind_the_backup_stops_the_restore(fleet: Fleet, path: Path) -> None:
    back_up(fleet, path, now_s=NOW_S)
    with pytest.raises(InputError, match="clock is 10 s behind the backup's"):
        restored(path, now_s=NOW_S - 10)


def test_what_was_revoked_since_is_taken_from_a_broker_that_survived(fleet: Fleet, path: Path) -> None:
    """Otherwise a stolen board would be let in again by its thief's best friend, a disk failure."""
    known = certified(fleet, "door-01")
    back_up(fleet, path, now_s=NOW_S)
    add_board(fleet, "door-09")
    unknown = certified(fleet, "door-09")
    with fleet.change("revoke", "both", now_s=NOW_S + 1) as change:
        change.revoke_device("door-01")
        change.revoke_device("door-09")
    fleet.write_revocation_list(NOW_S + 1)
    broker = path.parent / "broker"
    broker.mkdir()
    (broker / "crl.pem").write_bytes((fleet.folder / "ca" / "crl.pem").read_bytes())
    (broker / "devices.acl").write_text(device_access(["central-1"], ["door-01", "door-09"]))
    result = restored(path, broker=broker)
    assert result.revoked == ("door-01", "door-09")
    assert revoked_serials(result.fleet) >= {known, unknown}
    states = {device.device: device.revoked_s for device in result.fleet.registry.devices()}
    assert states["door-01"] is not None
    assert states["door-09"] is not None
    assert states["door-02"] is None
    entries = json.loads((result.fleet.folder / "devices.jwks").read_text())["keys"]
    assert {entry["device"] for entry in entries if entry["revoked_at"]} == {"door-01"}


def test_a_revocation_list_of_another_fleet_is_refused(fleet: Fleet, path: Path, tmp_path: Path) -> None:
    back_up(fleet, path, now_s=NOW_S)
    other = make_fleet(tmp_path / "other")
    broker = tmp_path / "broker"
    broker.mkdir()
    (broker / "devices.acl").write_text(device_access([], ["door-01"]))
    forged = other.authority().revocation_list([(17, moment(NOW_S))], 9, moment(NOW_S))
    (broker / "crl.pem").write_text(pem(forged))
    with pytest.raises(InputError, match="another fleet's authority"):
        restored(path, broker=broker)


@pytest.mark.parametrize("missing", ["crl.pem", "devices.acl"])
def test_a_brokers_folder_without_its_files_is_refused(fleet: Fleet, path: Path, missing: str) -> None:
    back_up(fleet, path, now_s=NOW_S)
    broker = path.parent / "broker"
    broker.mkdir()
    (broker / "crl.pem").write_bytes((fleet.folder / "ca" / "crl.pem").read_bytes())
    (broker / "devices.acl").write_text("")
    (broker / missing).unlink()
    with pytest.raises(InputError, match=f"{missing}: the broker's .* cannot be read"):
        restored(path, broker=broker)


def test_the_offline_keys_are_left_out_where_they_were_carried_away(fleet: Fleet, path: Path) -> None:
    (fleet.folder / "offline").rename(path.parent / "stick")
    back_up(fleet, path, now_s=NOW_S)
    assert not (restored(path).fleet.folder / "offline").exists()


def test_the_commands_say_what_is_in_it_and_what_to_do_next(
    fleet: Fleet, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(fleet.folder), str(path)]) == 0
    assert "encrypted under its passphrase" in capsys.readouterr().out
    again = path.parent / "again"
    assert main(["restore", str(path), str(again)]) == 0
    said = capsys.readouterr().out
    assert "versions go on above all that were given out since" in said
    assert "what was revoked since the backup is in again: revoke it once more" in said
    assert f"next: hadir-provision broker {again}" in said
    (fleet.folder / "offline").rename(path.parent / "stick")
    assert main(["backup", str(fleet.folder), str(path.parent / "second")]) == 0
    assert "the root keys are not in it" in capsys.readouterr().out


def test_the_command_names_who_was_revoked_since(
    fleet: Fleet, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back_up(fleet, path, now_s=NOW_S)
    broker = path.parent / "broker"
    broker.mkdir()
    (broker / "crl.pem").write_bytes((fleet.folder / "ca" / "crl.pem").read_bytes())
    (broker / "devices.acl").write_text(device_access([], ["door-02"]))
    assert main(["restore", str(path), str(path.parent / "again"), "--broker", str(broker)]) == 0
    said = capsys.readouterr().out
    assert "revoked since, as the broker's files say: door-02" in said
    assert "revoke it once more" not in said
