"""What counts as a switch and as a fragment, on people who are drawn by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth import Tally, nearest, overlap_of, read_truth, tally
from edge.records import Box, Face, Sighting

TRUTH = """# two people; the second is away from frame 4 to frame 12
0 1 0 0 10 10
6 1 60 0 70 10
12 1 120 0 130 10
0 2 0 100 10 110
3 2 30 100 40 110
13 2 130 100 140 110
14 2 140 100 150 110
"""


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.txt"
    path.write_text(TRUTH)
    return path


def sighting(track: int, x: float, y: float) -> Sighting:
    face = Face(Box(x, y, x + 10, y + 10), np.zeros((5, 2), np.float32), 0.9)
    return Sighting(track=track, face=face, seen_mono_ms=0)


def tallied(truth_file: Path, *frames: list[Sighting]) -> Tally:
    return tally(read_truth(truth_file), frames)


def test_between_two_lines_a_person_moves_straight_and_far_apart_lines_are_two_appearances(
    truth_file: Path,
) -> None:
    truth = read_truth(truth_file)
    assert len(truth.frames) == 15
    assert truth.frames[3][1] == Box(30, 0, 40, 10)
    assert [sorted(people) for people in truth.frames[3:14:5]] == [[1, 2], [1], [2]]
    assert (truth.appearances[3][2], truth.appearances[13][2]) == (0, 1)


def test_one_track_a_person_is_neither_switch_nor_fragment(truth_file: Path) -> None:
    frames = [[sighting(1, 10 * i, 0), sighting(2, 10 * i, 100)] for i in range(4)]
    assert tallied(truth_file, *frames) == Tally(appearances=2, switches=0, fragments=0, strays=0, faces=8)


def test_two_who_change_numbers_are_two_switches_and_two_fragments(truth_file: Path) -> None:
    frames = [
        [sighting(1, 0, 0), sighting(2, 0, 100)],
        [sighting(2, 10, 0), sighting(1, 10, 100)],
    ]
    assert tallied(truth_file, *frames) == Tally(appearances=2, switches=2, fragments=2, strays=0, faces=4)


def test_another_number_is_a_fragment_within_an_appearance_and_none_after_it(truth_file: Path) -> None:
    frames: list[list[Sighting]] = [[] for _ in range(15)]
    frames[0], frames[1], frames[13] = (
        [sighting(1, 0, 100)],
        [sighting(2, 10, 100)],
        [sighting(3, 130, 100)],
    )
    assert tallied(truth_file, *frames) == Tally(appearances=2, switches=0, fragments=1, strays=0, faces=3)


def test_a_face_at_nobodys_place_is_a_stray(truth_file: Path) -> None:
    assert tallied(truth_file, [sighting(1, 300, 300)]).strays == 1
    assert nearest(Box(0, 0, 10, 10), {}) is None


def test_overlap_is_the_shared_part_of_both() -> None:
    assert overlap_of(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == 1
    assert overlap_of(Box(0, 0, 10, 10), Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap_of(Box(0, 0, 10, 10), Box(20, 0, 30, 10)) == 0
