"""Sample people for the demo and the tests, from a package that pip can fetch.

The source package of `face_recognition` 1.3.0 carries official portraits of two presidents
of the United States, taken by White House photographers and therefore in the public
domain: three of the 44th (an official portrait, one at a lectern, one full length), one
of the 46th. They go by ids here, as everybody does in Hadir. No photograph is part of
this project; they lie in a cache and are checked at every use.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from edge.errors import RetryLater

PACKAGE = "face_recognition==1.3.0"
ARCHIVE = "face_recognition-1.3.0.tar.gz"
ARCHIVE_SHA256 = "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec"
DOWNLOAD_TIMEOUT_S = 300
"""3 MB, and setuptools to read the package's metadata with; pip has shorter timeouts of its own."""

_PORTRAITS = {
    "P44": {
        "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
        "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
        "obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
    },
    "P46": {"biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c"},
}


def sample_people(cache: Path | None = None) -> dict[str, tuple[Path, ...]]:
    """Photographs by person id; fetched by the first call, from the cache afterwards.

    Each shows one person, upright and facing the camera, with a face 240 to 290 px wide.

    Args:
        cache: where they are kept; `default_cache()` if not given. Two processes may use
            the same one at once.

    Raises:
        RetryLater: the package is not in the cache and pip cannot fetch it.
    """
    folder = cache if cache is not None else default_cache()
    # Looked at before anything is locked: a cache that is whole may be read-only.
    if _missing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            for path in _missing(folder):
                _extract(_archive(folder), path)
    return {
        person: tuple(folder / person / name for name in portraits)
        for person, portraits in _PORTRAITS.items()
    }


def default_cache() -> Path:
    """`sample-people` in the folder that HADIR_CACHE names, or in the repository's `.cache`."""
    root = os.environ.get("HADIR_CACHE")
    return (Path(root) if root else Path(__file__).resolve().parents[1] / ".cache") / "sample-people"


def _missing(folder: Path) -> tuple[Path, ...]:
    """Which photographs are not there, or not as they should be."""
    return tuple(
        folder / person / name
        for person, portraits in _PORTRAITS.items()
        for name, sha256 in portraits.items()
        if not _is(folder / person / name, sha256)
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lets one process at a time fetch, so that parallel tests do not download twice."""
    with (folder / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _archive(folder: Path) -> Path:
    """The package's archive, which stays in the cache: a damaged photograph needs no network then."""
    archive = folder / ARCHIVE
    if not _is(archive, ARCHIVE_SHA256):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _download(Path(scratch), archive)
            (Path(scratch) / ARCHIVE).replace(archive)
    return archive


def _download(scratch: Path, archive: Path) -> None:
    """Let pip fetch the archive, by the index that this machine is set up for.

    pip compares the hash before it runs anything of the package. It then reads the metadata
    by the package's own setup.py, which cannot be turned off; with build isolation, its
    default, that works also where setuptools is not installed (Python 3.12 and later). Only this
    package is asked for as source: `:all:` would build setuptools itself from source, too.
    """
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="ascii")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    what = [
        "--no-deps",
        "--no-binary",
        "face_recognition",
        "--require-hashes",
        "--requirement",
        str(requirement),
    ]
    try:
        done = subprocess.run(
            [*pip, *what, "--dest", str(scratch)],
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        complaint = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    except subprocess.TimeoutExpired:
        complaint = [f"no answer within {DOWNLOAD_TIMEOUT_S} s"]
    if not _is(scratch / ARCHIVE, ARCHIVE_SHA256):
        raise RetryLater(
            f"sample people: pip cannot fetch {PACKAGE} ({complaint[0]}). Connect this machine to its package "
            f"index and try again, or copy {ARCHIVE} (sha256 {ARCHIVE_SHA256[:16]}…) to {archive}"
        )


def _extract(archive: Path, target: Path) -> None:
    """Take one member out by its full name; nothing in the archive says where it is written to."""
    member = f"{ARCHIVE.removesuffix('.tar.gz')}/tests/test_images/{target.name}"
    with tarfile.open(archive) as members:
        # The archive's hash was compared: the member is there, and a file.
        data = cast(IO[bytes], members.extractfile(member)).read()
    target.parent.mkdir(exist_ok=True)
    scratch = target.with_suffix(".part")
    scratch.write_bytes(data)
    scratch.replace(target)


def _is(path: Path, sha256: str) -> bool:
    """Whether the file is there with just this content."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except FileNotFoundError:
        return False
