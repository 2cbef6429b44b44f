"""A process that is started again whenever it dies, as systemd does it on a server."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from edge.errors import BrokerUnavailable

ROOT = Path(__file__).parent.parent

READY_S = 30.0


class Kept:
    """Runs a command until it is told to stop; it is started again after SIGKILL.

    So is one that found no broker before it served anybody: its unit starts it again, too. Any other end is a
    problem. `ready` says of its log, or of the world, whether it serves; it is asked every few milliseconds.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        ready: Callable[[str], bool],
        *,
        as_nobody: bool = False,
    ) -> None:
        self.name = name
        self.problems: list[str] = []
        self._command = command
        self._log = log
        self._ready = ready
        self._user = pwd.getpwnam("nobody").pw_uid if as_nobody and os.geteuid() == 0 else None
        self._stopping = False
        self._changed = threading.Condition()
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> bool:
        """Whether it serves now; False, and a problem, where it does not come to that."""
        end_s = monotonic() + READY_S
        with self._changed:
            while not self.problems:
                if self._process.poll() is None and self._ready(self._said()):
                    return True
                if monotonic() > end_s:
                    self.problems.append(
                        f"{self.name} does not serve within {READY_S:g} s: {self._last_line()}"
                    )
                self._changed.wait(0.01)
        return False

    def kill(self) -> None:
        """SIGKILL, unless it is dead already."""
        with self._changed:
            self._process.kill()

    def stop(self) -> None:
        """Ask it to end, and note if it does not end well."""
        with self._changed:
            self._stopping = True
            self._process.terminate()
        self._thread.join(READY_S)
        if self._thread.is_alive():
            self._process.kill()
            self.problems.append(f"{self.name} does not end within {READY_S:g} s of SIGTERM")

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            with self._changed:
                if self._stopping:
                    if code != 0:
                        self.problems.append(f"{self.name} ended with exit code {code}: {self._last_line()}")
                    return
                early = code == BrokerUnavailable.exit_code and not self._ready(self._said())
                if code != -signal.SIGKILL and not early:
                    self.problems.append(f"{self.name} ended by itself with {code}: {self._last_line()}")
                    return
                self._process = self._start()
                self._changed.notify_all()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT if self._user is None else "/",
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                extra_groups=None if self._user is None else [],
            )

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _last_line(self) -> str:
        return self._said().rstrip().rpartition("\n")[2]
