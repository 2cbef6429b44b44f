"""The mean of many people's vectors: what the manifest's `centre` of each model is made of.

All faces have something in common, and a network trained on one kind of photograph puts all
those of another kind to one side. That much of every cosine says nothing about who it is.
Each person counts once, by the mean of their photographs' unit vectors. Where the folder
has LFW's `pairs.txt`, only people who are not in View 2 have a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.evaluate.dataset import VIEW_2, Album, Embeddings, people_of_pairs
from edge.recognition.manifest import EmbedderSpec

MIN_PEOPLE = 300
"""With fewer the mean would be about them rather than about faces; its error falls as one over the root."""


def without_centres(spec: EmbedderSpec) -> EmbedderSpec:
    """The same embedder before anything was taken from its vectors."""
    return replace(spec, models=tuple(replace(model, centre=()) for model in spec.models))


def choose_people(album: Album, folder: Path) -> NDArray[np.int64]:
    """Who has a part in the mean: by their numbers, in the order of the album's people.

    Raises InputError for a malformed pairs file, or where too few people are left.
    """
    used = people_of_pairs([folder / VIEW_2]) if (folder / VIEW_2).exists() else set()
    chosen = [number for number, person in enumerate(album.people) if person not in used]
    if len(chosen) < MIN_PEOPLE:
        raise InputError(f"{folder}: {len(chosen):,} people outside View 2; a mean needs {MIN_PEOPLE}")
    return np.array(chosen)


def centres(
    embeddings: Embeddings, people: NDArray[np.int64], spec: EmbedderSpec
) -> Mapping[str, NDArray[np.float32]]:
    """By model: the mean of the chosen people's mean unit vectors, of vectors that are not centred."""
    rows = list(embeddings.album.people.values())
    means = []
    for person in people:
        seen = [row for row in rows[person] if embeddings.found[row]]
        if seen:
            means.append(embeddings.vectors[seen].mean(axis=0))
    whole = np.mean(means, axis=0)
    ends = np.cumsum([model.dimensions for model in spec.models])[:-1]
    return {
        model.key: np.asarray(part / weight**0.5, np.float32)
        for model, part, weight in zip(spec.models, np.split(whole, ends), spec.weights, strict=True)
    }


def report(found: Mapping[str, NDArray[np.float32]], people: int) -> str:
    """The entries for the manifest."""
    lines = [f"# Mean of {people:,} people; `hadir-edge evaluate centre`."]
    for key, centre in found.items():
        numbers = ", ".join(f"{value:.4f}" for value in centre)
        lines += [
            f"[models.{key}]",
            f"centre = [\n{fill(numbers, 110, initial_indent='  ', subsequent_indent='  ')}\n]",
        ]
    return "\n".join(lines)
