"""A vector against everybody enrolled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.recognition.gallery import Gallery
from edge.records import Match, Vector


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
    """The unit-length mean of several vectors of one face: a template, or a probe over a track."""
    mean: Vector = np.mean(np.stack(vectors), axis=0, dtype=np.float32)
    unit: Vector = mean / np.linalg.norm(mean)
    return unit
