"""A fleet's own Mosquitto on loopback, as `hadir-provision broker` sets it up, for torture and benchmarks."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.boards import make_fleet
from demo.mosquitto import PORT_TRIES, free_ports, program, ready
from edge.errors import BrokerUnavailable, InputError
from provisioning.deploy import BrokerSettings, write_broker
from provisioning.fleet import Fleet

STOP_S = 10.0


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


@contextmanager
def _serving(path: str, fleet: Fleet, log: Path) -> Iterator[None]:
    for _ in range(PORT_TRIES):
        port, claim_port = free_ports(2)
        place = str(fleet.folder / "broker")
        settings = BrokerSettings(("127.0.0.1",), port, claim_port, "127.0.0.1", place)
        configuration = write_broker(fleet, settings, int(time.time()))
        with log.open("wb") as output:
            process = subprocess.Popen((path, "-c", str(configuration)), stderr=output)
        try:
            if ready(process, port):
                yield
                return
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    raise BrokerUnavailable(f"mosquitto does not start: {log.read_text()}")
