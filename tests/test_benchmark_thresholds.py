"""Ways of foretelling a gallery's threshold, on similarities whose distribution is known."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from benchmarks import tails
from benchmarks.tails import FORETOLD, Matrix, exponential, gumbel, normal_by_quantile, per_pair, upper_fifth
from benchmarks.thresholds import foretold, likeness
from edge.evaluate.openset import Runs
from edge.evaluate.site import non_mated
from tests.test_evaluate import crowd

SHARE = 0.003


def strangers(people: int = 300, dimensions: int = 100, seed: int = 0) -> Matrix:
    """Random directions: the cosine of two is nearly normal, with a spread of one over the root of dimensions."""
    rows = np.random.default_rng(seed).normal(size=(people, dimensions)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_of_many_comparisons_each_may_let_little_pass() -> None:
    assert per_pair(SHARE, 1) == pytest.approx(SHARE)
    assert per_pair(SHARE, 100) == pytest.approx(1 - (1 - SHARE) ** (1 / 100))


@pytest.mark.parametrize("name", ["normal_10", "normal_3", "upper_fifth"])
def test_where_similarities_are_normal_the_normal_ways_foretell_rightly(name: str) -> None:
    matrix = strangers()
    right = NormalDist(0, 0.1).inv_cdf(1 - per_pair(SHARE, len(matrix)))
    assert FORETOLD[name](matrix, SHARE) == pytest.approx(right, abs=0.02)


def test_an_exponential_tail_is_thicker_and_the_more_so_the_earlier_it_begins() -> None:
    matrix = strangers()
    found = [exponential(matrix, SHARE, tail) for tail in tails.TAILS]
    assert found == sorted(found, reverse=True)
    assert found[-1] > upper_fifth(matrix, SHARE)


def test_an_exponential_tail_is_continued_by_its_mean_excess(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = np.random.default_rng(1).exponential(0.05, 200_000).astype(np.float32)
    monkeypatch.setattr(tails, "non_mated", lambda _: pairs)
    right = 0.05 * math.log(1 / per_pair(SHARE, 300))
    assert exponential(strangers(), SHARE, 0.1) == pytest.approx(right, rel=0.03)


def test_everybodys_nearest_foretell_what_a_stranger_reaches() -> None:
    matrix = strangers(500)
    probes = strangers(20_000, seed=1)
    passing = np.mean((probes @ matrix.T).max(axis=1) >= gumbel(matrix, SHARE))
    assert SHARE / 10 < passing < SHARE * 3


def test_no_way_is_stricter_for_more_strangers() -> None:
    matrix = strangers()
    for name, foretell in FORETOLD.items():
        assert foretell(matrix, 0.03) < foretell(matrix, 0.003), name


def test_a_normal_distribution_goes_through_median_and_quantile() -> None:
    matrix = strangers()
    pairs = non_mated(matrix)
    at_a_tenth = normal_by_quantile(matrix, 1 - (1 - 0.1) ** len(matrix), 0.1)
    assert at_a_tenth == pytest.approx(float(np.quantile(pairs, 0.9)), abs=1e-4)


def test_every_way_is_told_with_its_spread() -> None:
    figures = foretold(Runs(crowd([3] * 60, dimensions=16)), np.arange(60), 40)
    assert {name.split("_", 2)[2] for name in figures} == set(FORETOLD)
    assert all(figures[f"spread_n40_{name}"].value > 0 for name in FORETOLD)


def test_two_templates_of_one_person_are_compared_where_there_are_photographs_for_two() -> None:
    seen = crowd([6, 7, 3, 2], dimensions=16, noise=0.0)
    figures = likeness(Runs(seen), np.arange(4))
    assert figures["people_with_two_templates"].value == 2
    assert figures["one_person_least_alike"].value == pytest.approx(1)
    most = max(seen.vectors[a] @ seen.vectors[b] for a, b in ((0, 6), (0, 13), (6, 13)))
    assert figures["two_people_most_alike"].value == pytest.approx(most, abs=1e-6)
