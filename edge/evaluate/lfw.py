"""Verification on Labeled Faces in the Wild: View 2's ten folds, and true matches at low false-match rates.

Nothing is tuned here: embedder, detector and crop are the daemon's. Of View 2, nine folds
choose the threshold for the tenth (Huang et al., "Labeled Faces in the Wild", University of
Massachusetts, Amherst, technical report 07-49, 2007).

The true-match rates take the 3,000 mated pairs of View 2 and, as impostors, every pair of
photographs of different people in the folder: View 2's own 3,000 non-mated pairs cannot
show a rate of one in ten thousand.

With `--degrade`, the second photograph of each pair is degraded, among the impostors the one that
stands later in the folder: a photograph from enrolment against one from the door.

Intervals draw people anew: for the accuracy at the folds' own thresholds, for a true-match
rate together with the impostors' threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.evaluate.bootstrap import Interval, Weights, draw_people, interval, none_among
from edge.evaluate.dataset import Album, Embeddings, pair_rows, read_pairs
from edge.evaluate.figures import Figure, one
from edge.evaluate.rates import (
    Impostors,
    Similarities,
    admitted,
    count_impostor_pairs,
    fold_accuracies,
    passing,
    standard_error,
    strongest_impostors,
    threshold_admitting,
)

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Shares of impostor pairs, 0 to 1; the last admits 87 of LFW's 87 million."""

LEAST_FOLDS = 2
"""With one fold there is no other to choose its threshold."""


@dataclass(frozen=True, slots=True)
class TrueMatches:
    """How many mated pairs match where at most a given share of impostors does."""

    threshold: float
    rate: float
    """Of mated pairs, 0 to 1."""
    admitted: int
    """Impostor pairs that may pass."""
    interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What LFW says about an embedder. Rates and accuracy are fractions."""

    accuracy: float
    accuracy_interval: Interval
    accuracy_stderr: float
    folds: int
    pairs: int
    thresholds: tuple[float, float]
    """The lowest and highest of the folds."""
    mated_pairs: int
    impostor_pairs: int
    true_matches: Mapping[float, TrueMatches | None]
    """By false-match rate; None where not even one impostor pair may pass."""
    similarities: NDArray[np.float32]
    """(folds, pairs), for the report."""
    impostors: Impostors
    """The upper tail, for the report: rows are the album's."""


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """The pairs of View 2 as rows of an album, (folds, pairs) each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mated: NDArray[np.bool_]


def read_folds(album: Album, pairs_file: Path) -> Folds:
    """View 2 of this album. Raises InputError where the file is not View 2, or names photographs it lacks."""
    folds = read_pairs(pairs_file)
    if len(folds) < LEAST_FOLDS:
        raise InputError(f"{pairs_file}: has one fold; expected View 2, whose ten folds take turns")
    pairs = [pair for fold in folds for pair in fold]
    first, second = pair_rows(album, pairs)
    mated = np.array([pair.mated for pair in pairs])
    shape = (len(folds), -1)
    return Folds(first.reshape(shape), second.reshape(shape), mated.reshape(shape))


def verify(embeddings: Embeddings, folds: Folds, probes: Embeddings | None = None) -> Verification:
    """Measure accuracy on the folds, and true matches against all impostor pairs of the album.

    The second photograph of each pair is that of `probes`, the same album as it is seen at the
    door, where they are given.
    """
    probes = embeddings if probes is None else probes
    labels = embeddings.album.labels
    weights = draw_people(len(embeddings.album.people))
    similarities = embeddings.similarities(folds.first, folds.second, probes)
    accuracies, thresholds = fold_accuracies(similarities, folds.mated)
    right = (similarities >= thresholds[:, np.newaxis]) == folds.mated
    impostor_pairs = count_impostor_pairs(labels)
    impostors = _impostors(embeddings, probes, impostor_pairs)
    return Verification(
        accuracy=float(accuracies.mean()),
        accuracy_interval=_accuracy_interval(right, labels[folds.first], labels[folds.second], weights),
        accuracy_stderr=standard_error(accuracies),
        folds=len(accuracies),
        pairs=folds.mated.size,
        thresholds=(float(thresholds.min()), float(thresholds.max())),
        mated_pairs=int(folds.mated.sum()),
        impostor_pairs=impostor_pairs,
        true_matches=true_matches(
            similarities[folds.mated], labels[folds.first[folds.mated]], impostors, labels, weights
        ),
        similarities=similarities,
        impostors=impostors,
    )


def true_matches(
    mated: Similarities,
    mated_labels: NDArray[np.int64],
    impostors: Impostors,
    labels: NDArray[np.int64],
    weights: Weights,
) -> dict[float, TrueMatches | None]:
    """True-match rates from mated similarities and the upper tail of the impostors'.

    `impostors` must hold at least one more than the largest rate of all impostor pairs of
    `labels` admits; for the intervals, half as many more.
    """
    total = count_impostor_pairs(labels)
    counts = {rate: admitted(total, rate) for rate in FALSE_MATCH_RATES}
    measured = [rate for rate, count in counts.items() if count >= 1]
    redrawn = _redrawn_thresholds(impostors, labels, measured, weights)
    order = np.argsort(mated, kind="stable")
    own = weights[:, mated_labels[order]]
    missed = np.concatenate([np.zeros((len(own), 1)), np.cumsum(own, axis=1, dtype=np.float64)], axis=1)
    found: dict[float, TrueMatches | None] = dict.fromkeys(FALSE_MATCH_RATES)
    for column, rate in enumerate(measured):
        threshold = threshold_admitting(impostors.similarities, counts[rate])
        place = np.searchsorted(mated[order], redrawn[:, column], side="left")
        with np.errstate(invalid="ignore"):  # nobody with a mated pair was drawn
            rates = 1 - missed[np.arange(len(own)), place] / missed[:, -1]
        passed = passing(mated, threshold)
        people = len(np.unique(mated_labels))
        within = (1 - none_among(people), 1.0) if passed == 1 else interval(rates)
        found[rate] = TrueMatches(threshold, passed, counts[rate], within)
    return found


def _redrawn_thresholds(
    impostors: Impostors, labels: NDArray[np.int64], rates: Sequence[float], weights: Weights
) -> Similarities:
    """(draws, rates): the lowest threshold that at most these shares of the drawn impostor pairs reach."""
    first, second = labels[impostors.first], labels[impostors.second]
    photographs = weights * np.bincount(labels, minlength=weights.shape[1])
    totals = (photographs.sum(axis=1, dtype=np.float64) ** 2 - np.sum(photographs**2.0, axis=1)) / 2
    last = len(impostors.similarities) - 1
    thresholds = np.empty((len(weights), len(rates)), np.float32)
    for row, (drawn, total) in enumerate(zip(weights, totals, strict=True)):
        passed = np.cumsum(drawn[first] * drawn[second], dtype=np.float64)
        refused = np.searchsorted(passed, total * np.array(rates), side="right")
        thresholds[row] = impostors.similarities[np.minimum(refused, last)]
    return np.nextafter(thresholds, np.float32(np.inf))


def _accuracy_interval(
    right: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64], weights: Weights
) -> Interval:
    if right.all():
        return 1 - none_among(len(np.unique([first, second]))), 1.0
    return interval(redrawn_means(right, first, second, weights))


def redrawn_means(
    values: NDArray[Any], first: NDArray[np.int64], second: NDArray[np.int64], weights: Weights
) -> NDArray[np.float64]:
    """(draws,): of one value for each pair of labels, its mean over the pairs of each draw of people.

    A mated pair counts as often as its person was drawn, another as the product of its two.
    """
    one_person = (first == second).ravel()
    counts = weights[:, first.ravel()]
    counts[:, ~one_person] *= weights[:, second.ravel()[~one_person]]
    return np.asarray(counts @ values.ravel() / counts.sum(axis=1, dtype=np.float64), np.float64)


def _impostors(embeddings: Embeddings, probes: Embeddings, impostor_pairs: int) -> Impostors:
    """The upper tail. Pairs with a photograph in which no face was found count, and never pass."""
    # A draw of people can have more of the similar pairs than the album itself; half as many more suffice.
    keep = 1 + admitted(impostor_pairs, max(FALSE_MATCH_RATES)) * 3 // 2
    rows = np.flatnonzero(embeddings.found & probes.found)
    labels, others = embeddings.album.labels[rows], probes.vectors[rows]
    strongest = strongest_impostors(embeddings.vectors[rows], labels, keep, others=others)
    return replace(strongest, first=rows[strongest.first], second=rows[strongest.second])


def figures(result: Verification) -> dict[str, Figure]:
    """For `--json`; fractions."""
    measured = {
        "accuracy": one(result.accuracy, "fraction", result.accuracy_interval),
        "accuracy_stderr": one(result.accuracy_stderr, "fraction"),
    }
    for rate, matches in result.true_matches.items():
        if matches is not None:
            measured[f"tmr_at_fmr_{_exponent(rate)}"] = one(matches.rate, "fraction", matches.interval)
            measured[f"similarity_at_fmr_{_exponent(rate)}"] = one(matches.threshold, "similarity")
    return measured


def report(result: Verification) -> str:
    """For people."""
    low, high = result.thresholds
    lines = [
        f"View 2: accuracy {result.accuracy:.4f} {interval_text(result.accuracy_interval)}, standard error of "
        f"{result.folds} folds ± {result.accuracy_stderr:.4f} ({result.pairs:,} pairs; thresholds {low:.4f} to "
        f"{high:.4f})",
        f"True-match rate of {result.mated_pairs:,} mated pairs, impostors from "
        f"{result.impostor_pairs:,} pairs of different people; in brackets 95 % intervals over people:",
    ]
    for rate, matches in result.true_matches.items():
        line = f"  FMR {_exponent(rate)}  "
        if matches is None:
            line += "not reported: below one impostor pair"
        else:
            line += (
                f"{matches.rate:.4f} {interval_text(matches.interval)}  "
                f"at similarity {matches.threshold:.4f} ({matches.admitted:,} pairs pass)"
            )
        lines.append(line)
    return "\n".join(lines)


def interval_text(within: Interval) -> str:
    """`[0.9941, 0.9972]`, fractions."""
    return f"[{within[0]:.4f}, {within[1]:.4f}]"


def _exponent(rate: float) -> str:
    """1e-3, as the keys of the figures have it."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
