"""Hostile messages about who somebody is: a small flood of each kind; the large one is `make hostile`."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture.hostile_identity import LOGGED, Outcome, _honest, _offer, main, run
from torture.identity_forgeries import Forged


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(tmp_path_factory.mktemp("flood"), seed=1, messages=60)


def test_each_is_refused_with_a_reason_that_the_log_tells_and_nothing_is_changed(outcome: Outcome) -> None:
    assert outcome.problems == {}
    assert outcome.refused.total() == outcome.sent.total()


def test_of_each_kind_at_least_half_are_rightly_signed(outcome: Outcome) -> None:
    assert outcome.sent == dict.fromkeys(LOGGED, 60)
    assert all(outcome.signed[kind] * 2 >= count for kind, count in outcome.sent.items())


class Gullible:
    """Believes what it is given, or forgets to say no."""

    def __init__(self) -> None:
        self.taken = 0

    def offer(self, payload: bytes) -> str | None:
        self.taken += 1
        return None if payload == b"believed" else "bad-claims"

    def files(self) -> str:
        return str(self.taken)


def test_it_can_fail() -> None:
    outcome = Outcome()
    _offer("command", Gullible(), lambda _: Forged("a family", b"believed", signed=True), 1, outcome)
    _honest("command", Gullible(), b"honest", outcome)
    assert set(outcome.problems) == {
        "command, a family: was believed",
        "command, a family: changed something",
        "command: the honest one is refused: bad-claims",
    }


def test_the_command_prints_what_was_sent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--messages", "3", "--seed", "1", "--json", str(tmp_path / "figures.json")]) == 0
    said = capsys.readouterr().out
    assert "keys document             3 sent,      2 of them signed by who may sign it" in said
    assert "ok    each was refused" in said
    assert '"hostile_command"' in (tmp_path / "figures.json").read_text()
