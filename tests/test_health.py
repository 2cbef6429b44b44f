"""The board's own readings: what is there is read, what is not there is no error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.board.health import (
    Memory,
    Temperature,
    Throttling,
    parse_memory,
    parse_throttling,
    process_age_s,
    read_memory,
    read_space,
    read_temperatures,
    read_throttling,
)


def zone(folder: Path, number: int, kind: str, temp: str | None) -> None:
    path = folder / f"thermal_zone{number}"
    path.mkdir()
    (path / "type").write_text(f"{kind}\n")
    if temp is not None:
        (path / "temp").write_text(f"{temp}\n")


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def test_every_zone_is_read_in_degrees(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48312")
    zone(tmp_path, 1, "GPU-therm", "-5000")
    (tmp_path / "cooling_device0").mkdir()
    assert read_temperatures(tmp_path) == (Temperature("cpu-thermal", 48.312), Temperature("GPU-therm", -5.0))


def test_a_zone_that_is_switched_off_spoils_no_other(tmp_path: Path) -> None:
    zone(tmp_path, 0, "PMIC-Die", "")
    zone(tmp_path, 1, "AO-therm", None)
    zone(tmp_path, 2, "CPU-therm", "40000")
    assert [found.zone for found in read_temperatures(tmp_path)] == ["CPU-therm"]


def test_a_machine_without_zones_has_no_temperature(tmp_path: Path) -> None:
    assert read_temperatures(tmp_path / "nowhere") == ()


def test_throttling_is_read_from_the_kernel_first(tmp_path: Path) -> None:
    file = tmp_path / "get_throttled"
    file.write_text("50005\n")
    command = script(tmp_path / "vcgencmd", "echo throttled=0x0")
    found = read_throttling(file, command)
    assert found == (
        Throttling.UNDER_VOLTAGE
        | Throttling.THROTTLED
        | Throttling.UNDER_VOLTAGE_OCCURRED
        | Throttling.THROTTLED_OCCURRED
    )


def test_without_the_kernels_file_vcgencmd_is_asked(tmp_path: Path) -> None:
    command = script(tmp_path / "vcgencmd", '[ "$1" = get_throttled ] && echo throttled=0x80000')
    assert read_throttling(tmp_path / "none", command) == Throttling.SOFT_TEMPERATURE_LIMIT_OCCURRED


@pytest.mark.parametrize(
    "line", ["echo VCHI initialization failed; exit 255", "echo throttled=hot", "exit 0"]
)
def test_a_vcgencmd_that_cannot_tell_is_as_if_there_were_none(line: str, tmp_path: Path) -> None:
    assert read_throttling(tmp_path / "none", script(tmp_path / "vcgencmd", line)) is None


def test_a_board_that_is_no_raspberry_pi_has_no_throttling(tmp_path: Path) -> None:
    assert read_throttling(tmp_path / "none", tmp_path / "vcgencmd") is None


@given(st.integers(0, 2**40))
def test_bits_that_nobody_knows_are_left_out(bits: int) -> None:
    assert parse_throttling(f"throttled={bits:#x}") == bits & 0xF000F


def test_a_process_is_younger_than_the_one_that_started_it_and_one_that_is_over_has_no_age() -> None:
    own_s = process_age_s(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        child_s = process_age_s(child.pid)
        child.communicate(b"\n")
    assert own_s is not None
    assert child_s is not None
    assert -0.1 < child_s < own_s
    assert process_age_s(child.pid) is None


def test_memory_is_told_in_bytes() -> None:
    text = "MemTotal:        1000 kB\nMemFree:   5 kB\nMemAvailable:     400 kB\nHugePages_Total:       0\n"
    assert parse_memory(text) == Memory(available_bytes=400 * 1024, total_bytes=1000 * 1024)


@pytest.mark.parametrize(
    "text", ["", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "MemTotal:\nMemAvailable:\n"]
)
def test_a_meminfo_that_says_less_is_none_at_all(text: str, tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text(text)
    assert read_memory(file) is None
    assert read_memory(tmp_path / "none") is None


def test_the_real_memory_and_disk_can_be_read(tmp_path: Path) -> None:
    memory, space = read_memory(), read_space(tmp_path)
    assert memory is not None
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert 0 <= space.free_bytes <= space.total_bytes
    assert space.read_only is bool(os.statvfs(tmp_path).f_flag & os.ST_RDONLY)


def test_a_file_system_that_is_mounted_read_only_is_known_as_such() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    read_only = [
        Path(mount[1]) for mount in mounts if "ro" in mount[3].split(",") and Path(mount[1]).is_dir()
    ]
    if not read_only:
        pytest.skip("nothing is mounted read-only here")
    assert read_space(read_only[-1]).read_only
