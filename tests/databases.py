"""The databases that the server's tests run on, each test with an empty one at the newest schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from central.store.database import migrate, open_database
from demo.postgresql import QUICK, Cluster, cluster, programs

NAMES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """One throw-away cluster for all tests of a process."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    with cluster(folder, QUICK) as running:
        yield running


@pytest.fixture(params=NAMES)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind; SQLite's lies in the folder of whoever opens it."""
    if request.param == "sqlite":
        return "sqlite:///central.db"
    running: Cluster = request.getfixturevalue("postgresql")
    return running.new_database()


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    with opened(database_url, tmp_path) as found:
        yield found


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Engine]:
    """An engine at the newest schema, closed at the end: an open connection would warn, and warnings are errors."""
    found = open_database(url, folder)
    try:
        migrate(found)
        yield found
    finally:
        found.dispose()
