"""The sample people are just those that were pinned, wherever they come from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo import people
from demo.__main__ import _parser
from demo.people import ARCHIVE, default_cache, sample_people
from edge.camera.pictures import read_picture
from edge.errors import RetryLater


@pytest.fixture(scope="session")
def archive() -> Path:
    """The package, fetched once for all tests."""
    try:
        sample_people()
    except RetryLater as error:
        pytest.skip(str(error))
    path = default_cache() / ARCHIVE
    if not path.exists():
        pytest.skip(f"{path}: only the photographs are in this cache")
    return path


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", ""])
def test_a_seed_that_is_none_is_refused_by_the_demo(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: `--seed -1` ended with a traceback of the random numbers."""
    with pytest.raises(SystemExit):
        _parser().parse_args(["--seed", seed])
    assert "must be a whole number, 0 or more" in capsys.readouterr().err


@pytest.fixture
def cache(archive: Path, tmp_path: Path) -> Path:
    """A cache of its own that has the package but no photographs yet."""
    shutil.copy(archive, tmp_path)
    return tmp_path


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("pip was run")

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_pip")
def test_there_are_three_photographs_of_one_person_and_one_of_another(cache: Path) -> None:
    found = sample_people(cache)
    assert {person: len(photos) for person, photos in found.items()} == {"P44": 3, "P46": 1}
    for photos in found.values():
        for photo in photos:
            height, width = read_picture(photo).shape[:2]
            assert min(height, width) > 600


@pytest.mark.usefixtures("no_pip")
def test_only_the_portraits_are_taken_out_of_the_package(cache: Path) -> None:
    found = sample_people(cache)
    files = {path for path in cache.rglob("*") if path.is_file()}
    photos = {photo for photos in found.values() for photo in photos}
    assert files == photos | {cache / ARCHIVE, cache / ".lock"}


@pytest.mark.usefixtures("no_pip")
def test_a_photograph_that_was_tampered_with_is_taken_out_again(cache: Path) -> None:
    photo = sample_people(cache)["P44"][1]
    genuine = photo.read_bytes()
    photo.write_bytes(sample_people(cache)["P46"][0].read_bytes())
    assert sample_people(cache)["P44"][1].read_bytes() == genuine


@pytest.mark.usefixtures("no_pip")
def test_a_whole_cache_is_only_read(cache: Path) -> None:
    sample_people(cache)
    (cache / ".lock").unlink()
    (cache / ARCHIVE).unlink()
    sample_people(cache)
    assert not (cache / ".lock").exists()


@pytest.mark.usefixtures("offline")
def test_without_network_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RetryLater) as refused:
        sample_people(tmp_path / "cache")
    message = str(refused.value)
    assert "pip cannot fetch face_recognition==1.3.0 (ERROR: No matching distribution" in message
    assert f"copy {ARCHIVE} (sha256 5e5efdd1686aa566…) to {tmp_path / 'cache' / ARCHIVE}" in message


@pytest.mark.usefixtures("offline")
def test_another_package_under_the_same_name_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    (fakes / ARCHIVE).write_bytes(b"not what was pinned")
    shutil.copy(fakes / ARCHIVE, tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(fakes))
    with pytest.raises(RetryLater, match="pip cannot fetch"):
        sample_people(tmp_path)
    assert not (tmp_path / "P44").exists()


def test_processes_that_fetch_at_once_do_not_disturb_each_other(cache: Path) -> None:
    program = "import sys, pathlib, demo.people as p; print(p.sample_people(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", program, str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert said == [f"{sample_people(cache)}\n"] * 4


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HADIR_CACHE", str(tmp_path))
    assert default_cache() == tmp_path / "sample-people"
    monkeypatch.delenv("HADIR_CACHE")
    assert default_cache() == Path(people.__file__).parents[1] / ".cache" / "sample-people"
