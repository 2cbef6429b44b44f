"""What a power cut leaves, between any two steps of what happens rarely: nothing is lost, doubled or half done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import pytest

from edge import steps
from edge.errors import CannotRecord
from edge.steps import Step
from edge.trust.receipts import Receipt, central_urn
from edge.trust.tokens import ATTENDANCE, SKIP, START, TAMPER, Event
from edge.uplink.forks import FORMER_AT_ONCE, give_up_chain
from edge.uplink.glimpse import glimpse
from edge.uplink.outbox import Outbox, Resend
from edge.uplink.recorder import Recorder
from edge.uplink.salvage import damage, open_outbox, sound
from edge.uplink.schema import SCHEMA_VERSION
from tests.chains import recorder_on, somebody
from tests.servers import event_of
from torture.plan import ELSEWHERE

OLD = Path(__file__).parent / "outboxes"


class PowerCut(Exception):
    """The process is gone; nothing after it happens."""


@contextmanager
def cut_at(step: Step) -> Iterator[list[Step]]:
    """The power goes when this step is reached; yields the steps that were."""
    seen: list[Step] = []

    def watch(reached: StrEnum) -> None:
        seen.append(Step(reached))
        if reached is step:
            raise PowerCut

    steps.watcher = watch
    try:
        yield seen
    finally:
        steps.watcher = None


def after_a_cut_at(step: Step, path: Path, act: Callable[[Recorder], object]) -> None:
    """Do it, lose power there, and do it again, as the next start does."""
    with Outbox(path) as outbox, cut_at(step) as seen, pytest.raises(PowerCut):
        act(recorder_on(outbox))
    assert seen[-1] is step
    with Outbox(path) as outbox:
        act(recorder_on(outbox))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An outbox with a start and three attendances, of which the start is acknowledged."""
    path = tmp_path / "outbox.db"
    with Outbox(path) as outbox:
        recorder = recorder_on(outbox)
        recorder.start("1.0")
        for number in range(3):
            recorder.attendance(somebody(f"E{number}"))
        head = outbox.head()
        assert outbox.take_receipt(head.chain, 1, str(outbox.hash_at(1)), at_real_ms=1)
    return path


def events(outbox: Outbox) -> list[Event]:
    return [event_of(event.token) for event in outbox.held(0, 1000)]


def check_links(outbox: Outbox) -> None:
    """Every event names the hash of the one before, and the head is the last."""
    held = outbox.held(0, 1000)
    assert [event.seq for event in held] == list(range(1, len(held) + 1))
    for before, event in pairwise(held):
        assert event_of(event.token).prev == outbox.hash_at(before.seq)
    assert outbox.head().seq == len(held)


def is_unsound(receipt_seq: int, chain: str) -> Receipt:
    return Receipt(central_urn("central-1"), "urn:hadir:device:door-01", 1, chain, receipt_seq, "B" * 43, ())


def give_up(recorder: Recorder) -> None:
    """As the publisher does it: at the receipt, and then a little at every turn."""
    head = recorder.outbox.head()
    if head.chain == FIRST[0]:
        give_up_chain(recorder, is_unsound(99, head.chain), lambda: None)
    while recorder.sign_former(1):
        pass


FIRST = [""]
"""The chain that is given up: the server goes on saying so until the board has another."""


@pytest.mark.parametrize(
    "step",
    [
        Step.FORK_SEEN,
        Step.FORK_FROZEN,
        Step.CHAIN_WRITTEN,
        Step.CHAIN_BEGUN,
        Step.FORMER_WRITTEN,
        Step.FORMER_SIGNED,
    ],
)
def test_a_new_chain_has_every_unreceipted_event_once_wherever_the_power_goes(path: Path, step: Step) -> None:
    with Outbox(path) as outbox:
        FIRST[0] = outbox.head().chain
    after_a_cut_at(step, path, give_up)
    with Outbox(path) as outbox:
        told = events(outbox)
        check_links(outbox)
        assert [event.type for event in told] == [START, TAMPER, ATTENDANCE, ATTENDANCE, ATTENDANCE]
        assert [event.was.seq if event.was else 0 for event in told] == [0, 0, 2, 3, 4]
        assert outbox.waiting_count() == 5
    kept = sorted(path.parent.glob("outbox-*.db"))
    assert len(kept) == (2 if step in (Step.FORK_FROZEN, Step.CHAIN_WRITTEN) else 1)
    for frozen in kept:
        with Outbox(frozen) as outbox:
            assert [event.seq for event in events(outbox)] == [1, 2, 3, 4]


def test_a_chain_that_is_given_up_twice_keeps_where_each_event_was_first(path: Path) -> None:
    with Outbox(path) as outbox:
        recorder = recorder_on(outbox)
        first = outbox.head().chain
        give_up_chain(recorder, is_unsound(99, first), lambda: None)
        recorder.sign_former(1)
        second = outbox.head().chain
        give_up_chain(recorder, is_unsound(99, second), lambda: None)
        while recorder.sign_former(FORMER_AT_ONCE):
            pass
        was = [(event.was.chain, event.was.seq) for event in events(outbox) if event.was]
        check_links(outbox)
    assert sorted(was) == sorted([(first, 2), (first, 3), (first, 4), (second, 1), (second, 2)])


def test_what_speaks_of_its_own_chain_or_cannot_be_read_stays_in_the_frozen_file(path: Path) -> None:
    with Outbox(path) as outbox:
        recorder = recorder_on(outbox)
        recorder.skip(2, str(outbox.hash_at(2)), "too-large")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE event SET token = CAST(x'ff00ff' AS TEXT) WHERE seq = 3")
    with Outbox(path) as outbox:
        recorder = recorder_on(outbox)
        give_up_chain(recorder, is_unsound(99, outbox.head().chain), lambda: None)
        assert recorder.sign_former(FORMER_AT_ONCE) == 3
        assert [event.was.seq for event in events(outbox) if event.was] == [4]


@pytest.mark.parametrize("step", [Step.RECEIPT_WRITTEN, Step.RECEIPT_KEPT])
def test_a_receipt_is_taken_whole_or_not_at_all(path: Path, step: Step) -> None:
    with Outbox(path) as outbox:
        head, right = outbox.head(), str(outbox.hash_at(3))
        with cut_at(step), pytest.raises(PowerCut):
            outbox.take_receipt(head.chain, 3, right, at_real_ms=5)
    with Outbox(path) as outbox:
        taken = step is Step.RECEIPT_KEPT
        assert outbox.head().acked_seq == (3 if taken else 1)
        assert [event.seq for event in outbox.waiting(0, 9)] == ([4] if taken else [2, 3, 4])
        assert outbox.take_receipt(head.chain, 3, right, at_real_ms=6) is not taken


def test_a_receipt_that_does_not_fit_deletes_nothing(path: Path) -> None:
    with Outbox(path) as outbox:
        chain, right = outbox.head().chain, str(outbox.hash_at(3))
        assert not outbox.take_receipt("A" * 22, 3, right, at_real_ms=5)
        assert not outbox.take_receipt(chain, 3, "A" * 43, at_real_ms=5)
        assert not outbox.take_receipt(chain, 9, right, at_real_ms=5)
        assert not outbox.take_receipt(chain, 1, right, at_real_ms=5)
        assert outbox.waiting_count() == 3


def test_an_event_that_is_set_aside_is_told_of_or_not_set_aside(path: Path) -> None:
    def skip(recorder: Recorder) -> None:
        recorder.skip(2, str(recorder.outbox.hash_at(2)), "too-large")

    for step, told in ((Step.HEAD_MOVED, 0), (Step.SET_ASIDE, 1)):
        with Outbox(path) as outbox, cut_at(step), pytest.raises(PowerCut):
            skip(recorder_on(outbox))
        with Outbox(path) as outbox:
            assert [event.type for event in events(outbox)].count(
                SKIP
            ) == 2 * told  # in its place, and in its own


@pytest.mark.parametrize("step", [Step.RESEND_WRITTEN, Step.RESEND_ASKED])
def test_a_wish_to_send_again_is_kept_or_was_never_made(path: Path, step: Step) -> None:
    with Outbox(path) as outbox, cut_at(step), pytest.raises(PowerCut):
        outbox.ask_resend(1)
    with Outbox(path) as outbox:
        assert outbox.resend() == (Resend(1, 4) if step is Step.RESEND_ASKED else None)


@pytest.mark.parametrize("step", [Step.RESENT_WRITTEN, Step.RESENT])
def test_a_wish_is_fulfilled_or_still_there(path: Path, step: Step) -> None:
    with Outbox(path) as outbox:
        wish = outbox.ask_resend(1)
        with cut_at(step), pytest.raises(PowerCut):
            outbox.resent(wish)
    with Outbox(path) as outbox:
        assert outbox.resend() == (None if step is Step.RESENT else wish)


def old_outbox(path: Path, version: int) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript((OLD / f"version-{version}.sql").read_text())
    return path


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
@pytest.mark.parametrize("step", [None, Step.OUTBOX_UPGRADING, Step.OUTBOX_UPGRADED])
def test_an_outbox_of_every_earlier_version_goes_on_where_it_was(
    tmp_path: Path, version: int, step: Step | None
) -> None:
    path = old_outbox(tmp_path / "outbox.db", version)
    before = glimpse(path)
    if step is not None:
        with cut_at(step), pytest.raises(PowerCut):
            Outbox(path)
    with Outbox(path) as outbox:
        assert [event.seq for event in outbox.waiting(0, 9)] == [3, 5]
        assert not any(event.fault for event in outbox.held(0, 9))
        assert (outbox.head().chain, outbox.head().acked_seq) == (before.chain, 2)
        recorder_on(outbox).attendance(somebody())
        check_links(outbox)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_there_is_an_old_outbox_of_every_version() -> None:
    assert {path.stem for path in OLD.glob("*.sql")} >= {f"version-{n}" for n in range(1, SCHEMA_VERSION)}


def damaged(path: Path, events: int) -> bytes:
    """An outbox that did not end well, with a page in its middle written over; its content."""
    with Outbox(path) as outbox:
        recorder = recorder_on(outbox)
        for _ in range(events):
            recorder.attendance(somebody())
        outbox.mark_run("boot-a", clean=False)
    content = bytearray(path.read_bytes())
    page = len(content) // 4096 // 2 * 4096
    content[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    return bytes(content)


def healed(path: Path) -> None:
    """As a start of the daemon does it."""
    recorder = sound(recorder_on(open_outbox(path)))
    while recorder.sign_former(FORMER_AT_ONCE):
        pass
    recorder.outbox.close()


@pytest.mark.parametrize("step", [None, Step.SALVAGED, Step.DAMAGED_KEPT])
def test_a_damaged_file_is_kept_and_what_can_be_read_goes_on_in_a_new_chain(
    path: Path, step: Step | None, caplog: pytest.LogCaptureFixture
) -> None:
    content = damaged(path, 200)
    if step is not None:
        with cut_at(step), pytest.raises(PowerCut):
            healed(path)
    healed(path)
    with Outbox(path) as outbox:
        told = events(outbox)
        check_links(outbox)
        assert [event.type for event in told[:2]] == [START, TAMPER]
        assert (told[0].payload["cause"], told[1].payload["kind"]) == ("database", "database")
        was = [event.was.seq for event in told if event.was]
        assert 150 < len(was) < 203
        assert was == sorted(set(was)), "in order, and each once"
        assert {2, 203} <= set(was), "from both sides of the damage"
        assert 1 not in was, "that was delivered"
    (kept,) = path.parent.glob("outbox-damaged-*.db")
    assert kept.read_bytes() == content
    assert not path.with_name("outbox.new").exists()


def test_a_sound_outbox_is_left_as_it_is_after_a_power_cut_too(path: Path) -> None:
    for clean in (True, False):
        with Outbox(path) as outbox:
            outbox.mark_run("boot-a", clean=clean)
            recorder = recorder_on(outbox)
            assert sound(recorder) is recorder
    assert list(path.parent.glob("outbox-*")) == []


def test_an_examination_that_takes_too_long_finds_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE large (text)")
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
            "INSERT INTO large SELECT i FROM n"
        )
        database.execute("CREATE INDEX by_text ON large (text)")
    assert damage(path) == ""
    monkeypatch.setattr("edge.uplink.salvage.EXAMINED_S", -1)
    assert damage(path) == ""


def test_a_damaged_file_that_cannot_be_moved_aside_stays_where_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(path, 200)

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    with Outbox(path) as outbox, monkeypatch.context() as moment:
        moment.setattr(Path, "rename", refuse)
        with pytest.raises(CannotRecord, match="cannot be moved aside"):
            sound(recorder_on(outbox))
    assert path.exists()


def test_every_point_that_the_torture_leaves_out_is_known_here() -> None:
    source = Path(__file__).read_text()
    delivery = Path(__file__).with_name("test_delivery.py").read_text()
    for step in ELSEWHERE - {Step.RECEIPT_VERIFIED}:  # known in memory only: nothing durable changes
        assert f"Step.{step.name}" in source + delivery, step
