"""A vector against everybody enrolled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.recognition.gallery import Gallery
from edge.records import Match, Vector

LEAST_AGREEMENT = 0.05
"""Of vectors that are like none of the others, so that these have a mean, too."""


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
    """The unit-length mean of a person's photographs, of which each counts by how well it agrees with the others.

    Of three photographs one may show a profile, a blur or somebody else, and the plain mean is then nobody's.
    """
    rows = np.stack(vectors)
    return _unit_mean(rows, agreement(rows))


def agreement(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each of these unit vectors counts, (n,): the square of its mean similarity to the others.

    One and two count alike. Of powers 1 to 3 none is better than another. With three photographs a
    template, misses are about the same where all are right, and two fifths fewer where one in fourteen
    shows somebody else (docs/decisions/recognition.md).
    """
    others = ((rows @ rows.T).sum(axis=1) - 1) / max(1, len(rows) - 1)
    return np.asarray(np.maximum(others, LEAST_AGREEMENT) ** 2, np.float32)


def _unit_mean(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> Vector:
    mean: Vector = weights @ rows
    unit: Vector = mean / np.linalg.norm(mean)
    return unit
