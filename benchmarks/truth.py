"""Whom a clip shows where, written down by hand, and what a tracker made of it.

A switch is a track that goes on with another person than it had; a fragment is a track too
many for one unbroken appearance of a person (Li, Huang, Nevatia, CVPR 2009, count them alike).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.records import Box, Sighting

MAX_STEP = 6
"""Frames between two lines of a truth file, at most, for the person to be in sight between them."""

MIN_OVERLAP = 0.3
"""Of a face's box and a box of the truth, as intersection over union, for the face to be that person's.
Half would be usual; boxes of faces that the picture's edge cuts differ by more between two looks."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One clip's people: for each frame where each is."""

    frames: tuple[dict[int, Box], ...]
    appearances: tuple[dict[int, int], ...]
    """For each frame the running number of each person's appearance: it rises when they come back."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a tracker made of a clip."""

    appearances: int
    """Of which at least one face was found."""
    switches: int
    fragments: int
    strays: int
    """Faces at nobody's place."""
    faces: int


def read_truth(path: Path) -> Truth:
    """Read lines of `frame person x1 y1 x2 y2`; `#` begins a comment."""
    rows = [
        tuple(int(part) for part in line.split())
        for line in path.read_text(encoding="ascii").splitlines()
        if line and not line.startswith("#")
    ]
    frames: list[dict[int, Box]] = [{} for _ in range(max(row[0] for row in rows) + 1)]
    appearances: list[dict[int, int]] = [{} for _ in frames]
    for person in sorted({row[1] for row in rows}):
        own = np.array([(row[0], *row[2:]) for row in rows if row[1] == person], float)
        begins = np.flatnonzero(np.diff(own[:, 0]) > MAX_STEP) + 1
        for number, part in enumerate(np.split(own, begins)):
            for frame in range(int(part[0, 0]), int(part[-1, 0]) + 1):
                corners = (float(np.interp(frame, part[:, 0], part[:, column])) for column in range(1, 5))
                frames[frame][person] = Box(*corners)
                appearances[frame][person] = number
    return Truth(tuple(frames), tuple(appearances))


def tally(truth: Truth, sightings: Sequence[Iterable[Sighting]]) -> Tally:
    """Compare the sightings of each frame with the truth."""
    person_of: dict[int, int] = {}
    tracks_of: dict[tuple[int, int], set[int]] = {}
    switches = strays = faces = 0
    for people, numbers, seen in zip(truth.frames, truth.appearances, sightings, strict=False):
        for sighting in seen:
            faces += 1
            person = nearest(sighting.face.box, people)
            if person is None:
                strays += 1
                continue
            switches += person_of.get(sighting.track, person) != person
            person_of[sighting.track] = person
            tracks_of.setdefault((person, numbers[person]), set()).add(sighting.track)
    fragments = sum(len(tracks) - 1 for tracks in tracks_of.values())
    return Tally(len(tracks_of), switches, fragments, strays, faces)


def nearest(box: Box, people: dict[int, Box]) -> int | None:
    """Whose box it overlaps most, if by enough."""
    overlap, person = max(
        ((overlap_of(box, there), person) for person, there in people.items()), default=(0, 0)
    )
    return person if overlap >= MIN_OVERLAP else None


def overlap_of(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one.width_px * one.height_px + other.width_px * other.height_px - shared)
