"""The units for the board are what systemd accepts."""

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
    for program in (tmp_path / "opt/hadir/bin/hadir-edge", tmp_path / "bin/systemctl"):
        program.parent.mkdir(parents=True)
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
