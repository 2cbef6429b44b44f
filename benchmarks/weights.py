"""Ways of fusing several looks at a person into one vector: which of them counts how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.recognition import match

Floats = NDArray[np.float32]

MIDDLE_GREY, SPREAD_GREY = 115.0, 40.0
"""What counts as good light: most of LFW's faces are that bright."""

LARGEST_YAW = 0.9
"""A face turned farther counts as little as one turned so far."""


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """At one person each run."""

    vectors: Floats
    """(runs, looks, dimensions): unit length where there is a look."""
    found: NDArray[np.bool_]
    """(runs, looks): whether there is one; runs may differ in length."""
    measures: Mapping[str, Floats]
    """By the names of `edge.evaluate.conditions`, (runs, looks)."""

    def part(self, which: slice) -> Looks:
        """Only those looks of each run."""
        measures = {name: values[:, which] for name, values in self.measures.items()}
        return Looks(self.vectors[:, which], self.found[:, which], measures)


Way = Callable[[Looks], Floats]
"""The weight of each look, (runs, looks), zero or more; of looks that are not there any."""


def fuse_by(way: Way, looks: Looks) -> Floats:
    """(runs, dimensions): the unit-length weighted mean of each run, zeros where nobody was seen."""
    weights = np.where(looks.found, way(looks), 0).astype(np.float32)
    means = np.einsum("rl,rld->rd", weights, looks.vectors)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0), np.float32)


def plain(looks: Looks) -> Floats:
    """All alike, as the daemon fuses frames."""
    return np.ones(looks.found.shape, np.float32)


def agreement(looks: Looks) -> Floats:
    """Of each look with the mean of its run: the cosine, if above zero."""
    cosines = np.einsum("rld,rd->rl", looks.vectors, fuse_by(plain, looks))
    return np.asarray(np.maximum(cosines, 0), np.float32)


def as_for_templates(looks: Looks) -> Floats:
    """Little for a look that is unlike the others of its run, all alike otherwise."""
    weights = np.zeros(looks.found.shape, np.float32)
    for row, there in enumerate(looks.found):
        if there.any():
            weights[row, there] = match.agreement(looks.vectors[row, there])
    return weights


def but_the_least(values: Floats, found: NDArray[np.bool_]) -> Floats:
    """Nothing for the lowest of a run, alike for the others; a single look counts."""
    lowest = np.where(found, values, np.inf).argmin(axis=1)
    alone = found.sum(axis=1) == 1
    places = np.arange(values.shape[1])
    return np.asarray((places != lowest[:, np.newaxis]) | alone[:, np.newaxis], np.float32)


def only_the_best(values: Floats, found: NDArray[np.bool_]) -> Floats:
    """Nothing for all but the highest of a run."""
    highest = np.where(found, values, -np.inf).argmax(axis=1)
    return np.asarray(np.arange(values.shape[1]) == highest[:, np.newaxis], np.float32)


def light(looks: Looks) -> Floats:
    """Less, the farther the face is from a middle grey."""
    off = (looks.measures["brightness"] - MIDDLE_GREY) / SPREAD_GREY
    return np.asarray(np.exp(-(off**2) / 2), np.float32)


WAYS: Mapping[str, Way] = {
    "plain": plain,
    "width": lambda looks: looks.measures["face_px"],
    "width_squared": lambda looks: looks.measures["face_px"] ** 2,
    "sharpness_quarter": lambda looks: looks.measures["sharpness"] ** 0.25,
    "sharpness_half": lambda looks: looks.measures["sharpness"] ** 0.5,
    "frontal": lambda looks: 1 - np.minimum(looks.measures["yaw"], LARGEST_YAW),
    "light": light,
    "agreement": agreement,
    "as_for_templates": as_for_templates,
    "but_least_alike": lambda looks: but_the_least(agreement(looks), looks.found),
    "only_sharpest": lambda looks: only_the_best(looks.measures["sharpness"], looks.found),
}
"""What is shipped is among them: `plain` for frames, `as_for_templates` for references."""
