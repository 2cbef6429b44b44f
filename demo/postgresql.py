"""A throw-away PostgreSQL for tests, torture and benchmarks, where it is installed: a socket in a folder, no traces."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from edge.errors import DatabaseUnavailable

QUICK = {"fsync": "off", "full_page_writes": "off"}
"""For tests, which lose nothing in a power cut; a benchmark must not use it."""

OWNER = "hadir"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server, and a new database for whoever asks."""

    socket: Path
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_database(self, copy_of: str | None = None) -> str:
        """The URL of an empty database, or of a copy of another, to which nobody is connected."""
        name = f"hadir_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(
            host=str(self.socket), user=OWNER, dbname="postgres", autocommit=True
        ) as connection:
            template = "template1" if copy_of is None else urlsplit(copy_of).path[1:]
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return f"postgresql://{OWNER}@/{name}?host={self.socket}"


def programs() -> Path | None:
    """The folder of initdb and postgres, the newest; None where they are not installed. Debian hides them from PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    known = shutil.which("initdb")
    return None if known is None else Path(known).resolve().parent


@contextmanager
def cluster(folder: Path, settings: dict[str, str] | None = None) -> Iterator[Cluster]:
    """Run a cluster with these settings until the end.

    As root it is started as `nobody`, because initdb refuses root. Raises DatabaseUnavailable
    with its own words where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="hadir-postgresql-") as name:
        place = Path(name)
        user = _give_to_nobody(place)
        _run(
            user,
            place,
            folder / "initdb",
            "-D",
            place / "data",
            "-U",
            OWNER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        )
        chosen = {"listen_addresses": "", "unix_socket_directories": str(place), "max_connections": "50"}
        options = " ".join(f"-c {key}='{value}'" for key, value in (chosen | (settings or {})).items())
        control = (folder / "pg_ctl", "-D", place / "data", "-w", "-l", place / "log")
        _run(user, place, *control, "-o", options, "start")
        try:
            yield Cluster(place)
        finally:
            _run(user, place, *control, "-m", "immediate", "stop")


def _give_to_nobody(folder: Path) -> int | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid


def _run(user: int | None, folder: Path, *command: str | Path) -> None:
    with (folder / "output").open("wb") as output:
        ended = subprocess.run(
            command,
            cwd="/",
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            extra_groups=None if user is None else [],
            check=False,
        )
    if ended.returncode != 0:
        said = (folder / "output").read_text(errors="replace")
        raise DatabaseUnavailable(f"PostgreSQL: {Path(command[0]).name} failed: {said}")
