"""`hadir-central listen` as a process of its own, and what it printed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import BrokerUnavailable

START_S = 30.0


class Listening:
    """The events that the central consumer told of, as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.exit_code: int | None = None
        self.summary = ""
        """What it said at its end."""
        self._process = process
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, count: int, timeout_s: float = 30.0) -> bool:
        """Whether at least so many believed events arrived in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.believed()) >= count, timeout_s)

    def wait_for_any(self, count: int, timeout_s: float = 30.0) -> bool:
        """Whether at least so many events, believed or not, were told of in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.events) >= count, timeout_s)

    def believed(self) -> list[dict[str, Any]]:
        """The events that were verified and counted."""
        return [event for event in self.events if event.get("believed")]

    def stop(self) -> None:
        """Ask it to end; everything that it had received has been read then."""
        self._process.terminate()
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._thread.join(START_S)
        self.exit_code = self._process.returncode
        if self._process.stderr is not None and not self._process.stderr.closed:
            self.summary += self._process.stderr.read()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                self.events.append(json.loads(line))
                self._changed.notify_all()


@contextmanager
def listening(broker_url: str, devices: Path, *options: str) -> Iterator[Listening]:
    """A consumer that is subscribed. Raises BrokerUnavailable where it does not get there."""
    command = (
        sys.executable,
        "-m",
        "central.cli",
        "listen",
        "--json",
        "--broker",
        broker_url,
        "--devices",
        str(devices),
    )
    with subprocess.Popen(
        (*command, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        if not first.startswith("listening on"):
            process.kill()
            raise BrokerUnavailable(f"the central consumer did not start: {first}{process.stderr.read()}")
        listener = Listening(process)
        try:
            yield listener
        finally:
            listener.stop()
