"""An event is committed before anything else happens to it, and nothing removes it but delivery."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.board.clock import RELEASED_REAL_MS
from edge.errors import CannotRecord
from edge.records import ChainPosition, SignedToken
from edge.trust.jws import token_hash
from edge.uplink.glimpse import _damage, glimpse, holder
from edge.uplink.outbox import Outbox, PreviousRun, StoredEvent


def signed(position: ChainPosition) -> SignedToken:
    """A stand-in for a signature that shows which place it was made for."""
    text = f"token-{position.seq}-prev-{position.prev}-low-{position.low}."
    return SignedToken(compact=text, hash=token_hash(text))


def fill(outbox: Outbox, count: int) -> list[StoredEvent]:
    return [outbox.append(signed, made_real_ms=1000 + i) for i in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def seqs(outbox: Outbox) -> list[int]:
    return [event.seq for event in outbox.waiting(0, 1000)]


def test_events_are_numbered_from_one_without_a_gap_and_each_names_the_one_before(path: Path) -> None:
    positions: list[ChainPosition] = []

    def remembering(position: ChainPosition) -> SignedToken:
        positions.append(position)
        return signed(position)

    with Outbox(path) as outbox:
        for _ in range(3):
            outbox.append(remembering, made_real_ms=0)
        head = outbox.head()
    assert [position.seq for position in positions] == [1, 2, 3]
    assert positions[0].prev is None
    assert positions[1].prev == signed(positions[0]).hash
    assert (head.seq, head.hash) == (3, signed(positions[2]).hash)
    assert len({position.chain for position in positions}) == 1


def test_the_chain_goes_on_after_a_restart_and_a_new_database_is_a_new_chain(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 2)
        chain = outbox.head().chain
    with Outbox(path) as outbox:
        assert outbox.head().chain == chain
        assert fill(outbox, 1)[0].seq == 3
    with Outbox(path.with_name("other.db")) as other:
        assert other.head().chain != chain


def test_who_holds_the_file_is_looked_for_and_not_the_disk(path: Path) -> None:
    """Regression: a shell that was left open in a transaction read as a fault of the disk or of its owner."""
    with Outbox(path) as outbox, closing(sqlite3.connect(path, isolation_level=None)) as other:
        outbox._database.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CannotRecord, match="is locked; another program has it open") as refusal:
            fill(outbox, 1)
        assert "disk" not in str(refusal.value)
        other.execute("ROLLBACK")
        fill(outbox, 1)


def test_what_was_appended_is_there_after_a_crash(path: Path) -> None:
    """A second connection sees only what was committed; the first is never closed."""
    crashed = Outbox(path)
    stored = fill(crashed, 3)
    with Outbox(path) as outbox:
        assert list(outbox.waiting(0, 10)) == stored
    crashed.close()


def test_an_event_that_cannot_be_signed_takes_no_number(path: Path) -> None:
    def broken(position: ChainPosition) -> SignedToken:
        raise RuntimeError("no key")

    with Outbox(path) as outbox:
        fill(outbox, 1)
        with pytest.raises(RuntimeError):
            outbox.append(broken, made_real_ms=0)
        assert outbox.head().seq == 1
        assert fill(outbox, 1)[0].seq == 2


def test_an_event_of_more_than_4_kib_is_refused_at_commit(path: Path) -> None:
    def huge(position: ChainPosition) -> SignedToken:
        return SignedToken(compact="x" * 4097, hash="h")

    with Outbox(path) as outbox:
        with pytest.raises(CannotRecord, match="4097 bytes; at most 4096"):
            outbox.append(huge, made_real_ms=0)
        assert outbox.head().seq == 0


def test_acknowledged_events_leave_the_queue_and_stay_in_the_archive(path: Path) -> None:
    with Outbox(path) as outbox:
        stored = fill(outbox, 4)
        outbox.acknowledge([1, 3], at_real_ms=5000)
        assert seqs(outbox) == [2, 4]
        assert outbox.head().acked_seq == 1, "2 is not delivered, so nothing beyond 1 is"
        outbox.acknowledge([2], at_real_ms=6000)
        assert outbox.head().acked_seq == 3
        assert outbox.head().acked_hash == token_hash(stored[2].token)
        assert outbox.prune_archive(acked_before_real_ms=5500) == 2
        assert outbox.prune_archive(acked_before_real_ms=10**15) == 1
        assert seqs(outbox) == [4], "pruning never touches what waits"


def test_the_head_does_not_depend_on_the_rows_that_delivery_removes(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 3)
        before = outbox.head()
        outbox.acknowledge([1, 2, 3], at_real_ms=1)
        outbox.prune_archive(acked_before_real_ms=10)
    with Outbox(path) as outbox:
        after = outbox.head()
        assert (after.chain, after.seq, after.hash) == (before.chain, before.seq, before.hash)
        assert (after.acked_seq, after.acked_hash) == (3, before.hash)
        assert fill(outbox, 1)[0].token == f"token-4-prev-{before.hash}-low-4."


def test_low_is_the_lowest_that_is_still_held_archive_included(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 3)
        outbox.acknowledge([1, 2], at_real_ms=1)
        assert fill(outbox, 1)[0].token.endswith("low-1.")
        outbox.prune_archive(acked_before_real_ms=10)
        assert fill(outbox, 1)[0].token.endswith("low-3.")


def test_acknowledging_twice_or_what_never_was_changes_nothing(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 2)
        outbox.acknowledge([1], at_real_ms=1)
        outbox.acknowledge([1, 99], at_real_ms=2)
        assert outbox.head().acked_seq == 1
        assert seqs(outbox) == [2]


def test_how_the_last_run_ended_is_remembered(path: Path) -> None:
    with Outbox(path) as outbox:
        assert outbox.previous_run() is None
        outbox.mark_run("boot-a", clean=False)
    with Outbox(path) as outbox:
        assert outbox.previous_run() == PreviousRun(boot="boot-a", clean=False)
        outbox.mark_run("boot-a", clean=True)
        assert outbox.previous_run() == PreviousRun(boot="boot-a", clean=True)


def test_several_threads_may_append_and_drain_at_once(path: Path) -> None:
    with Outbox(path) as outbox:
        writers = [threading.Thread(target=fill, args=(outbox, 20)) for _ in range(3)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            outbox.acknowledge([event.seq for event in outbox.waiting(0, 5)], at_real_ms=1)
        assert outbox.head().seq == 60


def test_the_outbox_is_durable_and_private(path: Path) -> None:
    with Outbox(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a database, certainly not one of ours" * 40, "file is not a database"), (b"", None)],
)
def test_a_damaged_file_is_refused_by_name_and_an_empty_one_is_a_beginning(
    path: Path, content: bytes, said: str | None
) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if said is None:
        with Outbox(path) as outbox:
            assert outbox.head().seq == 0
        return
    with pytest.raises(CannotRecord) as refusal:
        Outbox(path)
    assert said in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_database_of_a_later_version_or_another_program_is_left_alone(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 1)
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(CannotRecord, match="schema 99, known up to 2"):
        Outbox(path)
    foreign = path.with_name("foreign.db")
    other = sqlite3.connect(foreign)
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    with pytest.raises(CannotRecord, match="not an outbox"):
        Outbox(foreign)


def test_a_full_disk_refuses_the_event_loudly_and_keeps_the_chain_whole(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 1)
        outbox._database.execute("PRAGMA max_page_count = 1")  # what a full disk looks like to SQLite
        with pytest.raises(CannotRecord, match="database or disk is full"):
            fill(outbox, 500)
        last = outbox.head().seq
        outbox._database.execute("PRAGMA max_page_count = 1000000")
        assert fill(outbox, 1)[0].seq == last + 1


operations = st.lists(
    st.one_of(
        st.just(("append", 0)),
        st.tuples(st.just("acknowledge"), st.integers(1, 12)),
        st.tuples(st.just("prune"), st.integers(0, 30)),
        st.just(("reopen", 0)),
    ),
    max_size=30,
)


@settings(max_examples=40)
@given(operations)
def test_whatever_happens_nothing_unacknowledged_is_ever_gone(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    outbox = Outbox(path)
    appended, acknowledged = 0, set()
    for now, (step, argument) in enumerate(steps):
        if step == "append":
            fill(outbox, 1)
            appended += 1
        elif step == "acknowledge":
            outbox.acknowledge([argument], at_real_ms=now)
            if argument <= appended:
                acknowledged.add(argument)
        elif step == "prune":
            outbox.prune_archive(argument)
        else:
            outbox.close()
            outbox = Outbox(path)
        assert seqs(outbox) == [seq for seq in range(1, appended + 1) if seq not in acknowledged]
        assert outbox.head().seq == appended
    outbox.close()


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def in_a_process_of_its_own(path: Path, *statements: str) -> subprocess.Popen[str]:
    """Opens the outbox, does something with it as `outbox` and keeps it open until its input ends."""
    program = "\n".join(
        (
            "import sys",
            "from pathlib import Path",
            "from edge.records import SignedToken",
            "from edge.uplink.outbox import Outbox",
            f"outbox = Outbox(Path({str(path)!r}))",
            "sign = lambda position: SignedToken(f'token-{position.seq}', f'hash-{position.seq}')",
            *statements,
            "print('ready', flush=True)",
            "sys.stdin.read()",
        )
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@contextmanager
def another_process(path: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    with in_a_process_of_its_own(path, *statements) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_a_look_at_an_outbox_in_use_changes_no_byte_of_it(path: Path) -> None:
    with another_process(
        path, *(f"outbox.append(sign, {ms})" for ms in (500, 600, 700)), "outbox.acknowledge([1], 9)"
    ):
        before = files_of(path)
        seen = glimpse(path)
        assert files_of(path) == before
        assert set(before) == {"outbox.db", "outbox.db-wal", "outbox.db-shm"}
    assert (seen.seq, seen.waiting, seen.oldest_real_ms) == (3, 2, 600)


def test_a_look_after_a_power_cut_sees_what_was_committed_and_leaves_the_recovery_to_the_daemon(
    path: Path,
) -> None:
    with another_process(path, "outbox.append(sign, 500)"):
        pass
    before = files_of(path)
    assert len(before["outbox.db-wal"]) > 0
    assert glimpse(path).waiting == 1
    assert files_of(path) == before


def test_a_look_at_an_outbox_that_was_closed_in_good_order_leaves_no_file(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 2)
    before = files_of(path)
    seen = glimpse(path)
    assert (seen.waiting, files_of(path)) == (2, before)
    assert list(before) == ["outbox.db"]


def test_a_look_at_what_is_no_outbox_names_it_and_makes_none(path: Path) -> None:
    with pytest.raises(CannotRecord, match=r"outbox\.db: the outbox cannot be read"):
        glimpse(path)
    assert not path.exists()
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + b"\xa5" * 5000)
    with pytest.raises(CannotRecord, match=r"outbox\.db: the outbox cannot be read"):
        glimpse(path)
    path.write_bytes(b"")
    with pytest.raises(CannotRecord, match="not an outbox"):
        glimpse(path)


def test_a_look_notices_damage_inside_the_file(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 300)
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(CannotRecord, match=r"damaged|malformed"):
        glimpse(path)


def test_a_look_that_takes_too_long_is_cut_short_and_tells_what_it_has(path: Path) -> None:
    """An archive of months is not read whole while somebody waits at the door."""
    with Outbox(path) as outbox:
        fill(outbox, 3)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE archive_of_months (text)")
        numbers = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n"
        )
        database.execute(f"INSERT INTO archive_of_months {numbers}")
        database.execute("CREATE INDEX by_text ON archive_of_months (text)")
    database.close()
    assert glimpse(path, timeout_s=60).waiting == 3
    assert glimpse(path, timeout_s=-1).waiting == 3


def test_what_sqlite_finds_wrong_with_a_file_that_can_be_read_is_told(path: Path) -> None:
    with Outbox(path) as outbox:
        fill(outbox, 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE notes (text)")
        database.execute("INSERT INTO notes VALUES (NULL)")
        database.execute("PRAGMA writable_schema = ON")
        database.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE notes (text NOT NULL)' WHERE name = 'notes'"
        )
    with pytest.raises(
        CannotRecord, match=r"the outbox is damaged: NULL value in notes\.text; stop the daemon"
    ):
        glimpse(path)


def test_a_file_that_could_not_be_examined_is_not_taken_for_a_sound_one(tmp_path: Path) -> None:
    """Only being out of time is passed over."""
    path = tmp_path / "any.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as owner,
        closing(sqlite3.connect(path, timeout=0)) as looker,
    ):
        owner.execute("CREATE TABLE notes (text)")
        assert _damage(looker, math.inf) == ""
        owner.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            _damage(looker, math.inf)


def test_who_has_the_outbox_open_is_known_while_it_is_open(path: Path) -> None:
    assert holder(path) is None
    with another_process(path) as process:
        assert holder(path) == process.pid
    assert holder(path) is None


def test_events_acknowledged_in_1970_stay_in_the_archive_for_its_time_once_the_clock_is_set(
    path: Path,
) -> None:
    """Named regression: the step from 1970 to today made them look fifty years old."""
    day_ms = 24 * 3600 * 1000
    with Outbox(path) as outbox:
        fill(outbox, 3)
        outbox.acknowledge([1, 2], at_real_ms=60_000)
        today_ms = RELEASED_REAL_MS + 5 * day_ms
        outbox.redate_archive(RELEASED_REAL_MS, at_real_ms=today_ms)
        assert outbox.prune_archive(acked_before_real_ms=today_ms - 30 * day_ms) == 0
        later_ms = today_ms + 31 * day_ms
        outbox.redate_archive(RELEASED_REAL_MS, at_real_ms=later_ms)
        assert outbox.prune_archive(acked_before_real_ms=later_ms - 30 * day_ms) == 2


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 28_671), st.integers(0, 255)), min_size=1, max_size=20))
def test_whatever_bytes_a_bad_card_gives_it_opens_or_says_that_it_cannot(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "outbox.db"
    with Outbox(path) as outbox:
        fill(outbox, 40)
    content = bytearray(path.read_bytes())
    for at, byte in damage:
        content[at % len(content)] = byte
    path.write_bytes(content)
    with suppress(CannotRecord):
        glimpse(path)
    with suppress(CannotRecord), Outbox(path) as outbox:
        outbox.waiting(0, 100)
        fill(outbox, 1)
