"""A fleet's own Mosquitto on loopback, as `hadir-provision broker` sets it up, for torture and benchmarks."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from demo.boards import make_fleet
from demo.mosquitto import PORT_TRIES, free_ports, program, ready
from edge.errors import BrokerUnavailable, InputError
from provisioning.deploy import BrokerSettings, write_broker
from provisioning.fleet import Fleet

STOP_S = 10.0
LOOK_S = 0.2


@contextmanager
def fleet_at_broker() -> Iterator[Fleet]:
    """A new fleet without boards, whose broker runs until the end.

    Raises:
        InputError: Mosquitto is not installed.
        BrokerUnavailable: it does not start.
    """
    path = program()
    if path is None:
        raise InputError("mosquitto is not installed: apt install mosquitto")
    with tempfile.TemporaryDirectory(prefix="hadir-fleet-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # its user is another where root runs it
        fleet = make_fleet(folder / "fleet")
        try:
            with _serving(path, fleet, folder / "log"):
                yield fleet
        finally:
            fleet.registry.close()


class Keeper:
    """Starts a program again whenever it ends by itself, as its systemd unit does (docs/broker.md)."""

    def __init__(self, command: Sequence[str], output: IO[bytes]) -> None:
        self._command = command
        self._output = os.dup(output.fileno())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep)
        self.process = self._start()
        self.falls = 0
        """How often it ended by itself."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stderr=self._output)

    def _keep(self) -> None:
        while not self._over.wait(LOOK_S):
            if self.process.poll() is not None:
                self.falls += 1
                self.process = self._start()

    def stop(self) -> None:
        """End it for good."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._output)


@contextmanager
def _serving(path: str, fleet: Fleet, log: Path) -> Iterator[None]:
    for _ in range(PORT_TRIES):
        port, claim_port = free_ports(2)
        place = str(fleet.folder / "broker")
        settings = BrokerSettings(("127.0.0.1",), port, claim_port, "127.0.0.1", place)
        configuration = write_broker(fleet, settings, int(time.time()))
        with log.open("ab") as output:
            keeper = Keeper((path, "-c", str(configuration)), output)
        try:
            if ready(keeper.process, port):
                with keeper:
                    yield
                if keeper.falls:
                    print(f"mosquitto fell {keeper.falls} times, and was started again", flush=True)
                return
        finally:
            keeper.stop()
    raise BrokerUnavailable(f"mosquitto does not start: {log.read_text()}")
