"""The broker's files: complete, right where they lie, readable by Mosquitto alone, and read again when they change."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from cryptography import x509

from edge.errors import BrokerUnavailable, InputError, KeyFileError
from edge.trust.admission import Purpose
from provisioning import mosquitto
from provisioning.broker import NAMES, claim_passwords, password_hash
from provisioning.cli import main
from provisioning.deploy import (
    BrokerSettings,
    broker_user,
    check_settings,
    server_pin,
    write_broker,
)
from provisioning.entries import Claim, ClaimState
from provisioning.fleet import Fleet
from provisioning.mosquitto import Running, _unit, running
from tests.fleet_broker import FleetBroker, fleet_broker

NOW_S = 1_764_000_000
YEAR_S = 365 * 24 * 3600


@pytest.fixture
def settings(fleet: Fleet) -> BrokerSettings:
    return BrokerSettings(("broker.local", "192.0.2.7"), folder=str(fleet.folder / "broker"))


def reachable(folder: Path) -> None:
    """pytest's folders are closed to Mosquitto's user, where root runs the tests."""
    for parent in folder.parents:
        if parent.is_relative_to(tempfile.gettempdir()) and parent != Path(tempfile.gettempdir()):
            parent.chmod(0o755)


def written(fleet: Fleet, settings: BrokerSettings, now_s: int = NOW_S) -> Path:
    reachable(fleet.folder)
    return write_broker(fleet, settings, now_s).parent


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates((folder / "server.crt").read_bytes())[0]


def test_every_file_is_there_and_secrets_are_mosquittos_alone(fleet: Fleet, settings: BrokerSettings) -> None:
    folder = written(fleet, settings)
    assert {path.name for path in folder.iterdir()} == {*NAMES, "state"}
    user = broker_user()
    owner = os.geteuid() if user is None else user.pw_uid
    for name in ("server.key", "claims.passwd", "state"):
        status = (folder / name).stat()
        assert (stat.S_IMODE(status.st_mode) & 0o077, status.st_uid) == (0, owner), name
    assert folder.stat().st_uid == os.geteuid(), "Mosquitto's user cannot put links in its place"
    assert stat.S_IMODE(folder.stat().st_mode) in (0o700, 0o750)
    text = (folder / "mosquitto.conf").read_text()
    for name in NAMES[1:]:
        assert f"{folder}/{name}" in text, name


def test_the_certificate_and_key_stay_from_run_to_run(fleet: Fleet, settings: BrokerSettings) -> None:
    first = certificate(written(fleet, settings))
    pin = server_pin(fleet)
    again = certificate(written(fleet, settings, NOW_S + 24 * 3600))
    assert again == first
    assert server_pin(fleet) == pin


def test_other_hosts_or_two_thirds_of_its_life_give_another_certificate_for_the_same_key(
    fleet: Fleet, settings: BrokerSettings
) -> None:
    """Claims know the broker by its key's pin."""
    first = certificate(written(fleet, settings))
    pin = server_pin(fleet)
    moved = certificate(written(fleet, replace(settings, hosts=("other.local",))))
    late = certificate(written(fleet, replace(settings, hosts=("other.local",)), NOW_S + int(1.5 * YEAR_S)))
    assert len({first.serial_number, moved.serial_number, late.serial_number}) == 3
    assert first.public_key() == moved.public_key() == late.public_key()
    assert server_pin(fleet) == pin


def test_provisionings_own_certificate_is_renewed_too(fleet: Fleet, settings: BrokerSettings) -> None:
    path = fleet.folder / "ca" / "provision.crt"
    first = path.read_bytes()
    written(fleet, settings, int(time.time()))
    assert path.read_bytes() == first
    written(fleet, settings, int(time.time()) + int(1.5 * YEAR_S))
    again = x509.load_pem_x509_certificates(path.read_bytes())[0]
    assert again.public_key() == x509.load_pem_x509_certificates(first)[0].public_key()
    assert again.not_valid_after_utc > x509.load_pem_x509_certificates(first)[0].not_valid_after_utc


def test_the_revocation_list_is_issued_anew_at_every_run(fleet: Fleet, settings: BrokerSettings) -> None:
    numbers = []
    for now_s in (NOW_S, NOW_S + 10):
        crl = x509.load_pem_x509_crl((written(fleet, settings, now_s) / "crl.pem").read_bytes())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers[1] > numbers[0]


def test_an_unreadable_key_of_the_broker_is_named(fleet: Fleet, settings: BrokerSettings) -> None:
    folder = written(fleet, settings)
    (folder / "server.key").write_bytes(b"damaged")
    with pytest.raises(KeyFileError, match=r"server\.key: the broker's private key cannot be read"):
        write_broker(fleet, settings, NOW_S)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hosts": ()}, "name the host"),
        ({"hosts": ("a b",)}, "neither a host name nor an address"),
        ({"port": 0}, "port 0 is not from 1"),
        ({"claim_port": 65536}, "port 65536"),
        ({"port": 8884}, "two ports"),
        ({"folder": "/a b"}, "has a space in it"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    fleet: Fleet, settings: BrokerSettings, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        write_broker(fleet, replace(settings, **changes), NOW_S)  # type: ignore[arg-type]
    assert not (fleet.folder / "broker").exists()


def test_addresses_are_what_boards_are_told() -> None:
    named = BrokerSettings(("broker.local", "192.0.2.7"))
    assert (named.url, named.claim_address) == ("mqtts://broker.local:8883", "broker.local:8884")
    assert BrokerSettings(("2001:db8::1",), port=1).url == "mqtts://[2001:db8::1]:1"
    check_settings(named)


def test_a_place_that_mosquittos_user_cannot_reach_is_refused(fleet: Fleet, settings: BrokerSettings) -> None:
    if os.geteuid() != 0:
        pytest.skip("only where root runs this does Mosquitto become another user")
    fleet.folder.parent.chmod(0o700)
    with pytest.raises(InputError, match=f"{fleet.folder.parent}: is closed to user .* --folder"):
        write_broker(fleet, settings, NOW_S)


def claim(state: ClaimState, expires_s: int) -> Claim:
    return Claim(
        f"claim{state}",
        "door-01",
        Purpose.FIRST,
        state,
        b"",
        "$7$x",
        0,
        expires_s,
        None,
        None,
        None,
        None,
        None,
    )


def test_only_claims_that_can_still_be_used_have_a_password() -> None:
    claims = [claim(state, NOW_S + 1) for state in ClaimState]
    names = [line.split(":")[0] for line in claim_passwords(claims, NOW_S).splitlines()]
    assert names == ["claimopen", "claimpending", "claimissued"]
    assert claim_passwords(claims, NOW_S + 1) == ""


def test_a_password_is_stored_as_mosquitto_itself_stores_it(tmp_path: Path) -> None:
    """Vector: `mosquitto_passwd -b` of 2.0.11 for the same password, read back with its own salt."""
    tool = "/usr/bin/mosquitto_passwd"
    if not Path(tool).exists():
        pytest.skip("mosquitto_passwd is not installed")
    path = tmp_path / "passwd"
    subprocess.run((tool, "-c", "-b", str(path), "someone", "secret"), check=True, capture_output=True)
    line = path.read_text().strip().partition(":")[2]
    _, _, _, salt, _ = line.split("$")
    assert password_hash("secret", b64decode(salt)) == line


@pytest.fixture(scope="module")
def broker() -> Iterator[FleetBroker]:
    with fleet_broker() as started:
        yield started


def configuration(broker: FleetBroker) -> Path:
    return Path(broker.settings.folder) / "mosquitto.conf"


def test_the_mosquitto_of_this_fleet_is_found_among_all_processes(
    broker: FleetBroker, tmp_path: Path
) -> None:
    (found,) = running(configuration(broker))
    assert found.pid == broker.process.pid
    assert running(tmp_path / "mosquitto.conf") == ()


def test_it_listens_at_its_two_ports_and_nowhere_else(broker: FleetBroker) -> None:
    """Regression: a listener's setting before the first listener opened port 1883 to everybody, without TLS."""
    inodes = {
        link.readlink().name.removeprefix("socket:[").removesuffix("]")
        for link in Path(f"/proc/{broker.process.pid}/fd").iterdir()
    }
    listening = {
        int(fields[1].rpartition(":")[2], 16)
        # Several times: the kernel hands the table out in pieces, and between two of them a line can be passed over
        # while other tests open and close sockets. More looks can only find more.
        for table in ("tcp", "tcp6") * 5
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in inodes
    }
    assert listening == {broker.settings.port, broker.settings.claim_port}


def test_the_command_tells_a_running_mosquitto_to_read_its_files(
    broker: FleetBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    with broker.client("door-01") as peer:
        assert main(["broker", str(broker.fleet.folder)]) == 0
        said = capsys.readouterr().out
        assert f"mosquitto (process {broker.process.pid}) was told to read its files again" in said
        assert "2 board(s) were given the revocation list until 20" in said
        assert peer.publish("hadir/v1/door-01/up/event") in (0, 0x10)
        assert peer.connected, "a reload disturbs nobody"


def test_with_another_passphrase_nothing_is_changed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [entry.n for entry in fleet.registry.audit()]
    monkeypatch.setenv("HADIR_PASSPHRASE", "another one altogether")
    assert main(["broker", str(fleet.folder), "--host", "broker.local"]) == KeyFileError.exit_code
    assert [entry.n for entry in fleet.registry.audit()] == before
    assert not (fleet.folder / "broker").exists()


def test_a_second_one_is_not_started(broker: FleetBroker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", str(broker.fleet.folder), "--run"]) == InputError.exit_code
    assert f"already (process {broker.process.pid})" in capsys.readouterr().err


def test_mosquitto_does_not_inherit_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: whoever broke into the broker found the fleet's passphrase in its environment."""
    told = tmp_path / "mosquitto"
    told.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    told.chmod(0o755)
    monkeypatch.setenv("HADIR_PASSPHRASE", "words that the broker must not know")
    monkeypatch.setenv("HADIR_PASSPHRASE_FILE", "/root/passphrase")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    subprocess.run(
        (sys.executable, "-c", f"from provisioning.mosquitto import *; run(Path({str(told)!r}))"), check=True
    )
    run_by_hand = (tmp_path / "environment").read_text()
    with pytest.raises(BrokerUnavailable, match="does not start again"):
        Running(2**22 + 1, (str(told),), tmp_path, None).restart()
    for environment in (run_by_hand, (tmp_path / "environment").read_text()):
        assert "PATH=" in environment
        assert "PASSPHRASE" not in environment


def test_where_none_runs_it_says_what_to_copy_where(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    reachable(fleet.folder)
    assert main(["broker", str(fleet.folder), "--host", "broker.local", "--bind", "127.0.0.1"]) == 0
    said = capsys.readouterr().out
    assert "no mosquitto runs with it on this machine" in said
    assert all(name in said for name in NAMES)
    assert "then `hadir-provision serve` gives boards the new revocation list" in said
    assert main(["broker", str(fleet.folder), "--port", "18883"]) == 0
    assert BrokerSettings.of(fleet) == BrokerSettings(
        ("broker.local",), 18883, bind="127.0.0.1", folder=str(fleet.folder / "broker")
    ), "what is not said again stays"


def test_who_was_told_another_address_before_is_spoken_of(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    reachable(fleet.folder)
    assert main(["broker", str(fleet.folder), "--host", "broker.local"]) == 0
    assert main(["broker", str(fleet.folder)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["broker", str(fleet.folder), "--port", "18883"]) == 0
    assert (
        "set up before look for it at mqtts://broker.local:8883: change broker.url" in capsys.readouterr().err
    )


def test_without_a_host_it_says_that_it_needs_one(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", str(fleet.folder)]) == InputError.exit_code
    assert "--host HOST" in capsys.readouterr().err


def test_other_listeners_need_a_restart_which_keeps_what_is_queued(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with fleet_broker() as broker:
        with broker.client("door-01") as peer:
            assert peer.publish("hadir/v1/door-01/up/status", b"kept", retain=True) in (0, 0x10)
        port = str(broker.settings.claim_port)
        moved = [
            "broker",
            str(broker.fleet.folder),
            "--claim-port",
            str(int(port) + 1 if int(port) < 65000 else 1025),
        ]
        (before,) = running(configuration(broker))
        try:
            reaper = _reaped(broker)
            assert main(moved) == 0
            reaper.join()
            assert "was restarted: its listeners changed" in capsys.readouterr().out
            (after,) = running(configuration(broker))
            assert after.pid != before.pid
            deadline_s = time.monotonic() + 10
            connected = False
            while not connected and time.monotonic() < deadline_s:
                with broker.client("central-1") as consumer:
                    connected = consumer.connected
            assert connected
        finally:
            for one in running(configuration(broker)):
                os.kill(one.pid, 15)


def _reaped(broker: FleetBroker) -> threading.Thread:
    """The old process is this test's child: until somebody waits for it, the kernel keeps it."""
    thread = threading.Thread(target=broker.process.wait)
    thread.start()
    return thread


def test_one_that_belongs_to_somebody_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    with pytest.raises(InputError, match=r"process 77\) belongs to another user; reload it .* kill -HUP 77"):
        Running(77, ("mosquitto",), Path("/"), None).reload()


def test_one_that_is_gone_needs_no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    Running(77, ("mosquitto",), Path("/"), None).reload()


FORGETFUL = """
import pathlib, signal, sys
signals = [0]
def told(*_):
    signals[0] += 1
    if signals[0] == int(sys.argv[1]):
        [path.read_bytes() for path in pathlib.Path(sys.argv[3]).parent.iterdir()]
    print(signals[0], flush=True)
signal.signal(signal.SIGHUP, told)
print("ready", flush=True)
while True:
    signal.pause()
"""
"""Reads its files at that SIGHUP and at no other."""


@contextmanager
def forgetful(folder: Path, reads_at: int) -> Iterator[tuple[Running, IO[bytes]]]:
    """A process that looks like Mosquitto and is as hard of hearing, and what it says."""
    path = folder / "mosquitto.conf"
    for name in NAMES:
        (folder / name).write_text("just written")
    if os.statvfs(folder).f_flag & os.ST_NOATIME:
        pytest.skip(f"{folder} is mounted with noatime")
    with subprocess.Popen(
        ("mosquitto", "-c", FORGETFUL, str(reads_at), "-c", str(path)),
        executable=sys.executable,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Running(process.pid, ("mosquitto", "-c", str(path)), folder, None), process.stdout
        process.kill()


def test_a_change_that_comes_while_mosquitto_reads_for_another_one_is_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: it forgets such a signal, and a claim that had just been made was refused until the next change."""
    with forgetful(tmp_path, reads_at=3) as (one, said):
        one.reload()
        assert [said.readline() for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
        assert "just written" in (tmp_path / "claims.passwd").read_text()
    assert caplog.text == ""


def test_where_somebody_else_has_read_the_files_it_is_told_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: it was told once and not waited for."""
    with forgetful(tmp_path, reads_at=99) as (one, said):
        for name in NAMES:
            os.utime(tmp_path / name, (NOW_S + 1, NOW_S))
        one.reload()
        assert [said.readline() for _ in range(2)] == [b"1\n", b"2\n"]
    assert caplog.text == ""


def test_one_that_reads_nothing_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with forgetful(tmp_path, reads_at=99) as (one, said):
        one.reload()
        assert said.readline() == b"1\n"
    assert "has not read its files again" in caplog.text


def test_where_readings_are_not_noted_it_is_told_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mounted:
        f_flag = os.ST_NOATIME

    with forgetful(tmp_path, reads_at=99) as (one, said):
        monkeypatch.setattr(os, "statvfs", lambda _: Mounted())
        one.reload()
        assert [said.readline() for _ in range(2)] == [b"1\n", b"2\n"]
    assert caplog.text == ""


def test_one_that_does_not_start_again_is_not_called_restarted(tmp_path: Path) -> None:
    one = Running(2**22 + 1, ("/bin/false",), tmp_path, None)
    with pytest.raises(BrokerUnavailable, match="does not start again"):
        one.restart()


def test_a_unit_that_does_not_restart_is_named(tmp_path: Path) -> None:
    one = Running(2**22 + 1, ("mosquitto",), tmp_path, "hadir-no-such-unit.service")
    with pytest.raises(
        BrokerUnavailable, match=r"kept by hadir-no-such-unit\.service, which does not restart"
    ):
        one.restart()


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/mosquitto.service\n", "mosquitto.service"),
        ("0::/user.slice/user-1000.slice/session-4.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_a_unit_of_the_system_is_told_from_somebodys_terminal(groups: str, unit: str | None) -> None:
    assert _unit(groups) == unit


def test_where_mosquitto_is_not_installed_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(InputError, match="apt install mosquitto"):
        mosquitto.program()
