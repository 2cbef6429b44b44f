"""How far a measured rate may be off: 95 % intervals by drawing people anew.

Photographs of one person are not independent: somebody who is missed once is likely to be
missed again, and a look-alike passes with every photograph. So people are drawn with
replacement, not photographs (Efron, "Bootstrap methods", Annals of Statistics 7(1), 1979;
over subjects, as Bolle, Ratha and Pankanti, "Error analysis of pattern recognition
systems: the subsets bootstrap", CVIU 93(1), 2004, have it). Whoever is drawn twice counts
twice; an impostor pair counts as often as the product of its two people.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
"""Draws: the usual number for intervals of 95 % (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993)."""

SEED = 2004
"""Any number would do; one that stays makes an interval the same at every run."""

LEVEL = 0.95
"""Share of draws inside an interval, 0 to 1: the convention of the field."""

Interval = tuple[float, float]
"""Low and high, in the unit of the figure."""

Weights = NDArray[np.float32]
"""(replicates, people): how often each person was drawn; whole numbers."""


def draw_people(people: int, replicates: int = REPLICATES) -> Weights:
    """The draws, the same at every call for so many people."""
    rng = np.random.default_rng(SEED)
    draws = np.empty((replicates, people), np.float32)
    for row in draws:
        row[:] = np.bincount(rng.integers(0, people, people), minlength=people)
    return draws


def interval(values: NDArray[np.float64]) -> Interval:
    """The middle 95 % of what the draws gave; draws that gave nothing (NaN) are left out."""
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def none_among(people: int) -> float:
    """The rate, 0 to 1, that may hide behind no case at all among so many people.

    The upper end of the exact binomial interval (Clopper and Pearson, Biometrika 26, 1934):
    drawing anew from no cases would call it 0.
    """
    return float(1 - (0.5 * (1 - LEVEL)) ** (1 / people))


def reach_descending(weights: NDArray[np.floating], allowed: NDArray[np.floating]) -> NDArray[np.int64]:
    """How many of the first columns may pass before their weight exceeds what is allowed; one number a row."""
    passed = np.cumsum(weights, axis=1, dtype=np.float64)
    return np.asarray(np.sum(passed <= allowed[:, np.newaxis], axis=1), np.int64)
