"""What a gallery says about its own people: how alike strangers are here, and who resembles whom.

Plain functions of templates; `hadir-provision calibrate` applies them to a fleet, and
`edge.evaluate.site_trial` measures on a labelled folder what they are worth. Constants
were chosen on LFW's View 1 and people outside View 2 (docs/decisions/thresholds.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.evaluate.rates import Similarities, strongest_impostors
from edge.recognition.gallery import Gallery
from edge.recognition.thresholds import Thresholds

MIN_PEOPLE = 30
"""Fewer say too little: a threshold from 20 people scatters by 0.041, from 50 by 0.019, from 100 by 0.011
(`python -m benchmarks.thresholds`)."""

MOST_PEOPLE = 2000
"""Of a larger gallery so many are compared: two million pairs say all there is to say. Set, not measured."""

UPPER_SHARE = 0.2
"""The share of pairs, the most alike, to which the normal distribution is fitted. Compared with
other ways by `python -m benchmarks.thresholds` (docs/decisions/thresholds.md); other shares were not tried."""

LEAST_RANK = 3
"""The two most alike pairs have no say in the fit: they may be one person under two ids, or twins.
Reasoned, not measured."""

ALLOWANCE = 0.03
"""Added to what the normal distribution foretells, whose tail is too thin for siblings and the like: it
falls short by 0.029, 0.026 and 0.032 for 100, 200 and 300 enrolled (`python -m benchmarks.thresholds`)."""

RAISE = 0.1
"""By how much more than two templates are alike a probe must be like one of the two: then hardly any probe of
the other passes, and nobody is missed for it (`hadir-edge evaluate calibration`)."""

MAX_PAIRS = 10_000
"""More pairs too alike than that are no gallery to be looked through by people. Set."""

SAME_PERSON = 0.6
"""Templates of two people of LFW reach 0.494, those of one person's different photographs begin at 0.604
(default embedder; `python -m benchmarks.thresholds`)."""

Matrix = NDArray[np.float32]
"""(people, dimensions), rows of unit length."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Two enrolled people whose templates are at least as alike as a stranger may be."""

    first: str
    second: str
    similarity: float


def site_thresholds(matrix: Matrix, shipped: Thresholds, fpir_target: float) -> Thresholds:
    """What this gallery's people ask for, and never less than the models' own thresholds.

    A hundred people can show that those who work here are more alike than the photographs
    were on which the models were measured, not that the strangers at their door are less.

    Raises InputError where there are fewer than MIN_PEOPLE.
    """
    if len(matrix) < MIN_PEOPLE:
        raise InputError(
            f"{len(matrix)} people enrolled: a threshold of their own needs at least {MIN_PEOPLE}; until then "
            "that of the models holds. People who are too alike can be told apart all the same: --lookalikes-only"
        )
    tail = fit_tail(non_mated(matrix))
    needed = (
        max(shipped.at(size, fpir_target), foretold(tail, size, fpir_target)) for size in shipped.enrolled
    )
    rising = tuple(round(value + 5e-5, 4) for value in accumulate(needed, max))
    return Thresholds(fpir_target, shipped.enrolled, rising, "hadir-provision calibrate")


def non_mated(matrix: Matrix) -> Similarities:
    """(pairs,): of every two people; of a gallery of more than MOST_PEOPLE, of as many drawn by chance."""
    if len(matrix) > MOST_PEOPLE:
        matrix = matrix[np.random.default_rng(0).permutation(len(matrix))[:MOST_PEOPLE]]
    return np.asarray((matrix @ matrix.T)[np.triu_indices(len(matrix), 1)], np.float32)


def fit_tail(similarities: Similarities) -> NormalDist:
    """The normal distribution whose upper part lies nearest to that of the similarities.

    A line through (quantile of the normal distribution, similarity) at ranks spread evenly in
    their logarithm, weighted by the root of the rank, as more pairs stand behind each.
    """
    descending = -np.sort(-similarities)
    ranks = np.unique(np.geomspace(LEAST_RANK, len(descending) * UPPER_SHARE, 40).astype(int))
    expected = [NormalDist().inv_cdf(1 - (rank - 0.5) / len(descending)) for rank in ranks]
    slope, middle = np.polyfit(expected, descending[ranks - 1], 1, w=ranks**0.5)
    return NormalDist(float(middle), max(float(slope), 1e-6))


def foretold(tail: NormalDist, enrolled: int, fpir_target: float) -> float:
    """The similarity that this share of strangers reaches with one of so many, each pair by itself."""
    per_pair = -np.expm1(np.log1p(-fpir_target) / enrolled)
    return min(1.0, tail.inv_cdf(1 - float(per_pair)) + ALLOWANCE)


def raised_thresholds(gallery: Gallery, general: float, strangers: Sequence[Matrix] = ()) -> dict[str, float]:
    """What those need who resemble somebody, where that is more than the general threshold.

    `strangers` are vectors of people who are not to be recognised, such as a visitor whom the
    door took for an employee.
    """
    others = np.concatenate([gallery.matrix, *strangers])
    nearest = _nearest(gallery.matrix, others)
    return {
        person: round(min(1.0, similarity + RAISE), 4)
        for person, similarity in zip(gallery.people, nearest.tolist(), strict=True)
        if similarity + RAISE > general
    }


def _nearest(matrix: Matrix, others: Matrix, chunk: int = 512) -> Similarities:
    """(people,): to the most similar of the others, of which the first are the people themselves."""
    nearest = np.full(len(matrix), -1, np.float32)
    for begin in range(0, len(matrix), chunk):
        block = matrix[begin : begin + chunk] @ others.T
        rows = np.arange(len(block))
        block[rows, begin + rows] = -1
        nearest[begin : begin + chunk] = block.max(axis=1)
    return nearest


def too_alike(gallery: Gallery, general: float) -> tuple[Alike, ...]:
    """Pairs that reach the general threshold, the most alike first."""
    if not gallery.people:
        return ()
    pairs = strongest_impostors(gallery.matrix, np.arange(len(gallery.people)), MAX_PAIRS)
    listed = zip(pairs.similarities.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return tuple(
        Alike(gallery.people[first], gallery.people[second], similarity)
        for similarity, first, second in listed
        if similarity >= general
    )


def advice(pair: Alike, raised: Mapping[str, float]) -> str:
    """What to do about two people, for an administrator."""
    needed = max(raised.get(pair.first, pair.similarity), raised.get(pair.second, pair.similarity))
    begin = f"{pair.first} and {pair.second}: similarity {pair.similarity:.2f}; from now on each needs {needed:.2f}. "
    if pair.similarity < SAME_PERSON:
        return begin + "If that costs either of them misses, enrol both anew with three good photographs"
    return begin + (
        "Is it one person under two ids? Then remove one. If they are twins, no threshold parts them, and "
        "they will often not be recognised: let them come in another way"
    )
