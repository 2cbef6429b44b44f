"""`hadir-central run` as a process of its own, for tests, torture and benchmarks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BrokerUnavailable
from edge.trust.identity import write_signing_key
from edge.trust.jws import SigningKey

START_S = 30.0

MODULE = ("-m", "central.cli")


def write_config(
    folder: Path,
    broker_url: str,
    *,
    devices: Path,
    keys: Path,
    root_thumbprint: str,
    receipt_key: SigningKey,
    database_url: str = "sqlite:///central.db",
    name: str = "central-1",
    broker_files: str = "",
) -> Path:
    """A consumer's folder with its configuration and the receipt key; the path of `central.toml`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / "receipt.pem").exists():
        write_signing_key(folder / "receipt.pem", receipt_key)
    path = folder / f"{name}.toml"
    path.write_text(
        f"""\
[broker]
url = "{broker_url}"
name = "{name}"
{broker_files}

[trust]
root_thumbprint = "{root_thumbprint}"
devices_file = "{devices}"
keys_file = "{keys}"

[database]
url = "{database_url}"
""",
        encoding="utf-8",
    )
    return path


class Consuming:
    """A running consumer and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def said(self, words: str, timeout_s: float = START_S) -> bool:
        """Whether it has said so, now or in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._ended() or any(words in line for line in self.lines), timeout_s
            ) and any(words in line for line in self.lines)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """As a power cut ends it."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        try:
            code = self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(START_S)
        return code

    def log(self) -> str:
        return "".join(self.lines)

    def _ended(self) -> bool:
        return self.process.poll() is not None and not self._reader.is_alive()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def consuming(config: Path, *options: str, module: tuple[str, ...] = MODULE) -> Iterator[Consuming]:
    """A consumer that is subscribed; killed at the end if it still runs. Raises BrokerUnavailable."""
    command = (sys.executable, *module, "run", "--config", str(config), *options)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        running = Consuming(process)
        try:
            if not running.said("consuming from"):
                raise BrokerUnavailable(f"hadir-central run did not start: {running.log()}")
            yield running
        finally:
            if process.poll() is None:
                running.kill()
