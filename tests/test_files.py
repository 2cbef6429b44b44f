"""Private files: readable by their owner alone, and nobody else can put another in their place."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.errors import KeyFileError
from edge.files import check_private, create_durably, read_bounded, write_durably


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir(mode=0o700)
    made = tmp_path / "place" / "secret"
    write_durably(made, b"secret")
    return made


def checked(path: Path) -> None:
    check_private(path, path.stat())


def test_a_file_of_ones_own_in_a_folder_of_ones_own_is_private(path: Path) -> None:
    checked(path)
    path.parent.chmod(0o755)
    checked(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_one_that_others_can_read_says_what_it_should_be(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{path}: mode {mode:04o} is readable by others; run: chmod 600"):
        checked(path)


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o722])
def test_a_folder_in_which_others_can_replace_it_says_what_it_should_be(path: Path, mode: int) -> None:
    path.parent.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{path.parent}: mode {mode:04o} lets others put .* chmod go-w"):
        checked(path)


def test_where_a_link_leads_is_looked_at_as_well(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "key.pem"
    target.parent.mkdir(0o700)
    target.touch(0o600)
    link = tmp_path / "key.pem"
    link.symlink_to(target)
    check_private(link, link.stat())
    target.parent.chmod(0o777)
    with pytest.raises(KeyFileError, match=f"{target.parent}: mode 0777 lets others put a file in place"):
        check_private(link, link.stat())


def test_a_folder_like_tmp_protects_what_is_ones_own_in_it(path: Path) -> None:
    path.parent.chmod(0o777 | stat.S_ISVTX)
    checked(path)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_refused(path: Path, which: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    given = path if which == "file" else path.parent
    os.chown(given, 12345, 12345)
    with pytest.raises(KeyFileError, match=f"{given}: belongs to user 12345.* must belong to"):
        checked(path)


def test_a_file_is_written_whole_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_durably(tmp_path / "a", b"one")
        write_durably(tmp_path / "a", b"two")
        create_durably(tmp_path / "b", b"three", 0o644)
    finally:
        os.umask(before)
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"two", b"three")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes == [0o600, 0o644]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"], "nothing half-written is left"


def test_what_exists_is_not_created_again(tmp_path: Path) -> None:
    create_durably(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        create_durably(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    for name in ("a", f"a.{os.getpid()}-{threading.get_native_id()}.new"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    write_durably(tmp_path / "a", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert not (tmp_path / "a").is_symlink()


def test_what_is_longer_than_its_kind_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        read_bounded(tmp_path / "a", 4)


def test_many_may_write_one_file_at_once_and_it_is_always_somebodys_whole(tmp_path: Path) -> None:
    """A command that adds a board beside `serve`, for one: both write what servers verify against."""
    path = tmp_path / "devices.jwks"
    contents = {bytes([letter]) * 20_000 for letter in b"abcdef"}

    def write(content: bytes) -> None:
        for _ in range(20):
            write_durably(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert [each.name for each in tmp_path.iterdir()] == ["devices.jwks"]


def test_what_a_dead_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"a.{dead.pid}-{dead.pid}.new").write_bytes(b"half")
    (tmp_path / f"a.{os.getpid()}-1.new").write_bytes(b"of somebody who lives")
    write_durably(tmp_path / "a", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", f"a.{os.getpid()}-1.new"]
