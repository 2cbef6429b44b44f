"""Figures as benchmarks and evaluations print and write them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edge.evaluate import figures
from edge.evaluate.figures import Figure, one, table, write_json


def test_a_table_shows_median_spread_and_how_many_runs() -> None:
    lines = table({"road_ms": Figure("ms", (9.0, 8.0, 12.5)), "rate": one(1234.5, "1/s")}).splitlines()
    assert lines[0].split() == ["median", "min", "max", "n"]
    assert lines[1].split() == ["road_ms", "9.0000", "8.0000", "12.50", "3", "ms"]
    assert lines[2].split() == ["rate", "1234", "1234", "1234", "1", "1/s"]


def test_tiny_and_huge_numbers_stay_readable() -> None:
    assert table({"x": one(0.00001, "s")}).splitlines()[1].split()[1] == "1e-05"
    assert table({"x": one(0.0, "s")}).splitlines()[1].split()[1] == "0.0000"


def test_the_json_has_the_shape_that_programs_read(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    write_json(file, "road", {"road_ms": Figure("ms", (9.0, 8.0, 12.5)), "fnir": one(0.5, "%", (0.1, 0.9))})
    document = json.loads(file.read_text())
    assert set(document) == {"name", "commit", "machine", "figures"}
    assert document["figures"]["road_ms"] == {
        "value": 9.0, "unit": "ms", "median": 9.0, "min": 8.0, "max": 12.5, "n": 3,
    }  # fmt: skip
    assert (document["figures"]["fnir"]["low"], document["figures"]["fnir"]["high"]) == (0.1, 0.9)


@pytest.mark.parametrize(("changed", "said"), [("", "abc123"), (" M edge/config.py", "abc123+changes")])
def test_the_commit_is_marked_where_the_tree_differs_from_it(
    monkeypatch: pytest.MonkeyPatch, changed: str, said: str
) -> None:
    monkeypatch.setattr(figures, "_git", lambda *words: "abc123" if words[0] == "rev-parse" else changed)
    assert figures.commit() == said


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*words: str) -> str:
        raise subprocess.CalledProcessError(128, words)

    monkeypatch.setattr(figures, "_git", no_git)
    assert figures.commit() == "unknown"


def test_the_machine_is_described_without_naming_it() -> None:
    assert "cores, Python 3." in figures.machine()
