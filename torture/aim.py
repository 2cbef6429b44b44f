"""Who dies, when a process comes by a point: a file between the torture and the processes that it started.

The process that comes by is not always the one that dies: a board can lose its server, or
its broker, between any two of its own steps.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Aim:
    """At which coming by a point which process gets SIGKILL."""

    step: str
    hit: int = 1
    victim: int = 0
    """Its process id; 0 for the one that comes by."""


def take_aim(path: Path, aim: Aim) -> None:
    """Replace the aim, whole."""
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(aim)), encoding="utf-8")
    scratch.rename(path)


class Trigger:
    """A watcher of points that follows the aim in a file; the file is gone once it has shot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._passed = 0

    def __call__(self, step: StrEnum) -> None:
        with self._lock:
            aim = self._aim()
            if aim is None or step.value != aim.step:
                return
            self._passed += 1
            if self._passed < aim.hit:
                return
            self._passed = 0
            self._path.unlink()
            os.kill(aim.victim or os.getpid(), signal.SIGKILL)

    def _aim(self) -> Aim | None:
        try:
            return Aim(**json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
