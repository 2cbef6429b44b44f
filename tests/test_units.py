"""The units for board and server are what systemd accepts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNITS = sorted((ROOT / "systemd").glob("*.service"))
DAEMON = ROOT / "systemd" / "hadir-edge.service"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root folder with systemd's own units, ours, and a program where ours expects it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here (Debian package systemd)")
    shutil.copytree("/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    programs = ("opt/hadir/bin/hadir-edge", "opt/hadir/bin/hadir-central", "bin/systemctl")
    for program in (tmp_path / name for name in programs):
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for unit in UNITS:  # they name each other
        shutil.copy(unit, folder)
    return tmp_path


def verify(machine: Path, unit: Path) -> subprocess.CompletedProcess[str]:
    shutil.copy(unit, machine / "etc/systemd/system")
    return subprocess.run(
        ["systemd-analyze", "verify", f"--root={machine}", unit.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit_without_a_word(machine: Path, unit: Path) -> None:
    verdict = verify(machine, unit)
    assert (verdict.returncode, verdict.stdout, verdict.stderr) == (0, "", "")


def test_a_unit_with_a_mistake_would_be_noticed(machine: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.service"
    broken.write_text(DAEMON.read_text().replace("Restart=always", "Restart=allways"))
    assert "allways" in verify(machine, broken).stderr


def test_the_unit_leaves_the_clock_readable() -> None:
    """ProtectClock= would forbid adjtimex, and every event would be called unsynchronised."""
    settings = [line.split("=")[0] for line in DAEMON.read_text().splitlines() if not line.startswith("#")]
    assert "ProtectClock" not in settings
    assert "NoNewPrivileges" in settings


def test_the_servers_unit_takes_all_that_a_server_does_not_need() -> None:
    settings = {
        line.partition("=")[0]: line.partition("=")[2]
        for line in (ROOT / "systemd" / "hadir-central.service").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    }
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert {
        settings[name] for name in ("NoNewPrivileges", "ProtectClock", "PrivateDevices", "ProtectHome")
    } == {"yes"}
    assert settings["User"] not in {"", "root", "hadir"}, (
        "a user of its own: the board's may be on the same machine"
    )
    assert settings["RestartPreventExitStatus"] == "65 78"
