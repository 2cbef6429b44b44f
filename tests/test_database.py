"""The server's database: opened by URL, brought to its schema by numbered steps, and honest about what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from central.server import BATCH
from central.store.database import migrate, open_database, reading, shown, writing
from central.store.tables import metadata
from edge.errors import ConfigError, DatabaseUnavailable
from tests.conftest import unprivileged
from tests.databases import opened
from tests.office import Chain, Office, register


def test_an_empty_database_comes_to_the_newest_schema_and_stays_there(
    database_url: str, tmp_path: Path
) -> None:
    engine = open_database(database_url, tmp_path)
    try:
        assert migrate(engine) == (None, "0002")
        assert migrate(engine) == ("0002", "0002")
    finally:
        engine.dispose()


def test_a_database_of_the_first_schema_comes_to_the_newest_with_all_it_has(database: Engine) -> None:
    with writing(database) as connection:
        connection.execute(text("DROP TABLE registry_taken"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        connection.execute(text("INSERT INTO revocation VALUES ('kid', 1, 'door-01', 7, 8)"))
    assert migrate(database) == ("0001", "0002")
    with reading(database) as connection:
        assert connection.execute(text("SELECT seq FROM revocation")).scalar() == 7
        assert connection.execute(text("SELECT count(*) FROM registry_taken")).scalar() == 0


def test_the_steps_make_just_the_tables_that_the_code_uses(database: Engine) -> None:
    with reading(database) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_a_schema_of_a_later_version_is_left_alone(database: Engine) -> None:
    with writing(database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="its schema is 9999, which this version does not know"):
        migrate(database)


def test_consumers_that_start_together_migrate_once(database_url: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from central.store.database import migrate, open_database\n"
        "print(migrate(open_database(sys.argv[1], Path(sys.argv[2])))[1])"
    )
    command = [sys.executable, "-c", program, database_url, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in started] == ["0002\n"] * 3
    assert {process.returncode for process in started} == {0}


def test_sqlite_is_durable_and_lets_readers_read(tmp_path: Path) -> None:
    with opened("sqlite:///central.db", tmp_path) as engine, reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        with writing(engine) as other:
            other.execute(text("UPDATE chain SET seq = 1"))


def test_a_reader_sees_one_state_from_beginning_to_end(database: Engine) -> None:
    count = text("SELECT count(*) FROM release")
    with reading(database) as connection:
        assert connection.execute(count).scalar() == 0
        with writing(database) as other:
            other.execute(
                text(
                    "INSERT INTO release (device, chain, first_seq, last_seq, who, why, released_ms) "
                    "VALUES ('d', 'c', 1, 1, 'w', 'y', 1)"
                )
            )
        assert connection.execute(count).scalar() == 0
    with reading(database) as connection:
        assert connection.execute(count).scalar() == 1


def test_a_transaction_that_fails_leaves_nothing(database: Engine) -> None:
    def fail() -> None:
        with writing(database) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'x'"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert migrate(database) == ("0002", "0002")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "not a URL"),
        ("central.db", "not a URL"),
        ("oracle://host/name", "not a URL|write sqlite"),
        ("mysql://host/name", "write sqlite"),
        ("sqlite://", "write sqlite"),
        ("sqlite+aiosqlite:///x.db", "write sqlite"),
    ],
)
def test_another_database_is_refused(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        open_database(url, tmp_path)


@pytest.mark.parametrize("url", ["postgresql://hadir:s3cret@db/hadir", "sqlite://:s3cret@/x"])
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pgpass") as refusal:
        open_database(url, tmp_path)
    assert "s3cret" not in str(refusal.value)


def test_a_server_that_is_not_there_is_one_line_with_what_to_do(tmp_path: Path) -> None:
    engine = open_database(f"postgresql://hadir@/hadir?host={tmp_path}", tmp_path)
    with pytest.raises(DatabaseUnavailable, match="check that it runs") as refusal:
        migrate(engine)
    assert shown(engine) in str(refusal.value)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == tmp_path.owner() and parent.name:
            parent.chmod(parent.stat().st_mode | 0o011)
    engine = open_database("sqlite:///central.db", folder)
    try:
        with unprivileged(), pytest.raises(DatabaseUnavailable, match="unable to open database file"):
            migrate(engine)
    finally:
        engine.dispose()


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "central.db").write_text("not a database, but long enough to be looked at by SQLite" * 20)
    engine = open_database("sqlite:///central.db", tmp_path)
    try:
        with pytest.raises(DatabaseUnavailable, match="file is not a database"):
            migrate(engine)
    finally:
        engine.dispose()


@pytest.mark.parametrize("how", ["removed", "exchanged"])
def test_nothing_is_receipted_that_went_into_a_file_that_is_gone(tmp_path: Path, how: str) -> None:
    """Regression: it was, and lost with the server's end: SQLite goes on writing to a file without a name."""
    chain = Chain()
    devices = register(tmp_path / "devices.jwks", chain)
    with opened("sqlite:///central.db", tmp_path) as engine:
        office = Office(engine, devices)
        assert [receipt.seq for receipt in office.take(chain.start())] == [1]
        engine.dispose()
        file, backup = tmp_path / "central.db", tmp_path / "backup"
        shutil.copy(file, backup)
        assert [receipt.seq for receipt in office.take(chain.attend())] == [2]
        for path in tmp_path.glob("central.db*"):
            path.unlink()
        if how == "removed":
            stopping, lost = threading.Event(), chain.attend()
            stopping.set()
            office.desk.receipts.clear()
            assert not office.server.turn(office.desk, [lost], stopping)  # type: ignore[arg-type]
            assert office.desk.receipts == []
            assert not file.exists(), "nothing is begun anew in its place"
        else:
            chain.attend()
        shutil.copy(backup, file)
        assert [receipt.seq for receipt in office.take(chain.message(3))] == [1]
        assert [receipt.seq for receipt in office.take(chain.message(2))] == [3]


def test_what_was_committed_into_a_file_that_went_meanwhile_is_not_called_stored(tmp_path: Path) -> None:
    with opened("sqlite:///central.db", tmp_path) as engine:
        with pytest.raises(DatabaseUnavailable, match="its file was removed or exchanged"), writing(engine):
            (tmp_path / "central.db").unlink()
        with pytest.raises(DatabaseUnavailable, match="there is no such file"), reading(engine):
            pass


def test_what_people_did_is_its_owners_alone_to_read(tmp_path: Path) -> None:
    with opened("sqlite:///central.db", tmp_path):
        assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("central.db*")} == {0}


def test_told_to_stop_while_the_database_is_away_it_ends_at_the_first_try(tmp_path: Path) -> None:
    """Regression: it tried each batch that was left, half a minute long where another writer held the database."""
    chain = Chain()
    with opened("sqlite:///central.db", tmp_path) as engine:
        office = Office(engine, register(tmp_path / "devices.jwks", chain))
        engine.dispose()
        for path in tmp_path.glob("central.db*"):
            path.unlink()
        stopping, start = threading.Event(), chain.start()
        stopping.set()
        office.desk.waiting = [start] * (3 * BATCH)
        office.server.run(office.desk, stopping)  # type: ignore[arg-type]
        assert office.server.counts["database_retries"] == 1
