"""APCER, BPCER, EER and their exact bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.evaluate.attack_rates import (
    NEVER,
    Rate,
    acer,
    apcer,
    bpcer,
    equal_errors,
    fewest_errors,
    threshold_at_bpcer,
    undecided,
    upper_bound,
)


@pytest.mark.parametrize(
    ("errors", "trials", "upper"),
    # Clopper and Pearson, one-sided 95 %; also in closed form: 1 - 0.05 ** (1 / n) for none of n.
    [(0, 6, 0.3930), (0, 29, 0.0981), (1, 10, 0.3942), (5, 50, 0.1990), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_the_bound_is_the_exact_binomial_one(errors: int, trials: int, upper: float) -> None:
    assert upper_bound(errors, trials) == pytest.approx(upper, abs=2e-4)


@given(st.integers(1, 400), st.data())
def test_the_bound_lies_above_the_rate_and_falls_with_more_trials(trials: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, trials))
    assert errors / trials <= upper_bound(errors, trials) <= 1
    assert upper_bound(errors, 2 * trials) <= upper_bound(errors, trials)


def test_undecided_is_an_error_of_a_live_presentation_and_none_of_an_attack() -> None:
    values = np.array([NEVER, 0.2, 0.6])
    assert apcer(values, 0.5) == Rate(1, 3)
    assert bpcer(values, 0.5) == Rate(2, 3)
    assert bpcer(values, 0.0) == Rate(1, 3)
    assert undecided(values) == Rate(1, 3)


def test_acer_takes_the_worst_kind_of_attack() -> None:
    assert acer((Rate(0, 10), Rate(2, 10)), Rate(1, 10)) == pytest.approx(15)
    assert math.isnan(acer((), Rate(1, 10)))


def test_a_rate_tells_its_counts_and_bound() -> None:
    assert str(Rate(0, 6)) == "0.0 % (0 of 6, below 39.3 %)"
    assert str(Rate(0, 0)) == "no trials"
    assert math.isnan(Rate(0, 0).percent)


def test_where_a_threshold_divides_perfectly_it_lies_in_the_middle() -> None:
    attacks, live = np.array([0.1, 0.3]), np.array([0.7, 0.9])
    for found in (equal_errors(attacks, live), fewest_errors(attacks, live)):
        assert found is not None
        assert found.percent == 0
        assert found.live_from == pytest.approx(0.5)


def test_errors_are_equal_where_they_overlap() -> None:
    found = equal_errors(np.array([0.1, 0.2, 0.3, 0.75]), np.array([0.25, 0.8, 0.9, 0.95]))
    assert found is not None
    assert (found.attacks, found.live) == (Rate(1, 4), Rate(1, 4))
    assert found.upper_percent == pytest.approx(100 * upper_bound(1, 4))


def test_undecided_live_ones_do_not_lower_the_threshold_that_is_chosen() -> None:
    attacks, live = np.array([0.1, 0.2]), np.array([NEVER, 0.8, 0.9])
    found = fewest_errors(attacks, live)
    assert found is not None
    assert found.live_from == pytest.approx(0.5)
    assert found.live == Rate(1, 3)


def test_without_one_of_the_labels_there_is_nothing_to_choose() -> None:
    none, some = np.array([]), np.array([0.5])
    assert equal_errors(none, some) is equal_errors(some, none) is None
    assert fewest_errors(none, some) is fewest_errors(some, none) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0, 50))
def test_a_threshold_for_a_bpcer_refuses_no_more_than_that(values: list[float], percent: float) -> None:
    live = np.array(values)
    threshold = threshold_at_bpcer(live, percent)
    assert bpcer(live, threshold).percent <= percent + 1e-6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_what_is_told_of_a_threshold_is_what_it_does(attacks: list[float], live: list[float]) -> None:
    for choose in (equal_errors, fewest_errors):
        found = choose(np.array(attacks), np.array(live))
        assert found is not None
        assert found.attacks == apcer(np.array(attacks), found.live_from)
        assert found.live == bpcer(np.array(live), found.live_from)
