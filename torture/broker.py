"""The broker between board and consumer: Mosquitto as a plain user where it is installed, else the embedded one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.broker import embedded_broker
from edge.errors import BrokerUnavailable

PLAIN_USER = 65534
"""nobody, on every Linux."""

START_S = 10.0

CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
"""
"""No limit on the queue: beyond it Mosquitto acknowledges and drops, which is no fault of the board's."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    name: str
    url: str


@contextmanager
def real_broker() -> Iterator[Broker]:
    """A broker that runs until the end. Raises BrokerUnavailable where it does not start."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        with embedded_broker() as url:
            yield Broker("iotcore (embedded)", url)
        return
    with tempfile.TemporaryDirectory(prefix="hadir-mosquitto-") as name:
        folder, port = Path(name), _free_port()
        folder.chmod(0o755)
        configuration = folder / "mosquitto.conf"
        configuration.write_text(CONFIGURATION.format(port=port), encoding="ascii")
        root = os.geteuid() == 0
        with subprocess.Popen(
            (program, "-c", str(configuration)),
            cwd="/",
            stderr=subprocess.DEVNULL,
            user=PLAIN_USER if root else None,
            group=PLAIN_USER if root else None,
            extra_groups=[] if root else None,
        ) as process:
            try:
                _wait_until_listening(process, port)
                yield Broker(f"Mosquitto {_version(program)}", f"mqtt://127.0.0.1:{port}")
            finally:
                process.terminate()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(int(START_S / 0.05)):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
    raise BrokerUnavailable(f"mosquitto does not listen on 127.0.0.1:{port}")


def _version(program: str) -> str:
    """Mosquitto has no --version; its help begins with it."""
    told = subprocess.run((program, "-h"), capture_output=True, text=True, check=False).stdout
    return told.split("\n", 1)[0].rpartition(" ")[2]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
