"""What a gallery says about its own people: thresholds that hold, look-alikes found, too few refused."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from edge.errors import InputError
from edge.evaluate.openset import Runs
from edge.evaluate.site import (
    MIN_PEOPLE,
    RAISE,
    Alike,
    Matrix,
    advice,
    fit_tail,
    foretold,
    non_mated,
    raised_thresholds,
    site_thresholds,
    too_alike,
)
from edge.evaluate.site_trial import figures, line, needed_knowing, needed_similarities, run_trials
from edge.recognition.gallery import Gallery, make_gallery
from edge.recognition.thresholds import Thresholds
from tests.test_evaluate import crowd

LAX = Thresholds(0.003, (10, 100, 1000), (0.1, 0.2, 0.3), "this test")


def people(count: int, dimensions: int = 64, likeness: float = 0.0) -> Matrix:
    """Random unit vectors; `likeness` pulls all of them to one side, as one family would be."""
    rows = np.random.default_rng(3).normal(size=(count, dimensions)).astype(np.float32)
    rows[:, 0] += likeness
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def gallery_of(matrix: Matrix) -> Gallery:
    named = {f"E{row:04}": vector for row, vector in enumerate(matrix)}
    return make_gallery(1, "e" * 64, matrix.shape[1], named)


def test_the_tail_of_normal_similarities_is_found_and_two_twins_do_not_move_it() -> None:
    drawn = np.random.default_rng(1).normal(0.05, 0.1, 20_000).astype(np.float32)
    tail = fit_tail(drawn)
    assert [tail.mean, tail.stdev] == pytest.approx([0.05, 0.1], abs=0.01)
    drawn[:2] = 0.99
    assert fit_tail(drawn).stdev == pytest.approx(tail.stdev, abs=0.005)


def test_more_people_and_a_smaller_share_of_strangers_need_more() -> None:
    tail = NormalDist(0.05, 0.1)
    assert foretold(tail, 10, 0.003) < foretold(tail, 100, 0.003) < foretold(tail, 100, 0.001) <= 1
    assert foretold(NormalDist(0.5, 0.5), 1_000_000, 0.0001) == 1


def test_at_a_sites_own_threshold_at_most_the_target_of_its_strangers_pass() -> None:
    everyone = people(2200, likeness=4)
    enrolled, strangers = everyone[:200], everyone[200:]
    own = site_thresholds(enrolled, LAX, 0.01).at(200, 0.01)
    passed = float(np.mean((strangers @ enrolled.T).max(axis=1) >= own))
    assert passed <= 0.01
    assert float(np.mean((strangers @ enrolled.T).max(axis=1) >= LAX.at(200, 0.01))) > 0.5


def test_people_who_are_less_alike_than_the_models_were_measured_on_lower_nothing() -> None:
    strict = Thresholds(0.003, (10, 1000), (0.8, 0.9), "this test")
    assert site_thresholds(people(100), strict, 0.003).similarity == pytest.approx((0.8, 0.9), abs=1e-4)


def test_thresholds_never_fall_as_sizes_grow() -> None:
    table = site_thresholds(people(60, likeness=3), LAX, 0.003)
    assert list(table.similarity) == sorted(table.similarity)
    assert (table.enrolled, table.fpir_target) == (LAX.enrolled, 0.003)


def test_too_few_people_are_refused_with_the_number_needed_and_what_works_all_the_same() -> None:
    with pytest.raises(
        InputError, match=rf"{MIN_PEOPLE - 1} people.*at least {MIN_PEOPLE}.*--lookalikes-only"
    ):
        site_thresholds(people(MIN_PEOPLE - 1), LAX, 0.003)
    site_thresholds(people(MIN_PEOPLE), LAX, 0.003)


def test_of_a_large_gallery_some_are_compared() -> None:
    assert len(non_mated(people(2100, dimensions=8))) == 2000 * 1999 // 2


def with_twins(similarity: float) -> Matrix:
    """Three people, of whom the first two are so alike."""
    rows = np.zeros((3, 8), np.float32)
    rows[0, 0] = rows[2, 2] = 1
    rows[1, :2] = similarity, np.sqrt(1 - similarity**2)
    return rows


def test_both_of_a_pair_need_more_and_nobody_else_does() -> None:
    gallery = gallery_of(with_twins(0.6))
    assert raised_thresholds(gallery, 0.5) == pytest.approx(
        {"E0000": 0.6 + RAISE, "E0001": 0.6 + RAISE}, abs=1e-3
    )
    (pair,) = too_alike(gallery, 0.5)
    assert (pair.first, pair.second) == ("E0000", "E0001")
    assert pair.similarity == pytest.approx(0.6, abs=1e-3)
    assert raised_thresholds(gallery, 0.8) == {}
    assert too_alike(gallery, 0.8) == ()


def test_whom_a_known_stranger_resembles_needs_more() -> None:
    gallery = gallery_of(with_twins(0.1))
    stranger = np.zeros((1, 8), np.float32)
    stranger[0, 2:4] = 0.6, 0.8
    assert raised_thresholds(gallery, 0.5) == {}
    assert raised_thresholds(gallery, 0.5, [stranger]) == pytest.approx({"E0002": 0.6 + RAISE}, abs=1e-3)


def test_nobody_can_resemble_anybody_in_an_empty_gallery() -> None:
    empty = make_gallery(1, "e" * 64, 8, {})
    assert (too_alike(empty, 0.5), raised_thresholds(empty, 0.5)) == ((), {})


def test_the_advice_names_both_and_tells_twins_from_relatives() -> None:
    assert advice(Alike("E1", "E2", 0.55), {"E1": 0.65}).startswith(
        "E1 and E2: similarity 0.55; from now on each needs 0.65"
    )
    assert "two ids" not in advice(Alike("E1", "E2", 0.55), {})
    assert "two ids" in advice(Alike("E1", "E2", 0.9), {"E1": 1.0})


def test_four_ways_of_judging_are_compared_on_the_same_probes() -> None:
    runs = Runs(crowd([8] * 60 + [4] * 30, dimensions=32))
    trials = list(run_trials(runs, runs, LAX, 0.003, sizes=(40, 10), seeds=range(2)))
    assert [(each.cell.enrolled, each.cell.frames) for each in trials] == [(40, 1), (40, 3), (40, 5)]
    for each in trials:
        shipped, general, raised, known = (
            each.by_way[way] for way in ("shipped", "general", "raised", "known")
        )
        assert all(
            a.fpir >= b.fpir >= c.fpir >= d.fpir
            for a, b, c, d in zip(shipped, general, raised, known, strict=True)
        )
        assert (
            each.raised["shipped"]
            == each.raised["general"]
            == 0
            <= each.raised["raised"]
            <= each.raised["known"]
        )
        assert str(each.cell.enrolled) in line(each)
    assert "fpir_known_n40_t3_f5" in figures(trials)


def test_a_stranger_who_is_known_raises_whom_they_resemble_only() -> None:
    runs = Runs(crowd([3] * 80, dimensions=32))
    references, known = runs.first(np.arange(40), 3), runs.first(np.arange(40, 80), 3)
    known.vectors[0] = references.vectors[5]
    needed = needed_similarities(references, LAX, 0.003)
    knowing = needed_knowing(references, known, needed["general"])
    assert needed["raised"][5] < knowing[5] == 1
    assert (knowing >= needed["raised"]).all()
