"""A real Mosquitto for whole-system tests and the torture, where it is installed: loopback, no rights, no traces."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge.errors import BrokerUnavailable

READY_TRIES = 500
READY_PAUSE_S = 0.02
PORT_TRIES = 3
"""Another process may take the port between the moment it was found free and the start."""

SETTINGS = "allow_anonymous true\nmax_queued_messages 0"
"""No limit on the queue: beyond it Mosquitto acknowledges and drops."""


def program() -> str | None:
    """Where Mosquitto is; None where it is not installed. Debian puts it where plain users do not look."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def version(path: str) -> str:
    """Mosquitto has no --version; its help begins with it."""
    told = subprocess.run((path, "-h"), capture_output=True, text=True, check=False).stdout
    return told.split("\n", 1)[0].rpartition(" ")[2]


@contextmanager
def mosquitto(path: str, settings: str = SETTINGS) -> Iterator[str]:
    """Run it on a free loopback port with these settings for its one listener; yields its URL.

    As root it is started as `nobody`, which is what it would become anyway. Raises
    BrokerUnavailable with its own log where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="hadir-mosquitto-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # its user is another where root runs it
        for attempt in range(1, PORT_TRIES + 1):
            port = free_port()
            configuration = folder / "mosquitto.conf"
            configuration.write_text(f"listener {port} 127.0.0.1\npersistence false\n{settings}\n")
            configuration.chmod(0o644)
            with _process(path, configuration, folder / "log") as process:
                if ready(process, port):
                    yield f"mqtt://127.0.0.1:{port}"
                    return
            if attempt == PORT_TRIES:
                raise BrokerUnavailable(f"mosquitto does not start: {(folder / 'log').read_text()}")


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> tuple[int, ...]:
    """So many, all different."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return tuple(listener.getsockname()[1] for listener in listeners)


@contextmanager
def _process(path: str, configuration: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with (
        log.open("wb") as output,
        subprocess.Popen(
            (path, "-c", str(configuration)),
            cwd="/",
            stdout=output,
            stderr=subprocess.STDOUT,
            user=None if nobody is None else nobody.pw_uid,
            group=None if nobody is None else nobody.pw_gid,
            extra_groups=None if nobody is None else [],
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


def ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it accepts connections; False once it has ended or takes too long."""
    for _ in range(READY_TRIES):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            pass
        else:
            return True
        try:
            process.wait(READY_PAUSE_S)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False
