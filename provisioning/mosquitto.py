"""The Mosquitto on this machine that runs with a fleet's configuration: found, told to read it again, run."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BrokerUnavailable, InputError
from provisioning.broker import NAMES
from provisioning.keys import PASSPHRASE, PASSPHRASE_FILE

log = logging.getLogger(__name__)

PROC = Path("/proc")
STOP_S = 20.0
"""Mosquitto writes its persistent state before it ends."""

RELOAD_S = 0.2
"""Two rounds of its main loop, at whose end it looks for the signal (2.0.11: 100 ms)."""
RELOADS = 10
"""So often it is told where it does not seem to hear."""
RELOADS_UNSEEN = 2
"""So often where nothing shows whether it did."""
SETTLED_S = 0.5
"""Where it cannot listen it ends at once."""

_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Running:
    """A process that serves this configuration."""

    pid: int
    command: tuple[str, ...]
    folder: Path
    """From which it was started; relative paths of the command are relative to it."""
    unit: str | None
    """The systemd unit that keeps it, where one does."""

    def reload(self) -> None:
        """Have it read access lists, passwords, certificates and the revocation list again; returns once it has.

        Mosquitto 2.0.11 forgets a SIGHUP that comes while it still reads for the one before: its main loop takes the
        mark away when it is done (put in place and signalled just then, 13 of 100 changes were lost, of 100 told
        like this none). So it is told again until each file was read since it was written, by its access time; where
        that shows nothing, twice. Raises InputError where it belongs to somebody else.
        """
        files = [path.with_name(name) for path in _configurations(self) for name in NAMES]
        unseen = all(map(_was_read, files)) or any(
            os.statvfs(path.parent).f_flag & os.ST_NOATIME for path in files
        )
        for _ in range(RELOADS_UNSEEN if unseen else RELOADS):
            self._signal(signal.SIGHUP, "reload")
            if self._settles(lambda: not unseen and all(map(_was_read, files))):
                return
        if not unseen:
            log.warning("mosquitto (process %d): has not read its files again; is it stuck?", self.pid)

    def _settles(self, done: Callable[[], bool]) -> bool:
        """Whether that came about within the time of a reload, or the process has ended."""
        deadline_s = time.monotonic() + RELOAD_S
        while not done() and _describe(PROC / str(self.pid)) is not None:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_PAUSE_S / 5)
        return True

    def restart(self) -> None:
        """Stop it and start it again as it was; what it keeps for its clients, it keeps on its disk.

        Raises:
            InputError: it belongs to somebody else.
            BrokerUnavailable: it does not end, or does not start again.
        """
        if self.unit is not None:
            self._restart_unit(self.unit)
            return
        self._signal(signal.SIGTERM, "restart")
        deadline_s = time.monotonic() + STOP_S
        while _describe(PROC / str(self.pid)) is not None:
            if time.monotonic() > deadline_s:
                raise BrokerUnavailable(f"mosquitto (process {self.pid}) does not end; restart it by hand")
            time.sleep(_PAUSE_S)
        self._start()

    def _start(self) -> None:
        """In the background, as a daemon of its own, and look whether it stays."""
        command = self.command if "-d" in self.command else (*self.command, "-d")
        done = subprocess.run(  # noqa: S603 - what ran here a moment ago
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=_environment()
        )
        time.sleep(SETTLED_S)
        if done.returncode != 0 or not any(running(path) for path in _configurations(self)):
            raise BrokerUnavailable(
                f"mosquitto does not start again ({done.stderr.strip()}); run `{' '.join(self.command)}` to see why"
            )

    def _restart_unit(self, unit: str) -> None:
        try:
            subprocess.run(  # noqa: S603 - a unit's name from the kernel, no shell
                ("/usr/bin/systemctl", "restart", unit),
                capture_output=True,
                text=True,
                check=True,
                env=_environment(),
            )
        except (OSError, subprocess.CalledProcessError) as error:
            why = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
            raise BrokerUnavailable(f"mosquitto is kept by {unit}, which does not restart: {why}") from error

    def _signal(self, number: int, what: str) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it ended meanwhile, and reads everything when it starts
        except PermissionError as error:
            raise InputError(
                f"mosquitto (process {self.pid}) belongs to another user; {what} it as that user or root: "
                f"kill -{signal.Signals(number).name.removeprefix('SIG')} {self.pid}"
            ) from error


def running(configuration: Path, processes: Path = PROC) -> tuple[Running, ...]:
    """Every Mosquitto of this machine that was started with this configuration."""
    found = (_describe(folder) for folder in sorted(processes.iterdir()) if folder.name.isdecimal())
    wanted = configuration.resolve()
    return tuple(one for one in found if one is not None and wanted in _configurations(one))


def run(configuration: Path) -> None:
    """Become Mosquitto, in the foreground, until it is stopped. Raises InputError where it is not installed."""
    path = program()
    os.execve(path, (path, "-c", str(configuration)), _environment())  # noqa: S606 - found by name in known places


def program() -> str:
    """Where Mosquitto is; Debian puts it where plain users do not look. Raises InputError."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise InputError("mosquitto is not installed here: apt install mosquitto")
    return found


def _environment() -> dict[str, str]:
    """Ours without the fleet's passphrase: a program that everybody's network reaches has no use for it."""
    return {name: value for name, value in os.environ.items() if name not in (PASSPHRASE, PASSPHRASE_FILE)}


def _describe(process: Path) -> Running | None:
    """A process as the kernel tells of it; None where it is no Mosquitto, has ended or is not ours to look at."""
    try:
        command = tuple((process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
        if Path(command[0]).name != "mosquitto":
            return None
        folder = (process / "cwd").readlink()
        groups = (process / "cgroup").read_text()
    except OSError:
        return None
    return Running(int(process.name), command, folder, _unit(groups))


def _configurations(one: Running) -> Sequence[Path]:
    """The file that it was started with."""
    pairs = zip(one.command, one.command[1:], strict=False)
    return [(one.folder / value).resolve() for option, value in pairs if option in ("-c", "--config-file")]


def _was_read(path: Path) -> bool:
    """Whether anybody has read it since it was written: a first reading is noted also where not each is (relatime)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    return status.st_atime_ns > status.st_mtime_ns


def _unit(groups: str) -> str | None:
    """A system service's name from /proc/PID/cgroup; a login session's processes are nobody's to restart."""
    last = groups.strip().rpartition("/")[2]
    return last if "/system.slice/" in groups and last.endswith(".service") else None
