"""Error rates and the thresholds that hold them, as ISO/IEC 19795-1 names them.

A comparison matches where its similarity reaches the threshold: `similarity >= threshold`,
as the daemon decides. A threshold "at a rate" lets *at most* that share pass; where values
tie, none of the tied pass rather than all.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Similarities = NDArray[np.float32]
"""(n,) cosines; higher is more alike."""


def admitted(total: int, rate: float) -> int:
    """How many of `total` may pass at a rate: rounded down, by the decimal digits of the rate.

    (In binary, 1000 x 0.003 could come out as two.)
    """
    return int(total * Fraction(repr(rate)))


def threshold_admitting(similarities: Similarities, count: int) -> float:
    """The lowest threshold that at most `count` of the similarities reach.

    `count` must be below the number of similarities.
    """
    place = len(similarities) - 1 - count
    strongest_refused = np.partition(similarities, place)[place]
    return float(np.nextafter(strongest_refused, np.float32(np.inf)))


def passing(similarities: Similarities, threshold: float) -> float:
    """The share that reaches the threshold, 0 to 1."""
    return float(np.mean(similarities >= threshold))


def best_threshold(similarities: Similarities, mated: NDArray[np.bool_]) -> float:
    """The threshold that classifies most of these pairs rightly.

    Candidates lie half-way between neighbouring similarities, and beyond both ends. Of
    equally good ones the middle is taken, being the farthest from the pairs on either side.
    """
    order = np.argsort(similarities, kind="stable")
    values, is_mated = similarities[order].astype(np.float64), mated[order]
    between = (values[1:] + values[:-1]) / 2
    candidates = np.concatenate([[values[0] - 1], between, [values[-1] + 1]])
    # At candidate i the i lowest pairs are called non-mated, the others mated.
    right = (
        np.concatenate([[0], np.cumsum(~is_mated)])
        + is_mated.sum()
        - np.concatenate([[0], np.cumsum(is_mated)])
    )
    right[1:-1][values[1:] == values[:-1]] = -1  # no threshold parts equal values
    best = np.flatnonzero(right == right.max())
    return float(candidates[best[(len(best) - 1) // 2]])


def fold_accuracies(
    similarities: NDArray[np.float32], mated: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy on each fold, at the threshold that is best on all the others, and that threshold.

    Takes (folds, pairs) each; gives (folds,) each, accuracies 0 to 1.
    """
    accuracies, thresholds = [], []
    for fold in range(len(similarities)):
        others = np.arange(len(similarities)) != fold
        threshold = best_threshold(similarities[others].ravel(), mated[others].ravel())
        thresholds.append(threshold)
        accuracies.append(np.mean((similarities[fold] >= threshold) == mated[fold]))
    return np.array(accuracies), np.array(thresholds)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean: the sample's standard deviation (n - 1) over the root of n, as LFW's report defines it."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Impostors:
    """Pairs of photographs of different people, the most similar first."""

    similarities: Similarities
    first: NDArray[np.int64]
    """(pairs,): rows."""
    second: NDArray[np.int64]


def strongest_impostors(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    keep: int,
    chunk: int = 512,
    others: NDArray[np.float32] | None = None,
) -> Impostors:
    """The `keep` most similar of all pairs of rows with different labels.

    The later row of a pair is taken from `others` where they are given.

    Computed a few rows at a time: memory grows with `keep` and with chunk x rows, not with
    the number of pairs (87 million for LFW). Fewer are given where there are fewer pairs.
    """
    others = vectors if others is None else others
    kept = np.zeros(0, np.float32)
    pairs = np.zeros((2, 0), np.int64)
    least = np.float32(-np.inf)
    for begin in range(0, len(vectors), chunk):
        block = vectors[begin : begin + chunk] @ others[begin:].T
        columns = np.arange(begin, len(vectors))
        rows = columns[: len(block), np.newaxis]
        wanted = np.nonzero((columns > rows) & (labels[columns] != labels[rows]) & (block > least))
        kept = np.concatenate([kept, block[wanted]])
        pairs = np.concatenate([pairs, begin + np.stack(wanted)], axis=1)
        if len(kept) > keep:
            chosen = np.argpartition(kept, len(kept) - keep)[len(kept) - keep :]
            kept, pairs = kept[chosen], pairs[:, chosen]
            least = kept.min()
    order = np.argsort(-kept, kind="stable")
    return Impostors(kept[order], pairs[0, order], pairs[1, order])


def count_impostor_pairs(labels: NDArray[np.int64]) -> int:
    """How many pairs of rows have different labels."""
    own = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return int(len(labels) ** 2 - np.sum(own**2)) // 2
