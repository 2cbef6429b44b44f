"""Real people on real clips: one track each, nobody's name but their own, nothing from far away.

The clips belong to others and stay where HADIR_DATA says; who is where in them is written
down in `tests/truth/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth import Truth, read_truth, tally
from demo.scenes import figure
from demo.walkpast import Pose, over
from edge.assembly import Eyes, build_road
from edge.camera.pictures import read_picture
from edge.camera.replay import ReplayCamera
from edge.config import DecideConfig, QualityConfig, TrackConfig
from edge.evaluate.dataset import open_album
from edge.pipeline import Passage
from edge.recognition.decide import Decider
from edge.recognition.gallery import make_gallery
from edge.recognition.match import fuse
from edge.records import Attendance, Frame, Image, NoAttendance, Sighting, TrackEnd, Vector
from edge.replay import NobodyKeeps
from tests.conftest import People
from tests.doors import templates

TRUTHS = Path(__file__).parent / "truth"

OTHERS = 100
"""People of LFW who are enrolled as well, so that there is somebody to be mistaken for."""

TRACKED_FROM_PX = 24
"""A face of this width must be followed."""


class Walk:
    """A clip, or pictures like one, taken along the daemon's road."""

    def __init__(self, eyes: Eyes, enrolled: dict[str, Vector], frames: Iterable[Frame]) -> None:
        gallery = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, enrolled)
        decider = Decider(DecideConfig(), gallery, eyes.spec.threshold(len(enrolled)))
        road = build_road(eyes, TrackConfig(), QualityConfig(), decider, NobodyKeeps())
        self.passages: list[Passage] = [road.walk(frame) for frame in frames]
        self.ended: list[TrackEnd] = [end for p in self.passages for end in p.ended] + list(road.finish())

    @property
    def attendances(self) -> list[Attendance]:
        return [attendance for passage in self.passages for attendance in passage.attendances]

    @property
    def sightings(self) -> list[tuple[Sighting, ...]]:
        return [passage.sightings for passage in self.passages]


def frames_of(clip: Path) -> Iterator[Frame]:
    with ReplayCamera((str(clip),), live=False) as camera:
        yield from iter(camera.read, None)


def truth_of(name: str) -> Truth:
    return read_truth((TRUTHS / name).with_suffix(".txt"))


@pytest.fixture(scope="module")
def others(eyes: Eyes, data: Path) -> dict[str, Vector]:
    """One photograph each of people who are in none of the clips."""
    album = open_album(data / "lfw")
    found = (
        (f"L{number}", read_picture(album.folder / album.files[rows[0]]))
        for number, rows in enumerate(album.people.values())
        if number % 50 == 0
    )
    return {person: vector for person, image in islice(found, OTHERS) for vector in embedded(eyes, image)}


def embedded(eyes: Eyes, image: Image) -> list[Vector]:
    """The largest face of a picture, if there is one."""
    largest = sorted(eyes.detector.detect(image), key=lambda face: face.box.width_px)[-1:]
    return [eyes.embedder.embed(eyes.embedder.crops(image, face)) for face in largest]


def assert_one_track_each(walk: Walk, truth: Truth) -> None:
    """Everybody is one track from the frame on in which the face has TRACKED_FROM_PX, and no track changes person."""
    found = tally(truth, walk.sightings)
    assert (found.switches, found.fragments, found.strays) == (0, 0, 0)
    for frame, (people, sightings) in enumerate(zip(truth.frames, walk.sightings, strict=True)):
        large = [person for person, box in people.items() if box.width_px >= TRACKED_FROM_PX]
        assert len(sightings) >= len(large), f"frame {frame}: somebody near is not followed"


def test_two_who_walk_down_a_corridor_are_two_tracks_and_nobody(
    eyes: Eyes, data: Path, others: dict[str, Vector]
) -> None:
    walk = Walk(eyes, others, frames_of(data / "video/walking.gif"))
    assert_one_track_each(walk, truth_of("walking.gif"))
    assert len(walk.ended) == 2
    assert walk.attendances == []
    assert {end.outcome for end in walk.ended} == {NoAttendance.TOO_SMALL}, "they turn away before 40 px"


def test_three_who_pause_are_three_tracks_and_nobody_elses_name(
    eyes: Eyes, data: Path, others: dict[str, Vector]
) -> None:
    walk = Walk(eyes, others, frames_of(data / "video/walking-and-pause.gif"))
    assert_one_track_each(walk, truth_of("walking-and-pause.gif"))
    assert len(walk.ended) == 3
    assert walk.attendances == []
    assert {end.outcome for end in walk.ended} == {NoAttendance.NO_MATCH}


def test_each_of_the_three_is_recognised_before_the_quarter_they_are_enrolled_from(
    eyes: Eyes, data: Path, others: dict[str, Vector]
) -> None:
    frames = list(frames_of(data / "video/walking-and-pause.gif"))
    truth = truth_of("walking-and-pause.gif")
    begin = len(frames) * 3 // 4
    enrolled = from_frames(eyes, frames[begin:], truth, begin)
    assert sorted(enrolled) == ["C1", "C2", "C3"]
    walk = Walk(eyes, others | enrolled, frames[:begin])
    found = tally(truth, walk.sightings)
    assert (found.switches, found.fragments) == (0, 0)
    recognised = {attendance.track: attendance.person for attendance in walk.attendances}
    assert len(recognised) == len(walk.attendances) == 3
    for sighting in walk.sightings[begin - 1]:
        (person,) = (f"C{number}" for number in nearest_first(sighting, truth, begin - 1)[:1])
        assert recognised[sighting.track] == person


def from_frames(eyes: Eyes, frames: Sequence[Frame], truth: Truth, begin: int) -> dict[str, Vector]:
    """Templates of everybody in these frames, by where the truth says they are."""
    looks: dict[str, list[Vector]] = {}
    for number, frame in enumerate(frames, start=begin):
        for face in eyes.detector.detect(frame.image):
            person = nearest_first(Sighting(0, face, 0), truth, number)[0]
            vector = eyes.embedder.embed(eyes.embedder.crops(frame.image, face))
            looks.setdefault(f"C{person}", []).append(vector)
    return {person: fuse(vectors) for person, vectors in looks.items()}


def nearest_first(sighting: Sighting, truth: Truth, frame: int) -> list[int]:
    x, y = sighting.face.box.centre
    centres = {person: box.centre for person, box in truth.frames[frame].items()}
    return sorted(centres, key=lambda person: np.hypot(centres[person][0] - x, centres[person][1] - y))


def test_among_three_who_hide_each_other_no_track_changes_person(
    eyes: Eyes, data: Path, others: dict[str, Vector]
) -> None:
    walk = Walk(eyes, others, frames_of(data / "video/several-people-00.mp4"))
    found = tally(truth_of("several-people-00.mp4"), walk.sightings)
    assert (found.appearances, found.switches) == (5, 0)
    # Both of the man whom the picture's edge cuts off below the eyes: what is left of him looks like others.
    assert found.fragments <= 2
    assert walk.attendances == []


def test_cuts_between_people_part_the_track_that_goes_on_at_the_same_place(
    eyes: Eyes, data: Path, others: dict[str, Vector]
) -> None:
    """The singer's place is taken by somebody in the audience, and the singer is the only one enrolled."""
    frames = list(frames_of(data / "video/stage.mp4"))
    singing = [eyes.detector.detect(frame.image) for frame in frames[95:105]]
    looks = [
        eyes.embedder.embed(eyes.embedder.crops(frame.image, faces[0]))
        for frame, faces in zip(frames[95:105], singing, strict=True)
    ]
    walk = Walk(eyes, others | {"SINGER": fuse(looks)}, frames)
    assert [attendance.person for attendance in walk.attendances] == ["SINGER"], (
        "once, though he is shown twice"
    )
    (singing_alone,) = walk.sightings[150]
    outcomes = {end.track: end.outcome for end in walk.ended}
    assert outcomes[singing_alone.track] is NoAttendance.COOLDOWN
    assert singing_alone.track not in {sighting.track for sighting in walk.sightings[-1]}


def test_people_too_far_away_are_no_attendance_and_cost_no_embedding(
    eyes: Eyes, data: Path, others: dict[str, Vector]
) -> None:
    walk = Walk(eyes, others, frames_of(data / "video/distant-pedestrians.avi"))
    assert walk.attendances == []
    assert sum(end.good_frames for end in walk.ended) == 0


@pytest.mark.parametrize(("face_px", "recognised"), [(30, False), (100, True)])
def test_a_face_rendered_among_the_distant_is_too_small_at_30_pixels_and_recognised_at_100(
    eyes: Eyes, data: Path, others: dict[str, Vector], people: People, face_px: int, recognised: bool
) -> None:
    somebody = figure(eyes, people["P44"][2])

    def with_somebody() -> Iterator[Frame]:
        for frame in islice(frames_of(data / "video/distant-pedestrians.avi"), 50):
            pose = Pose(x_px=300 + frame.number, y_px=200, face_px=face_px, roll_rad=0, depth_m=1)
            scene = over(frame.image.astype(np.float32), somebody.layer_for(face_px), pose, pose)
            yield Frame(np.clip(scene, 0, 255).astype(np.uint8), frame.captured_mono_ms, frame.number)

    walk = Walk(eyes, others | templates(eyes, {"P44": people["P44"][:2]}), with_somebody())
    (end,) = walk.ended
    assert end.frames == 50
    assert [attendance.person for attendance in walk.attendances] == (["P44"] if recognised else [])
    if recognised:
        assert (end.outcome, end.good_frames >= 3) == (None, True)
    else:
        assert (end.outcome, end.good_frames) == (NoAttendance.TOO_SMALL, 0)
