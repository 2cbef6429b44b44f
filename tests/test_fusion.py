"""Looks fused in several ways, and what is told of the difference."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fusion import DOOR, anew, difference, of_people, together, walk_trial
from benchmarks.weights import WAYS, Looks, agreement, as_for_templates, fuse_by, only_the_best, plain
from edge.evaluate.bootstrap import draw_people
from edge.evaluate.conditions import NAMES
from edge.evaluate.openset import Cell, Runs, draw, run_trial
from edge.recognition.match import fuse, template_of
from tests.test_evaluate import crowd

UP, RIGHT, ASLANT = (0.0, 1.0), (1.0, 0.0), (0.6, 0.8)


def looks(*vectors: tuple[float, float], found: int | None = None, **measures: tuple[float, ...]) -> Looks:
    """One run."""
    count = len(vectors)
    given = {name: np.array([measures.get(name, (1.0,) * count)], np.float32) for name in NAMES}
    return Looks(
        np.array([vectors], np.float32),
        np.arange(count)[np.newaxis] < (count if found is None else found),
        given,
    )


def weights(name: str, seen: Looks) -> list[float]:
    return list(WAYS[name](seen)[0])


@pytest.mark.parametrize("seen", [looks(UP, ASLANT, (0.6, -0.8)), looks((0.8, 0.6), (0.8, -0.6), UP)])
def test_the_ways_are_those_in_which_the_project_fuses_frames_and_references(seen: Looks) -> None:
    assert fuse_by(plain, seen)[0] == pytest.approx(fuse(list(seen.vectors[0])))
    assert fuse_by(as_for_templates, seen)[0] == pytest.approx(template_of(list(seen.vectors[0])))
    assert not np.allclose(fuse_by(plain, seen), fuse_by(as_for_templates, seen), atol=1e-3)


def test_of_runs_that_differ_in_length_only_what_is_there_has_a_weight() -> None:
    seen = looks(UP, ASLANT, RIGHT, found=2)
    assert list(as_for_templates(seen)[0]) == pytest.approx([1, 1, 0])
    assert not as_for_templates(looks(UP, RIGHT, found=0)).any()


def test_a_look_that_is_not_there_counts_nothing_whatever_was_measured_of_it() -> None:
    seen = looks(UP, ASLANT, (0.0, 0.0), found=2, sharpness=(1, 1, np.nan), face_px=(1, 1, np.nan))
    for name in ("width", "sharpness_half", "agreement", "but_least_alike", "only_sharpest"):
        assert np.isfinite(fuse_by(WAYS[name], seen)).all(), name
    assert fuse_by(WAYS["width"], seen)[0] == pytest.approx(fuse(list(seen.vectors[0][:2])))


def test_of_nobody_there_is_no_vector() -> None:
    assert not fuse_by(plain, looks(UP, RIGHT, found=0)).any()


def test_weights_follow_what_was_measured() -> None:
    seen = looks(UP, RIGHT, face_px=(40, 80), sharpness=(16, 256), yaw=(0, 0.95), brightness=(115, 155))
    assert weights("width", seen) == [40, 80]
    assert weights("width_squared", seen) == [1600, 6400]
    assert weights("sharpness_quarter", seen) == pytest.approx([2, 4])
    assert weights("sharpness_half", seen) == pytest.approx([4, 16])
    assert weights("frontal", seen) == pytest.approx([1, 0.1])
    assert weights("light", seen) == pytest.approx([1, np.exp(-0.5)])
    assert weights("only_sharpest", seen) == [0, 1]


def test_the_look_that_agrees_least_is_left_out_unless_it_is_alone() -> None:
    seen = looks(UP, ASLANT, (0.0, -1.0))
    assert list(agreement(seen)[0]) == pytest.approx([0.8, 1.0, 0.0], abs=1e-6)
    assert weights("but_least_alike", seen) == [1, 1, 0]
    assert fuse_by(WAYS["but_least_alike"], looks(UP, RIGHT, found=1))[0] == pytest.approx(UP)
    assert list(only_the_best(np.array([[3, 9]], np.float32), np.array([[True, False]]))[0]) == [1, 0]


def test_a_part_of_each_run() -> None:
    seen = looks(UP, ASLANT, RIGHT, face_px=(1, 2, 3)).part(slice(None, 2))
    assert seen.vectors.shape == (1, 2, 2)
    assert list(seen.measures["face_px"][0]) == [1, 2]


def test_walks_of_different_lengths_stand_side_by_side() -> None:
    def measured(width_px: float) -> tuple[float, ...]:
        return (width_px, *range(1, len(NAMES)))

    up, right = np.array(UP, np.float32), np.array(RIGHT, np.float32)
    walks = together([[(up, measured(40)), (right, measured(50))], [(right, measured(60))], []])
    assert walks.found.tolist() == [[True, True], [True, False], [False, False]]
    assert walks.measures["face_px"][:2].tolist() == [[40, 50], [60, 1]]
    trial = walk_trial(walks, np.array([UP, RIGHT, RIGHT], np.float32), plain)
    assert trial.mated[:2] == pytest.approx([0.5**0.5, 1])
    assert trial.fnir_at(0.5) == 100  # a tie, another tie, and nobody seen


def test_only_the_photographs_of_those_chosen_are_left() -> None:
    seen = crowd([2, 1, 3], dimensions=4)
    part = of_people(seen, np.array([0, 2]))
    assert part.album.files == (*seen.album.files[:2], *seen.album.files[3:])
    assert part.vectors.tolist() == seen.vectors[[0, 1, 3, 4, 5]].tolist()
    assert len(part.album.people) == 2


def test_a_draw_fused_anew_by_the_plain_mean_is_the_same_draw() -> None:
    seen = crowd([3] * 30, dimensions=8, noise=0.3)
    drawn = draw(Runs(seen), Runs(seen), Cell(10, 1, 2), seed=0)
    again = anew(drawn.probes, seen, plain)  # of two, both count alike
    assert again.vectors == pytest.approx(drawn.probes.vectors, abs=1e-6)
    assert again.rows.tolist() == drawn.probes.rows.tolist()


def test_no_difference_is_no_difference_in_any_draw_of_people() -> None:
    seen = crowd([3] * 400, dimensions=8, noise=0.3)
    trials = [run_trial(draw(Runs(seen), Runs(seen), Cell(10, 1, 2), seed)) for seed in range(2)]
    assert difference(trials, trials, draw_people(400)).interval == (0, 0)


def test_one_thing_is_fused_in_each_cell() -> None:
    assert [min(cell.templates, cell.frames) for cell in DOOR.values()] == [1, 1, 1]
