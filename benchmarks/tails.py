"""How a gallery's own threshold could be foretold: ways of continuing the tail of its people's similarities.

Each is given the similarities of every two templates of a gallery, and foretells the one
that a share of strangers reaches with any of so many enrolled, each comparison by itself.
`edge.evaluate.site.fit_tail` is the daemon's; the others are what it was chosen from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.evaluate.site import fit_tail, non_mated

EULER = 0.5772156649
"""Euler's constant: the mean of the standard Gumbel distribution."""

Matrix = NDArray[np.float32]
"""(people, dimensions): templates, rows of unit length."""

Foretells = Callable[[Matrix, float], float]
"""From templates and a share of strangers to a similarity."""


def per_pair(share: float, enrolled: int) -> float:
    """The share of comparisons that may pass, so that this share of strangers does with any of so many."""
    return -math.expm1(math.log1p(-share) / enrolled)


def exponential(matrix: Matrix, share: float, tail: float) -> float:
    """The upper `tail` of pairs goes on as an exponential distribution with their mean excess."""
    pairs = non_mated(matrix)
    begin = float(np.quantile(pairs, 1 - tail))
    excess = float(pairs[pairs > begin].mean()) - begin
    return begin + excess * math.log(tail / per_pair(share, len(matrix)))


def normal_by_quantile(matrix: Matrix, share: float, tail: float) -> float:
    """A normal distribution about the median that has the upper `tail` where the pairs have it."""
    pairs = non_mated(matrix)
    middle = float(np.median(pairs))
    spread = (float(np.quantile(pairs, 1 - tail)) - middle) / NormalDist().inv_cdf(1 - tail)
    return NormalDist(middle, spread).inv_cdf(1 - per_pair(share, len(matrix)))


def gumbel(matrix: Matrix, share: float) -> float:
    """Everybody's nearest other, as a Gumbel distribution of the same mean and spread (Gumbel, 1958)."""
    similarities = matrix @ matrix.T
    np.fill_diagonal(similarities, -1)
    nearest = similarities.max(axis=1)
    scale = float(nearest.std()) * math.sqrt(6) / math.pi
    return float(nearest.mean()) - scale * (EULER + math.log(-math.log1p(-share)))


def upper_fifth(matrix: Matrix, share: float) -> float:
    """What `hadir-provision calibrate` does, without what it adds for siblings and the like."""
    return fit_tail(non_mated(matrix)).inv_cdf(1 - per_pair(share, len(matrix)))


TAILS = (0.1, 0.03, 0.01)

FORETOLD: Mapping[str, Foretells] = {
    **{f"exponential_{100 * tail:g}": partial(exponential, tail=tail) for tail in TAILS},
    **{f"normal_{100 * tail:g}": partial(normal_by_quantile, tail=tail) for tail in TAILS},
    "gumbel": gumbel,
    "upper_fifth": upper_fifth,
}
"""By name; percent of pairs where a tail is meant."""
