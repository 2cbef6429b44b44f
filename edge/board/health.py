"""How the machine itself is: temperature, throttling, memory, space. Readings only; who reads them judges.

Everything comes from files of the kernel and one system call, so that nothing has to be
installed; `vcgencmd` is asked only where a Raspberry Pi's kernel has no file for it. What
a board does not have is None or an empty tuple, never an error.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
"""The kernel's thermal zones (Documentation/driver-api/thermal/sysfs-api.rst), millidegrees Celsius."""

GET_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
"""The Raspberry Pi kernel's firmware driver; the hexadecimal number of `vcgencmd get_throttled`."""

VCGENCMD = Path("/usr/bin/vcgencmd")
VCGENCMD_TIMEOUT_S = 2.0
"""It asks the firmware through a mailbox and answers in milliseconds."""

MEMINFO = Path("/proc/meminfo")

MODELS = (Path("/proc/device-tree/model"), Path("/sys/class/dmi/id/product_name"))
"""How a Raspberry Pi or Jetson calls itself (device tree), and a PC (SMBIOS)."""

MAX_MODEL = 64


@dataclass(frozen=True, slots=True)
class Temperature:
    """One thermal zone."""

    zone: str
    """Its type: `cpu-thermal` on a Raspberry Pi, `CPU-therm`, `GPU-therm` … on a Jetson."""
    celsius: float


class Throttling(IntFlag):
    """What the Raspberry Pi's firmware reports (documentation of `vcgencmd get_throttled`)."""

    UNDER_VOLTAGE = 1 << 0
    FREQUENCY_CAPPED = 1 << 1
    THROTTLED = 1 << 2
    SOFT_TEMPERATURE_LIMIT = 1 << 3
    UNDER_VOLTAGE_OCCURRED = 1 << 16
    FREQUENCY_CAPPED_OCCURRED = 1 << 17
    THROTTLED_OCCURRED = 1 << 18
    SOFT_TEMPERATURE_LIMIT_OCCURRED = 1 << 19


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the whole machine."""

    available_bytes: int
    """What can be had without swapping (proc_meminfo(5), MemAvailable)."""
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Space:
    """The file system that holds a folder, as an ordinary user may use it."""

    free_bytes: int
    total_bytes: int
    free_files: int
    """Inodes left; -1 where the file system does not count them."""
    read_only: bool
    """How it is mounted."""


def process_age_s(process: int) -> float | None:
    """How long a process has run (proc_pid_stat(5), field 22, in ticks since the boot); None where there is none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    ticks = int(stat.rpartition(b")")[2].split()[19])  # a name in brackets before it may hold anything
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def read_model(files: Sequence[Path] = MODELS) -> str:
    """What hardware this says it is, for people; the processor's name where it says nothing."""
    for file in files:
        try:
            told = file.read_text(encoding="ascii", errors="replace").strip("\0 \n")
        except OSError:
            continue
        shown = "".join(char for char in told if char.isprintable())[:MAX_MODEL]
        if shown:
            return shown
    return os.uname().machine


def read_temperatures(folder: Path = THERMAL) -> tuple[Temperature, ...]:
    """Every thermal zone that can be read now; a zone that is switched off says so by an error."""
    found = []
    for zone in sorted(folder.glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text(encoding="ascii", errors="replace").strip()
            celsius = int((zone / "temp").read_text(encoding="ascii")) / 1000
        except (OSError, ValueError):
            continue
        found.append(Temperature(kind, celsius))
    return tuple(found)


def read_throttling(file: Path = GET_THROTTLED, command: Path = VCGENCMD) -> Throttling | None:
    """Whether a Raspberry Pi slows down or lacks voltage; None on other boards."""
    try:
        return parse_throttling(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        pass
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed path, no shell
            [command, "get_throttled"], capture_output=True, timeout=VCGENCMD_TIMEOUT_S, check=True
        )
        return parse_throttling(answer.stdout.decode("ascii"))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def parse_throttling(text: str) -> Throttling:
    """`throttled=0x50005`, as vcgencmd prints it, or `50005`, as the kernel does. Raises ValueError."""
    return Throttling(int(text.strip().rpartition("=")[2], 16) & sum(Throttling))


def read_memory(file: Path = MEMINFO) -> Memory | None:
    """None where the kernel does not tell."""
    try:
        return parse_memory(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def parse_memory(text: str) -> Memory:
    """From the text of /proc/meminfo, whose kB are 1,024 bytes. Raises ValueError."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in {"MemTotal", "MemAvailable"}:
            sizes[name] = int(rest.split()[0]) * 1024 if rest.split() else -1
    if len(sizes) != 2 or min(sizes.values()) < 0:  # noqa: PLR2004 - the two names above
        raise ValueError("no MemTotal and MemAvailable")
    return Memory(available_bytes=sizes["MemAvailable"], total_bytes=sizes["MemTotal"])


def read_space(folder: Path) -> Space:
    """Of the file system that holds this folder. Raises OSError."""
    status = os.statvfs(folder)
    return Space(
        free_bytes=status.f_bavail * status.f_frsize,
        total_bytes=status.f_blocks * status.f_frsize,
        free_files=status.f_favail if status.f_files else -1,
        read_only=bool(status.f_flag & os.ST_RDONLY),
    )
