"""No secret leaves by a log, an argument or a crash: looked for by its very bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.boards import PASSPHRASE, make_fleet
from provisioning.keys import PASSPHRASE_FILE

COMMANDS = {
    "provisioning.cli": ["list", "/nonexistent"],
    "edge.__main__": ["run", "--config", "/nonexistent"],
    "central.cli": ["run", "--config", "/nonexistent"],
}
"""Something that each of them refuses, by its module."""


@pytest.mark.parametrize("module", COMMANDS)
def test_a_crash_of_any_command_writes_no_core(module: str) -> None:
    """As the kernel sees it: the limit, and the flag (PR_GET_DUMPABLE), which every new program begins with set."""
    program = (
        "import ctypes, resource\n"
        f"from {module} import main\n"
        "kernel = ctypes.CDLL(None)\n"
        "before = kernel.prctl(3, 0, 0, 0, 0)\n"
        f"assert main({COMMANDS[module]}) != 0\n"
        "print(before, resource.getrlimit(resource.RLIMIT_CORE), kernel.prctl(3, 0, 0, 0, 0))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert result.stdout.endswith("1 (0, 0) 0\n"), result.stderr


def test_a_command_that_is_killed_by_a_fault_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from edge.command import carry_out\n"
        "carry_out('x', lambda: os.kill(os.getpid(), signal.SIGSEGV))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "COVERAGE_PROCESS_START": ""}
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False)
    assert result.returncode == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []


def secrets_of(folder: Path) -> Iterator[bytes]:
    """What must never be seen: the passphrase, and the body of every private key file, line by line."""
    yield PASSPHRASE.encode()
    for path in folder.rglob("*.pem"):
        if b"PRIVATE KEY" in path.read_bytes():
            yield from (line for line in path.read_bytes().splitlines() if len(line) == 64)


def test_nothing_secret_is_printed_or_stands_in_an_argument(tmp_path: Path) -> None:
    """Commands as processes of their own; what each prints, and what others see of it in /proc."""
    passphrase = tmp_path / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(PASSPHRASE)
    environment = {name: value for name, value in os.environ.items() if name != "HADIR_PASSPHRASE"}
    environment[PASSPHRASE_FILE] = str(passphrase)
    fleet = make_fleet(tmp_path / "fleet", devices=["door-01"]).folder
    seen = b""
    for arguments in (
        ["init", str(tmp_path / "another")],
        ["list", str(fleet)],
        ["show", str(fleet), "door-01"],
        ["audit", str(fleet)],
        ["backup", str(fleet), str(tmp_path / "backup")],
        ["restore", str(tmp_path / "backup"), str(tmp_path / "again")],
        ["list", str(tmp_path / "backup")],
    ):
        with subprocess.Popen(
            [sys.executable, "-m", "provisioning.cli", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
        ) as process:
            seen += Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert process.stdout is not None
            seen += process.stdout.read()
    seen += (tmp_path / "backup").read_bytes()
    found = {
        secret
        for folder in (fleet, tmp_path / "another", tmp_path / "again")
        for secret in secrets_of(folder)
    }
    assert len(found) > 20
    assert not [secret for secret in found if secret in seen]
