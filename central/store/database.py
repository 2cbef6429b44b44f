"""How the database is opened: SQLite in a file of this machine, or PostgreSQL by URL, at the newest schema.

The only place that knows which of the two it is, but for the words of their dialects in
`central.store.statements`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from edge.errors import ConfigError, DatabaseUnavailable

BUSY_S = 30
"""How long a writer waits for another consumer's batch, or for whoever reads a report."""

_MIGRATION_LOCK = 0x4841444952
"""ASCII "HADIR": PostgreSQL's advisory lock under which one of several consumers migrates."""

_SOON = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""libpq waits for ever for a server that went away without a word: seconds, seconds and milliseconds."""


def open_database(url: str, folder: Path) -> Engine:
    """An engine for this URL; a relative SQLite path lies in `folder`. Connects only when it is used.

    Raises:
        ConfigError: the URL is neither SQLite's nor PostgreSQL's, or holds a password.
    """
    address = _address(url, folder)
    if address.get_backend_name() == "sqlite":
        engine = create_engine(address, connect_args={"timeout": BUSY_S})
        event.listen(engine, "do_connect", _refuse_to_create)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "checkout", _check_checked_out)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        address, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_size=2, connect_args=_SOON
    )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: all of it durable, or none of it. Raises DatabaseUnavailable.

    A file that was removed or exchanged takes what is written to it until the last who has it open is gone, and then
    all of it is: so it is looked at before, and after the commit as well.
    """
    with _told(engine), engine.connect() as connection:
        with connection.begin():
            yield connection
        if not is_postgresql(engine) and connection.info[_FILE] != _identity(engine.url.database):
            connection.invalidate()
            raise DatabaseUnavailable(
                f"database {shown(engine)}: its file was removed or exchanged while it was written to; restart what "
                "uses it before you put another there. Nothing of this is acknowledged, and all of it comes again"
            )


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads one state of the database and holds nobody up. Raises DatabaseUnavailable."""
    with _told(engine), engine.connect() as connection:
        options = {"isolation_level": "REPEATABLE READ"} if is_postgresql(engine) else {"hadir_reads": True}
        with connection.execution_options(**options).begin():
            yield connection


def is_postgresql(bind: Engine | Connection) -> bool:
    return bind.dialect.name == "postgresql"


def migrate(engine: Engine, *, make: bool = True) -> tuple[str | None, str]:
    """Bring the schema to this version's; what it was before, and what it is now.

    Without `make`, a file of SQLite must be there: who asks what is stored has mistyped its place otherwise.

    Raises:
        DatabaseUnavailable: it cannot be reached or written.
        ConfigError: a later version of this program made it.
    """
    if make and not is_postgresql(engine):
        with suppress(OSError):  # SQLite says it in its own words a moment later
            Path(engine.url.database or "").touch(0o600)
    with writing(engine) as connection:
        if is_postgresql(engine):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        script = _scripts(connection)
        before, newest = _revision(connection), script.get_current_head()
        if before not in {None, *(revision.revision for revision in script.walk_revisions())}:
            raise ConfigError(
                f"{shown(engine)}: its schema is {before}, which this version does not know; install the version "
                "that made it"
            )
        if before != newest:
            command.upgrade(_settings(connection), "head")
    return before, str(newest)


def shown(engine: Engine) -> str:
    """The database's address as it may be shown."""
    return engine.url.render_as_string(hide_password=True)


def _address(url: str, folder: Path) -> URL:
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(
            "database.url: not a URL; write sqlite:///central.db or postgresql://HOST/NAME"
        ) from error
    if address.password is not None or "password" in address.query:
        raise ConfigError(
            "database.url: a password in it would be readable to whoever reads the file or a message; put it into "
            "~/.pgpass, or let PostgreSQL know the user by peer or certificate"
        )
    if backend == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    if address.drivername != "sqlite" or not address.database:
        raise ConfigError(f"database.url = {url!r}: write sqlite:///central.db or postgresql://HOST/NAME")
    return address.set(database=str(folder / address.database))


_FILE = "file"
"""In a connection's notes: which file it has open."""


def _identity(path: str | None) -> tuple[int, int] | None:
    """Which file lies there; None where there is none."""
    try:
        status = Path(path or "").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _opened(connection: Any) -> tuple[int, int] | None:
    """Which file lies now where this connection has opened one."""
    return _identity(connection.execute("PRAGMA database_list").fetchone()[2])


def _refuse_to_create(dialect: Any, _record: Any, arguments: Any, _options: Any) -> None:
    """A file that is gone while the server runs is to be put back, not begun anew in its place."""
    try:
        Path(arguments[0]).stat()
    except FileNotFoundError as error:
        raise dialect.loaded_dbapi.OperationalError(
            "there is no such file; `hadir-central run` makes it at first, a backup later"
        ) from error
    except OSError:
        return  # SQLite says it in its own words


def _check_checked_out(connection: Any, record: Any, _: Any) -> None:
    """Not to be used again where its file is another: a new connection takes its place."""
    if record.info[_FILE] != _opened(connection):
        raise DisconnectionError


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    record.info[_FILE] = _opened(connection)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that first reads and then writes fails at once where another has written in between.
    reads = connection.get_execution_options().get("hadir_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _settings(connection: Connection) -> Config:
    settings = Config()
    folder = resources.files("central.store") / "migrations"
    settings.set_main_option("script_location", str(folder).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def _scripts(connection: Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(_settings(connection))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _told(engine: Engine) -> Iterator[None]:
    """Database errors in our own words, with what to do."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseUnavailable(
            f"database {shown(engine)}: {str(error.orig).strip()}; check that it runs, has room, and lets this user "
            "in. Nothing that was committed is lost, and what was not is sent again"
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(f"database {shown(engine)}: {error}") from error
