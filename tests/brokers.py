"""Brokers for whole-system tests, on free loopback ports, and a plain client that publishes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demo.broker import embedded_broker

Publish = Callable[[str, bytes | str], None]
"""Topic and payload, at QoS 1; returns once the broker has acknowledged."""

READY_TRIES = 500
READY_PAUSE_S = 0.02
PORT_TRIES = 3
ACKNOWLEDGED_S = 20.0


class CouldNotStart(Exception):
    """The broker ended before it could be reached, as when something else took its port meanwhile."""


@contextmanager
def mosquitto(settings: str = "allow_anonymous true") -> Iterator[str]:
    """A real Mosquitto, as a user without rights, with these settings for its one listener; yields its URL."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with tempfile.TemporaryDirectory(prefix="hadir-mosquitto-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the broker's user is another where root runs the tests
        for attempt in range(1, PORT_TRIES + 1):
            port = _free_port()
            configuration = folder / "mosquitto.conf"
            configuration.write_text(f"listener {port} 127.0.0.1\npersistence false\n{settings}\n")
            configuration.chmod(0o644)
            with _process(program, configuration, folder / "log") as process:
                try:
                    _wait_until_ready(process, port)
                except CouldNotStart:
                    if attempt == PORT_TRIES:
                        raise AssertionError((folder / "log").read_text()) from None
                    continue
                yield f"mqtt://127.0.0.1:{port}"
                return


BROKERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "iotcore": embedded_broker,
    "mosquitto": mosquitto,
}
"""The brokers on which everything that is not about one of them is tested."""


@contextmanager
def publishing(url: str, client_id: str = "door-01") -> Iterator[Publish]:
    """A connected client; yields what publishes."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.connect(address.hostname, address.port, clean_start=True)
    client.loop_start()

    def publish(topic: str, payload: bytes | str) -> None:
        client.publish(topic, payload, qos=1).wait_for_publish(ACKNOWLEDGED_S)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def _process(program: str, configuration: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [program, "-c", str(configuration)],
            stdout=output,
            stderr=subprocess.STDOUT,
            user=pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(READY_TRIES):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            pass
        else:
            return
        try:
            process.wait(READY_PAUSE_S)
        except subprocess.TimeoutExpired:
            continue
        raise CouldNotStart
    raise CouldNotStart


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
