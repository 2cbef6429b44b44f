"""The torture of board, server and broker: what it aims at, keeps alive and reads is what it should be."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from central.steps import Step as CentralStep
from edge.steps import Step
from torture.aim import Aim, Trigger, take_aim
from torture.kept import Kept
from torture.receipts import BOARD_STEPS, TARGETS, VICTIMS, Outcome, figures, report
from torture.stored import read_stored

SERVES = "import time; print('serves', flush=True); time.sleep(60)"


def test_each_of_three_dies_at_every_point_between_frame_and_receipt() -> None:
    assert len(TARGETS) == len(VICTIMS) * (len(BOARD_STEPS) + len(CentralStep))
    order = list(Step)
    assert [order.index(step) for step in BOARD_STEPS[-3:]] == sorted(map(order.index, BOARD_STEPS[-3:]))


def test_a_trigger_shoots_at_the_nth_coming_by_and_takes_its_aim_away(tmp_path: Path) -> None:
    aim = tmp_path / "aim"
    trigger = Trigger(aim)
    trigger(Step.COMMITTED)  # nothing is aimed at
    with subprocess.Popen([sys.executable, "-c", SERVES], stdout=subprocess.PIPE) as victim:
        take_aim(aim, Aim(Step.COMMITTED, hit=2, victim=victim.pid))
        trigger(Step.SIGNED)
        trigger(Step.COMMITTED)
        assert victim.poll() is None
        trigger(Step.COMMITTED)
        assert victim.wait(20) == -signal.SIGKILL
    assert not aim.exists()


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[[str], Kept]]:
    kept: list[Kept] = []

    def start(program: str) -> Kept:
        command = (sys.executable, "-c", program)
        kept.append(Kept("server", command, tmp_path / "log", lambda said: "serves" in said))
        return kept[-1]

    yield start
    for one in kept:
        one.stop()


def test_what_was_killed_is_started_again(keep: Callable[[str], Kept]) -> None:
    server = keep(f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); {SERVES}")
    assert server.wait_until_ready()
    first = server.pid
    server.kill()
    while server.pid == first:
        time.sleep(0.01)
    assert server.wait_until_ready()
    server.stop()
    assert server.problems == []


def test_what_ends_by_itself_is_a_problem_and_stays_dead(keep: Callable[[str], Kept]) -> None:
    server = keep("import sys; sys.exit('no such key')")
    assert not server.wait_until_ready()
    assert server.problems == ["server ended by itself with 1: no such key"]


def test_a_server_that_finds_no_broker_yet_is_started_again(
    keep: Callable[[str], Kept], tmp_path: Path
) -> None:
    """Regression: a server that was killed came back while the broker was dead as well, and that was a problem."""
    server = keep(
        "import os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: exit(0))\n"
        f"if not os.path.exists({str(tmp_path / 'broker')!r}):\n"
        f"    open({str(tmp_path / 'broker')!r}, 'w').close()\n"
        f"    sys.exit(69)\n{SERVES}"
    )
    assert server.wait_until_ready()
    server.stop()
    assert server.problems == []


def test_a_server_that_leaves_once_it_has_served_is_a_problem_whatever_it_says(
    keep: Callable[[str], Kept],
) -> None:
    server = keep("import sys; print('serves', flush=True); sys.exit(69)")
    while server.wait_until_ready():
        pass  # it has said that it serves, and is about to leave
    assert server.problems == ["server ended by itself with 69: serves"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two chains as the server keeps them, the second held back from seq 2 on."""
    path = tmp_path / "central.db"
    made = sqlite3.connect(path)
    made.executescript(
        "CREATE TABLE chain (id, chain, seq, held_from); CREATE TABLE event (chain_id, seq, hash, type);"
        "CREATE TABLE evidence (reason); CREATE TABLE gone (reason, first_seq, last_seq);"
        "CREATE TABLE alert (kind, device, detail, closed_ms);"
        "INSERT INTO chain VALUES (1, 'one', 2, NULL), (2, 'two', 2, 2);"
        "INSERT INTO event VALUES (1, 1, 'a', 'start'), (1, 2, 'b', 'attendance'), (1, 4, 'd', 'attendance'),"
        " (2, 1, 'x', 'start'), (2, 2, 'y', 'attendance');"
    )
    made.close()
    return path


def test_what_counts_is_what_is_in_order_and_not_held_back(database: Path) -> None:
    stored = read_stored(database)
    believed = [(finding["chain"], finding["seq"]) for finding in stored.findings if finding["believed"]]
    assert believed == [("one", 1), ("one", 2), ("two", 1)]
    assert [finding["verdict"] for finding in stored.findings if not finding["believed"]] == [
        "waiting",
        "held",
    ]
    assert stored.problems == ()


def test_what_should_not_be_there_after_honest_boards_is_told(database: Path) -> None:
    made = sqlite3.connect(database)
    with made:
        made.execute("INSERT INTO evidence VALUES ('bad-claims')")
        made.execute("INSERT INTO gone VALUES ('lost', 3, 3)")
        made.execute(
            "INSERT INTO alert VALUES ('gap', 'door-01', 'seq 3', NULL), ('gap', 'door-01', 'seq 2', 1)"
        )
    made.close()
    assert len(read_stored(database).problems) == 3


def test_a_report_names_what_went_wrong_and_fails() -> None:
    outcome = Outcome(problems=["the server did not serve"])
    assert "FAIL  the server did not serve" in report(outcome)
    assert figures(outcome)["fewest_kills"].value == 0
    assert figures(outcome)["problems"].value == 1
