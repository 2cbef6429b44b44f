"""Verification on Labeled Faces in the Wild: View 2's ten folds, and true matches at low false-match rates.

Nothing is tuned here: embedder, detector and crop are the daemon's. Of View 2, nine folds
choose the threshold for the tenth (Huang et al., "Labeled Faces in the Wild", University of
Massachusetts, Amherst, technical report 07-49, 2007).

The true-match rates take the 3,000 mated pairs of View 2 and, as impostors, every pair of
photographs of different people in the folder: View 2's own 3,000 non-mated pairs cannot
show a rate of one in ten thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.evaluate.dataset import Album, Embeddings, pair_rows, read_pairs
from edge.evaluate.figures import Figure, one
from edge.evaluate.rates import (
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


@dataclass(frozen=True, slots=True)
class Verification:
    """What LFW says about an embedder. Rates and accuracy are fractions."""

    accuracy: float
    accuracy_stderr: float
    folds: int
    pairs: int
    thresholds: tuple[float, float]
    """The lowest and highest of the folds."""
    mated_pairs: int
    impostor_pairs: int
    true_matches: Mapping[float, TrueMatches | None]
    """By false-match rate; None where not even one impostor pair may pass."""


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


def verify(embeddings: Embeddings, folds: Folds) -> Verification:
    """Measure accuracy on the folds, and true matches against all impostor pairs of the album."""
    similarities = embeddings.similarities(folds.first, folds.second)
    accuracies, thresholds = fold_accuracies(similarities, folds.mated)
    impostor_pairs = count_impostor_pairs(embeddings.album.labels)
    impostors = _impostors(embeddings, impostor_pairs)
    return Verification(
        accuracy=float(accuracies.mean()),
        accuracy_stderr=standard_error(accuracies),
        folds=len(accuracies),
        pairs=folds.mated.size,
        thresholds=(float(thresholds.min()), float(thresholds.max())),
        mated_pairs=int(folds.mated.sum()),
        impostor_pairs=impostor_pairs,
        true_matches=true_matches(similarities[folds.mated], impostors, impostor_pairs),
    )


def true_matches(
    mated: Similarities, impostors: Similarities, impostor_pairs: int
) -> dict[float, TrueMatches | None]:
    """True-match rates from mated similarities and the highest of the impostors'.

    `impostors` must hold at least one more than the largest rate of `impostor_pairs` admits.
    """
    found: dict[float, TrueMatches | None] = {}
    for rate in FALSE_MATCH_RATES:
        count = admitted(impostor_pairs, rate)
        if count < 1:
            found[rate] = None
            continue
        threshold = threshold_admitting(impostors, count)
        found[rate] = TrueMatches(threshold, passing(mated, threshold), count)
    return found


def _impostors(embeddings: Embeddings, impostor_pairs: int) -> Similarities:
    """The upper tail. Pairs with a photograph in which no face was found count, and never pass."""
    keep = admitted(impostor_pairs, max(FALSE_MATCH_RATES)) + 1
    found = embeddings.found
    return strongest_impostors(embeddings.vectors[found], embeddings.album.labels[found], keep)


def figures(result: Verification) -> dict[str, Figure]:
    """For `--json`; fractions."""
    measured = {
        "accuracy": one(result.accuracy, "fraction"),
        "accuracy_stderr": one(result.accuracy_stderr, "fraction"),
    }
    for rate, matches in result.true_matches.items():
        if matches is not None:
            measured[f"tmr_at_fmr_{_exponent(rate)}"] = one(matches.rate, "fraction")
            measured[f"similarity_at_fmr_{_exponent(rate)}"] = one(matches.threshold, "similarity")
    return measured


def report(result: Verification) -> str:
    """For people."""
    low, high = result.thresholds
    lines = [
        f"View 2: accuracy {result.accuracy:.4f} ± {result.accuracy_stderr:.4f} (standard error of "
        f"{result.folds} folds, {result.pairs:,} pairs; thresholds {low:.4f} to {high:.4f})",
        f"True-match rate of {result.mated_pairs:,} mated pairs, impostors from "
        f"{result.impostor_pairs:,} pairs of different people:",
    ]
    for rate, matches in result.true_matches.items():
        line = f"  FMR {_exponent(rate)}  "
        if matches is None:
            line += "not reported: below one impostor pair"
        else:
            line += (
                f"{matches.rate:.4f}  at similarity {matches.threshold:.4f} ({matches.admitted:,} pairs pass)"
            )
        lines.append(line)
    return "\n".join(lines)


def _exponent(rate: float) -> str:
    """1e-3, as the keys of the figures have it."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
