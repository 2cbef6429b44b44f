"""docs/quickstart.md, word for word: its commands lead from nothing to a verified attendance."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

import pytest

from demo.boards import PASSPHRASE
from demo.mosquitto import program
from edge.assembly import Eyes
from tests.conftest import People
from tests.doors import nobody, save_clip, walk

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "docs" / "quickstart.md"
STAYS = "# in a terminal of its own"
READY = {
    "hadir-provision broker": "claims at",
    "hadir-provision serve": "answering claims at",
    "hadir-central run": "consuming from",
}
"""What each command that stays says once it is there for others."""

PORTS = (8883, 8884)
WAIT_S = 30.0


def commands() -> list[str]:
    """The lines of the page's one block of commands."""
    (block,) = re.findall(
        r"^```\n(.*?)^```$", QUICKSTART.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return str(block).strip().splitlines()


def test_it_is_ten_commands_at_most_and_nobody_edits_a_file() -> None:
    lines = commands()
    assert len(lines) <= 10
    words = {line.split()[0] for line in lines}
    assert words <= {"hadir-provision", "hadir-edge", "hadir-central", "cp"}
    assert not [line for line in lines if re.search(r"[;&|<>`]|\$\(", line)], "a line is one command"


def test_the_readme_has_the_same_commands() -> None:
    assert "\n".join(commands()) in (ROOT / "README.md").read_text(encoding="utf-8")


@contextmanager
def staying(line: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A command in a terminal of its own: yields once it says that it is there, and is interrupted at the end."""
    log = folder / f"{'-'.join(line.split()[:2])}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ("bash", "-c", f"exec {line}"), cwd=folder, env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            wait_for(next(sign for start, sign in READY.items() if line.startswith(start)), log, process)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(WAIT_S)


def wait_for(sign: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while sign not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)
    if sign == READY["hadir-provision broker"]:
        wait_for_ports()


def wait_for_ports() -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not all(answers(port) for port in PORTS):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def folder(eyes: Eyes, people: People) -> Iterator[Path]:
    """Where somebody begins: three photographs and a clip."""
    if program() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    if any(answers(port) for port in PORTS):
        pytest.skip(f"somebody listens at {PORTS} on this machine already")
    with tempfile.TemporaryDirectory(prefix="hadir-quickstart-") as name:
        made = Path(name)
        made.chmod(0o755)  # Mosquitto becomes another user where root runs the tests
        photos = people["P44"]
        for number, photo in enumerate(chain(photos[:2], photos[:1]), 1):
            shutil.copy(photo, made / f"photo{number}.jpg")
        save_clip(made / "door.avi", walk(eyes, photos[2], 3), nobody())
        yield made


def test_its_commands_lead_from_nothing_to_a_verified_attendance(folder: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HADIR_PASSPHRASE": PASSPHRASE,
    }
    said, everything = "", []
    secrets: set[bytes] = set()
    with ExitStack() as terminals:
        for line in commands():
            if line.endswith(STAYS):
                terminals.enter_context(staying(line.removesuffix(STAYS).strip(), folder, environment))
                continue
            done = subprocess.run(
                ("bash", "-c", line), cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            said = done.stdout
            everything += [done.stdout.encode(), done.stderr.encode(), *arguments_of_all_processes()]
            secrets |= secrets_in(folder)
    (attendance,) = [line for line in said.splitlines() if "E1042" in line]
    assert {"door-01", "attendance", "in", "counted"} <= set(attendance.split())
    everything += [log.read_bytes() for log in folder.glob("*.log")]
    assert len(secrets) > 30, "keys of fleet, broker, server and board, and the claim's secret"
    assert not [secret for secret in secrets if any(secret in output for output in everything)]


def arguments_of_all_processes() -> list[bytes]:
    """As any user of the machine sees them."""
    seen = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            seen.append(process.read_bytes())
    return seen


def secrets_in(folder: Path) -> set[bytes]:
    """The bytes that must never be seen: private keys in the forms in which they could be printed, and claims."""
    found = {PASSPHRASE.encode()}
    for path in (
        path for path in folder.rglob("*") if path.is_file() and path.suffix in (".pem", ".key", ".json", "")
    ):
        content = path.read_bytes()
        if b"PRIVATE KEY" in content:
            found |= {line for line in content.splitlines() if len(line) == 64}
        if path.name == "hadir-claim.json":
            found.add(json.loads(content)["secret"].encode())
        if path.name == "kek":
            found.add(json.loads(content)["kek"].encode())
    return found
