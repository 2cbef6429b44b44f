"""A vector against everybody enrolled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.recognition.gallery import Gallery
from edge.records import Match, Vector

FULL_SHARE = 0.5
"""Of the best one's mean similarity to the others: who has less of it counts less. 0.6 and 0.7 gave the same on the
tuning photographs (a prototype; its table is in docs/decisions/recognition.md)."""

LEAST_AGREEMENT = 0.05
"""A similarity that no vector falls below, so that some that are like none of the others have a mean, too. Set, not
measured: it matters only where no two photographs show the same person, and enrolment refuses those."""


def best_match(vector: Vector, gallery: Gallery) -> Match | None:
    """The most similar person and the runner-up's similarity; None from an empty gallery."""
    similarities = gallery.matrix @ vector
    if similarities.size == 0:
        return None
    best = int(similarities.argmax())
    runner_up = float(np.delete(similarities, best).max()) if similarities.size > 1 else -1.0
    return Match(
        person=gallery.people[best],
        similarity=float(similarities[best]),
        runner_up_similarity=runner_up,
    )


def fuse(vectors: Sequence[Vector]) -> Vector:
    """The unit-length mean of several looks at one face: a probe over a track."""
    return _unit_mean(np.stack(vectors), np.ones(len(vectors), np.float32))


def template_of(vectors: Sequence[Vector]) -> Vector:
    """The unit-length mean of a person's photographs, in which those that are unlike the others count little.

    Of three photographs one may show a profile, a blur or somebody else, and the plain mean is then nobody's.
    """
    rows = np.stack(vectors)
    return _unit_mean(rows, agreement(rows))


def agreement(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each of these unit vectors counts, (n,): fully, unless it is unlike the others.

    That is where its mean similarity to the others is less than FULL_SHARE of the best one's; then by the square
    of what it has of that. One and two count alike. With three photographs a template, misses are about
    the same where all are right, and two fifths fewer where one in fourteen shows somebody else
    (docs/decisions/recognition.md).
    """
    others = ((rows @ rows.T).sum(axis=1) - 1) / max(1, len(rows) - 1)
    kept = np.maximum(others, LEAST_AGREEMENT)
    return np.asarray(np.minimum(1, kept / (FULL_SHARE * kept.max())) ** 2, np.float32)


def _unit_mean(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> Vector:
    mean: Vector = weights @ rows
    unit: Vector = mean / np.linalg.norm(mean)
    return unit
