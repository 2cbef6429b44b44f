"""How well a face is still recognised that an edge of the picture cuts off.

People of LFW who have a part in choosing settings: one photograph of each is enrolled, of
another everything beyond an edge is cut away, which lies so many distances of the eyes
above the higher eye, beside the one on the left of the picture, or below the mouth. The
stages are the daemon's; the limit `quality.min_above_eyes`, which this is about, is not
applied. A face that is not found, or less like the other photograph than the threshold for
ENROLLED people asks, is not recognised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.clips import data_folder
from benchmarks.run import main, note
from edge.assembly import Eyes, open_eyes
from edge.camera.pictures import read_picture
from edge.config import RecognitionConfig
from edge.errors import BadImage
from edge.evaluate.dataset import NO_SIMILARITY, open_album, person_meant
from edge.evaluate.figures import Figure, one
from edge.evaluate.thresholds import assign_roles
from edge.records import Face, Image, Points, Vector

PEOPLE = 400
SEED = 20261124
ENROLLED = 100

Edge = Literal["above", "beside", "below"]

DISTANCES: Mapping[Edge, tuple[float, ...]] = {
    "above": (0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0),
    "beside": (0.5, 0.3, 0.1),
    "below": (0.5, 0.3, 0.1),
}
"""Of the eyes."""

Shot = tuple[Image, Face]


def measure(runs: int) -> Mapping[str, Figure]:
    """One run is enough: everything follows from the seed."""
    eyes = open_eyes(RecognitionConfig())
    pairs = list(two_shots_each(eyes, data_folder("lfw")))
    threshold = eyes.spec.threshold(ENROLLED)
    enrolled = [embed(eyes, *first) for first, _ in pairs]
    whole = [embed(eyes, *second) for _, second in pairs]
    figures = {"people": one(len(pairs), ""), "threshold": one(threshold, "similarity")}
    figures |= told("whole", enrolled, whole, threshold)
    for edge, distances in DISTANCES.items():
        for distance in distances:
            note(f"{edge} {distance:g}")
            seen = [see_cut(eyes, second, edge, distance) for _, second in pairs]
            figures |= told(f"{edge}_{distance:g}", enrolled, seen, threshold)
    return figures


def two_shots_each(eyes: Eyes, folder: Path) -> Iterator[tuple[Shot, Shot]]:
    """Of PEOPLE drawn by SEED the first two photographs, where a face is found in both."""
    album = open_album(folder)
    names = np.array(list(album.people))[assign_roles(album, folder).choosing]
    several = [name for name in names if len(album.people[name]) > 1]
    for person in np.random.default_rng(SEED).permutation(several)[:PEOPLE]:
        images = [read_picture(album.folder / album.files[row]) for row in album.people[person][:2]]
        shots = [
            (image, face)
            for image in images
            if (face := person_meant(eyes.stills.detect(image), image)) is not None
        ]
        if len(shots) == 2:  # noqa: PLR2004 - both
            yield shots[0], shots[1]


def embed(eyes: Eyes, image: Image, face: Face) -> Vector | None:
    """None where the keypoints show no face."""
    try:
        return eyes.embedder.embed(eyes.embedder.crops(image, face))
    except BadImage:
        return None


def see_cut(eyes: Eyes, shot: Shot, edge: Edge, distance: float) -> Vector | None:
    """The face of a shot, found anew in what an edge leaves of it; None where it is not."""
    image, face = shot
    cut, (moved_x, moved_y) = cut_away(image, face.keypoints, edge, distance)
    x, y = face.box.centre
    try:
        found = eyes.detector.detect(cut)
    except BadImage:  # nearly nothing is left
        return None
    there = (x - moved_x, y - moved_y)
    nearest = min(found, key=lambda other: math.dist(other.box.centre, there), default=None)
    if nearest is None or math.dist(nearest.box.centre, there) > face.box.width_px:
        return None
    return embed(eyes, cut, nearest)


def cut_away(image: Image, keypoints: Points, edge: Edge, distance: float) -> tuple[Image, tuple[int, int]]:
    """What is left of a picture, and how far to the left and up its content went."""
    away = distance * math.dist(keypoints[0], keypoints[1])
    height, width = image.shape[:2]
    match edge:
        case "above":
            top = min(height, max(0, round(float(keypoints[:2, 1].min()) - away)))
            return image[top:], (0, top)
        case "beside":
            left = min(width, max(0, round(float(keypoints[:2, 0].min()) - away)))
            return image[:, left:], (left, 0)
        case "below":
            return image[: max(0, round(float(keypoints[3:, 1].max()) + away))], (0, 0)


def told(
    name: str, enrolled: Sequence[Vector | None], seen: Sequence[Vector | None], threshold: float
) -> dict[str, Figure]:
    """Median similarity, and how many are not recognised."""
    found = np.array([similarity(one, other) for one, other in zip(enrolled, seen, strict=True)])
    return {
        f"{name}_similarity": one(float(np.median(found)), "similarity"),
        f"{name}_missed": one(100 * float(np.mean(found < threshold)), "%"),
    }


def similarity(one_face: Vector | None, other: Vector | None) -> float:
    """The cosine, or the lowest there is where a face lacks."""
    return NO_SIMILARITY if one_face is None or other is None else float(one_face @ other)


if __name__ == "__main__":
    main("cutoff", measure)
