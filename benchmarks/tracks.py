"""How often a track changes person, or breaks, by how much a change of size counts beside the place.

Scenes of two people in one corridor, rendered from portraits: they cross at different
distances, they come to the camera on crossing ways, or one passes before another who
stands. Everything follows from the seed. The detector is the daemon's, and so is the
tracker; looks at faces are not compared here, which would part most of the tracks that
change person. Truth is where each face was drawn; somebody who is mostly hidden by the
other is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from benchmarks.run import main, note
from benchmarks.truth import Tally, Truth, tally
from demo.people import sample_people
from demo.scenes import Stop, by_way_of, figure
from demo.walkpast import CutOut, Pose, Way, render_people
from edge.assembly import Eyes, open_eyes
from edge.config import RecognitionConfig, TrackConfig
from edge.evaluate.figures import Figure, one
from edge.recognition.track import SIZE_COUNTS, Tracker
from edge.records import Box, Face

SCENES = 120
SECONDS = 3.0
SEED = 20261124
FRAMES_PER_S = (8.0, 12.0, 25.0)
WEIGHTS = (0.0, 0.5, SIZE_COUNTS, 2.0)
"""Of a change of size; the daemon's own among them."""

HEIGHT = 1.3
"""Of a face's box, in widths, as the detector gives it."""

HIDDEN = 0.5
"""Whoever has so much of the face behind somebody else's is not in sight."""

ANY = -1.0
"""No look is compared, so what it must be is of no matter."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the detector found of a scene, and where everybody was."""

    times_ms: tuple[int, ...]
    faces: tuple[tuple[Face, ...], ...]
    truth: Truth


def measure(runs: int) -> Mapping[str, Figure]:
    """One run is enough: everything follows from the seed."""
    eyes = open_eyes(RecognitionConfig())
    people = [[figure(eyes, photo) for photo in photos] for photos in sample_people().values()]
    rng = np.random.default_rng(SEED)
    scenes = []
    for number in range(SCENES):
        pair = [photos[rng.integers(len(photos))] for photos in people]
        scenes.append(see(eyes, pair, ways(number, rng), number))
        if number % 10 == 0:
            note(f"scene {number} of {SCENES}")
    figures = {"scenes": one(len(scenes), "")}
    for weight in WEIGHTS:
        total = Tally(*np.sum([astuple(follow(scene, weight)) for scene in scenes], axis=0).tolist())
        figures["faces"] = one(total.faces, "")
        figures[f"switches_at_{weight:g}"] = one(total.switches, "")
        figures[f"fragments_at_{weight:g}"] = one(total.fragments, "")
    return figures


def ways(number: int, rng: np.random.Generator) -> tuple[Way, Way]:
    """Of the two people of a scene: crossing, coming on crossing ways, or one before another who stands."""
    side = 1 if rng.random() < 0.5 else -1  # noqa: PLR2004
    near_m, far_m = rng.uniform(1.2, 1.8), rng.uniform(2.2, 3.4)
    wide_m = side * rng.uniform(0.4, 0.6)
    late_s = rng.uniform(-0.4, 0.4)
    crossing: list[Stop] = [(0, -wide_m, near_m), (SECONDS, wide_m, near_m)]
    match number % 3:
        case 0:
            other: list[Stop] = [(0, 1.5 * wide_m, far_m), (SECONDS, -1.5 * wide_m, far_m)]
        case 1:
            crossing = [(0, -wide_m, far_m), (SECONDS, wide_m / 2, 0.9)]
            other = [(0, wide_m, far_m + 0.4), (SECONDS, -wide_m / 2, 1.2)]
        case _:
            other = [(0, late_s * wide_m, far_m), (SECONDS, late_s * wide_m, far_m)]
    return by_way_of(crossing), by_way_of([(at_s + late_s, x, depth) for at_s, x, depth in other])


def see(eyes: Eyes, people: Sequence[CutOut], them: tuple[Way, Way], number: int) -> Scene:
    """Render a scene and look for faces in it."""
    frames_per_s = FRAMES_PER_S[number // len(FRAMES_PER_S) % len(FRAMES_PER_S)]
    frames = round(SECONDS * frames_per_s)
    images = render_people(list(zip(people, them, strict=True)), number, frames, frames_per_s=frames_per_s)
    times_s = [frame / frames_per_s for frame in range(frames)]
    return Scene(
        times_ms=tuple(round(1000 * at_s) for at_s in times_s),
        faces=tuple(eyes.detector.detect(image) for image in images),
        truth=truth_of([[way(at_s) for way in them] for at_s in times_s]),
    )


def truth_of(poses: Sequence[Sequence[Pose | None]]) -> Truth:
    """Who is in sight where in each frame; one appearance each."""
    frames = tuple(dict(in_sight(those)) for those in poses)
    return Truth(frames, tuple(dict.fromkeys(people, 0) for people in frames))


def in_sight(poses: Sequence[Pose | None]) -> Iterator[tuple[int, Box]]:
    """The number and the face's box of everybody whose face is not mostly behind a nearer one."""
    for person, pose in enumerate(poses):
        if pose is None:
            continue
        nearer = [other for other in poses if other is not None and other.depth_m < pose.depth_m]
        if all(covered(box_of(pose), box_of(other)) < HIDDEN for other in nearer):
            yield person, box_of(pose)


def box_of(pose: Pose) -> Box:
    """Where the detector should find a face."""
    half, tall = pose.face_px / 2, HEIGHT * pose.face_px / 2
    return Box(pose.x_px - half, pose.y_px - tall, pose.x_px + half, pose.y_px + tall)


def covered(box: Box, by: Box) -> float:
    """The share of a box that lies within another."""
    across = min(box.x2, by.x2) - max(box.x1, by.x1)
    down = min(box.y2, by.y2) - max(box.y1, by.y1)
    return max(0.0, across) * max(0.0, down) / (box.width_px * box.height_px)


def follow(scene: Scene, size_counts: float) -> Tally:
    """What the daemon's tracker makes of a scene, by place and size alone."""
    tracker = Tracker(TrackConfig(), same=ANY, size_counts=size_counts)
    seen = [tracker.update(faces, at_ms)[0] for faces, at_ms in zip(scene.faces, scene.times_ms, strict=True)]
    return tally(scene.truth, seen)


if __name__ == "__main__":
    main("tracks", measure)
