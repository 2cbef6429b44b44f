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
    """The unit-length mean of several vectors of one face: a template, or a probe over a track.

    The better one agrees with the others, the more it counts (`agreement`): of three photographs one
    may show a profile, a blur or somebody else, and a plain mean is then nobody's.
    """
    rows = np.stack(vectors)
    mean: Vector = agreement(rows) @ rows
    unit: Vector = mean / np.linalg.norm(mean)
    return unit


def agreement(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each of these unit vectors counts, (n,): the square of its mean similarity to the others.

    One and two count alike. Of powers 1 to 3 none is better than another; with three photographs a
    template and degraded probes, misses fall by a quarter against the plain mean, and where one
    photograph in fourteen shows somebody else, by two fifths (docs/decisions/recognition.md).
    """
    others = ((rows @ rows.T).sum(axis=1) - 1) / max(1, len(rows) - 1)
    return np.asarray(np.maximum(others, LEAST_AGREEMENT) ** 2, np.float32)
