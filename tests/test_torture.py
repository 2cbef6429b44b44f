"""The torture itself: it reaches every point, and its verdict finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from demo.mosquitto import program
from edge import steps
from edge.board.clock import Clock, KernelClock
from edge.records import Attendance, Direction
from edge.steps import Step, reached
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder
from tests.conftest import People
from torture.door import Shot, look_into, watch
from torture.plan import BIRTH, ELSEWHERE, in_one_life, targets
from torture.verdict import History, Run, Snapshot, judge, strangers

ROOT = Path(__file__).parent.parent
SOMEONE = Attendance(track=1, person="E1042", frames=4, similarity=0.71, margin=0.4, seen_mono_ms=9_000)


def test_killed_at_every_point_once_a_board_loses_and_doubles_nothing(people: People) -> None:
    """Real processes, a real broker, the real consumer: one outbox, some forty deaths."""
    command = [sys.executable, "-m", "torture", "--lives", "1", "--random", "0", "--seed", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "fewest_kills_at_a_point        1" in result.stdout


def test_killed_in_twelve_ways_board_server_and_broker_lose_and_double_nothing(people: People) -> None:
    """The same with receipts: a Mosquitto and a `hadir-central run` that die as well."""
    if program() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    chosen = ("--lives", "1", "--ways", "12", "--random", "3", "--workers", "2")
    command = [sys.executable, "-m", "torture.receipts", *chosen]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_point_of_the_road_is_aimed_at() -> None:
    assert {target.step for target in targets(3)} == set(Step) - ELSEWHERE


def test_what_only_a_new_outbox_has_is_aimed_at_while_it_is_new() -> None:
    order = in_one_life(targets(3), Random(1))  # noqa: S311 - to be repeatable
    assert tuple(target.step for target in order[: len(BIRTH)]) == BIRTH
    assert sorted(map(str, order)) == sorted(map(str, targets(3)))


def test_without_a_watcher_coming_by_a_point_does_nothing() -> None:
    assert steps.watcher is None
    reached(Step.COMMITTED)


def test_a_watcher_sees_each_point_as_it_is_come_by(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Step] = []
    monkeypatch.setattr(steps, "watcher", seen.append)
    reached(Step.COMMITTED)
    reached(Step.STOPPED)
    assert seen == [Step.COMMITTED, Step.STOPPED]


@pytest.mark.parametrize("package", ["edge", "central", "provisioning"])
def test_nothing_that_is_installed_can_put_a_watcher_behind_the_points(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path != ROOT / "edge" / "steps.py":
            assert "watcher" not in path.read_text(), path
            assert "torture" not in path.read_text(), path


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A start and two attendances, all delivered."""
    path = tmp_path / "outbox.db"
    clock = Clock(kernel=lambda: KernelClock(synchronised=True, max_error_ms=5))
    identity = DeviceIdentity("door-01", "hq", SigningKey.generate())
    with Outbox(path) as outbox:
        recorder = Recorder(outbox, identity, clock, Direction.IN, "e" * 64, 1, diagnostics=False)
        recorder.start("1.0")
        recorder.attendance(SOMEONE)
        recorder.attendance(SOMEONE)
        outbox.acknowledge([1, 2, 3], at_real_ms=0)
    found = look_into(path)
    assert found is not None
    return found


def history(*snapshots: Snapshot, told: int = 2) -> History:
    seen = History(archive_kept=True)
    for snapshot in snapshots:
        seen.take(snapshot)
    seen.runs.append(Run("", 1, seen.head_seq, told))
    return seen


def findings(snapshot: Snapshot) -> list[dict[str, object]]:
    """As `hadir-central listen --json` tells them."""
    return [
        {
            "verdict": "counted",
            "believed": True,
            "chain": snapshot.chain,
            "seq": seq,
            "hash": token_hash,
            "event": "start" if seq == 1 else "attendance",
        }
        for seq, token_hash in history(snapshot).hashes.items()
    ]


def test_a_chain_that_arrived_whole_is_found_whole(snapshot: Snapshot) -> None:
    verdict = judge(history(snapshot), findings(snapshot))
    assert (verdict.problems, verdict.lost, verdict.doubled) == ((), 0, 0)
    assert (verdict.events, verdict.attendances, verdict.told) == (3, 2, 2)


def test_what_was_sent_twice_and_believed_once_is_no_fault(snapshot: Snapshot) -> None:
    arrived = findings(snapshot)
    arrived.insert(2, arrived[1] | {"verdict": "redelivered", "believed": False})
    verdict = judge(history(snapshot), arrived)
    assert (verdict.problems, verdict.redelivered) == ((), 1)


def test_an_event_that_did_not_arrive_is_lost(snapshot: Snapshot) -> None:
    arrived = findings(snapshot)
    del arrived[1]
    verdict = judge(history(snapshot), arrived)
    assert verdict.lost == 1
    assert "seq 2" in verdict.problems[0]


def test_an_event_that_was_believed_twice_is_doubled(snapshot: Snapshot) -> None:
    arrived = findings(snapshot)
    verdict = judge(history(snapshot), [*arrived, arrived[1]])
    assert verdict.doubled == 1
    assert verdict.problems


@pytest.mark.parametrize("word", ["forked", "broken", "overflowing", "gap"])
def test_what_the_consumer_does_not_believe_fails_the_run(snapshot: Snapshot, word: str) -> None:
    bad = findings(snapshot)[1] | {"verdict": word, "believed": False}
    verdict = judge(history(snapshot), [*findings(snapshot), bad])
    assert any(word in problem for problem in verdict.problems)


def test_what_the_log_called_durable_must_arrive_whatever_the_outbox_says(snapshot: Snapshot) -> None:
    verdict = judge(history(snapshot, told=3), findings(snapshot))
    assert any("told of 3 attendances, 2 arrived" in problem for problem in verdict.problems)


def test_a_token_that_changed_between_two_deaths_is_found(snapshot: Snapshot) -> None:
    changed = replace(snapshot, tokens=dict(snapshot.tokens) | {2: snapshot.tokens[3]})
    verdict = judge(history(snapshot, changed), findings(snapshot))
    assert any("seq 2 was changed" in problem for problem in verdict.problems)


def test_an_event_beyond_its_head_is_found(snapshot: Snapshot) -> None:
    behind = replace(snapshot, head_seq=2)
    verdict = judge(history(behind, told=1), findings(snapshot)[:2])
    assert any("seq 3 lies beyond the head" in problem for problem in verdict.problems)


def test_a_hole_in_the_outbox_is_found(snapshot: Snapshot) -> None:
    tokens = {seq: token for seq, token in snapshot.tokens.items() if seq != 2}
    verdict = judge(history(replace(snapshot, tokens=tokens)), findings(snapshot))
    assert any("held no seq 2" in problem for problem in verdict.problems)


def test_what_waits_at_the_end_is_not_delivered(snapshot: Snapshot) -> None:
    verdict = judge(history(replace(snapshot, waiting=1)), findings(snapshot))
    assert any("1 events wait" in problem for problem in verdict.problems)


def test_events_of_a_chain_that_no_outbox_holds_are_found(snapshot: Snapshot) -> None:
    assert strangers([snapshot.chain], findings(snapshot)) == []
    assert len(strangers(["another"], findings(snapshot))) == 1


def test_where_no_outbox_was_born_there_is_nothing_to_see(tmp_path: Path) -> None:
    assert look_into(tmp_path / "outbox.db") is None
    (tmp_path / "outbox.db").touch()
    assert look_into(tmp_path / "outbox.db") is None


def test_what_a_board_says_in_one_breath_with_ready_is_heard() -> None:
    """Read ahead with that line, it was lost: attendances that had been told of were not counted."""
    breath = "INFO ready: device=door-01\\nINFO attendance: track=1\\nINFO attendance: track=2\\n"
    death = watch([sys.executable, "-c", f"import os; os.write(2, b'{breath}')"])
    assert (death.code, death.told) == (0, 2)


def test_a_board_is_killed_so_long_after_it_was_ready() -> None:
    program = "import sys, time; print('INFO ready: x', file=sys.stderr, flush=True); time.sleep(60)"
    assert watch([sys.executable, "-c", program], Shot(0.01)).killed
