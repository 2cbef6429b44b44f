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
"""With fewer the mean would be about them rather than about faces; its error falls as one over the root.
Set, not measured: with 300 unit vectors that error is about 0.06 long, where the means are 0.2 and 0.3."""


def without_centres(spec: EmbedderSpec) -> EmbedderSpec:
    """The same embedder before anything was taken from its vectors."""
    return replace(spec, models=tuple(replace(model, centre=()) for model in spec.models))


def outside_view_2(album: Album, folder: Path) -> Album:
    """Those of an album who have a part in the mean.

    Raises InputError for a malformed pairs file, or where too few people are left.
    """
    used = people_of_pairs([folder / VIEW_2]) if (folder / VIEW_2).exists() else set()
    chosen = Album(album.folder, tuple(file for file in album.files if file.split("/")[0] not in used))
    if len(chosen.people) < MIN_PEOPLE:
        raise InputError(f"{folder}: {len(chosen.people):,} people outside View 2; a mean needs {MIN_PEOPLE}")
    return chosen


def centres(embeddings: Embeddings, spec: EmbedderSpec) -> Mapping[str, NDArray[np.float32]]:
    """By model: the mean of the people's mean unit vectors, of vectors that are not centred."""
    seen = ([row for row in rows if embeddings.found[row]] for rows in embeddings.album.people.values())
    means = [embeddings.vectors[rows].mean(axis=0) for rows in seen if rows]
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
