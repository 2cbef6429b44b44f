"""A folder that is made whole or not at all: what is left of one whose maker was killed goes, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.boards import PASSPHRASE, make_fleet
from edge.errors import KeyFileError
from provisioning.backup import back_up
from provisioning.cli import main
from provisioning.whole import make_whole, remove_left

ROOT = Path(__file__).parents[1]


def killed(folder: Path) -> Path:
    """What a restore leaves that was killed when the keys were there."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from provisioning.whole import make_whole\n"
        "def fill(scratch):\n"
        "    (scratch / 'root.pem').write_text('a key')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "make_whole(Path(sys.argv[1]), fill)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(folder)], check=False, cwd=ROOT)
    assert result.returncode == -signal.SIGKILL
    (left,) = (path for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}"))
    assert (left / "root.pem").exists()
    return left


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fleet"


def test_what_a_killed_restore_left_is_removed_by_the_next(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a folder with the fleet's keys stayed beside it for ever, and nobody was told."""
    monkeypatch.setenv("HADIR_PASSPHRASE", PASSPHRASE)
    back_up(make_fleet(folder), folder.with_name("backup"), now_s=1)
    again = folder.with_name("again")
    left = killed(again)
    assert main(["restore", str(folder.with_name("backup")), str(again)]) == 0
    assert not left.exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["again", "backup", "fleet"]


def test_any_command_for_the_fleet_removes_it_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = killed(folder)
    assert main(["list", str(folder)]) == KeyFileError.exit_code
    assert f"{left}: removed; an `init` or `restore` was killed" in caplog.text
    assert not left.exists()


def test_what_is_being_made_is_left_alone(folder: Path) -> None:
    def fill(scratch: Path) -> None:
        remove_left(folder)
        (scratch / "whole").touch()

    make_whole(folder, fill)
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_folders_of_others_and_of_other_names_stay(folder: Path) -> None:
    left = killed(folder)
    others = [folder.with_name(name) for name in (".fleet-backup", ".fleet2.hadir-making-abc", "fleet-2")]
    for path in others:
        path.mkdir(mode=0o700)
    link = folder.with_name(".fleet.hadir-making-link")
    link.symlink_to(others[0])
    shared = folder.with_name(".fleet.hadir-making-shared")
    shared.mkdir()
    shared.chmod(0o755)
    remove_left(folder)
    assert not left.exists()
    assert all(path.is_dir() for path in (*others, link, shared))


def test_what_cannot_be_removed_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = killed(folder)

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refuse)
    remove_left(folder)
    assert (
        f"{left}: left by an `init` or `restore` that was killed, and may hold keys; remove it" in caplog.text
    )
