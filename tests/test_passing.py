"""Several people at one door: each has a track of their own, and nobody is taken for another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from demo.scenes import by_way_of, figure
from demo.walkpast import CutOut, Way, render_people
from edge.assembly import Eyes, build_road
from edge.config import DecideConfig, QualityConfig, TrackConfig
from edge.pipeline import Passage
from edge.recognition.decide import Decider
from edge.recognition.gallery import make_gallery
from edge.records import Attendance, Frame, Image, NoAttendance, TrackEnd, Vector
from edge.replay import NobodyKeeps
from tests.conftest import People
from tests.doors import templates

FRAMES_PER_S = 12.0
SEED = 3
FIRST, SECOND = "P44", "P46"

Figures = dict[str, CutOut]


@dataclass(frozen=True)
class Seen:
    """What became of everybody in a scene."""

    passages: list[Passage]
    ended: list[TrackEnd]

    @property
    def people(self) -> list[str]:
        """Who attended, in order."""
        return [attendance.person for attendance in self.attendances]

    @property
    def attendances(self) -> list[Attendance]:
        return [attendance for passage in self.passages for attendance in passage.attendances]

    def at(self, at_s: float) -> dict[int, float]:
        """Where each track's face is at that time: its centre from the left, in pixels."""
        passage = self.passages[round(at_s * FRAMES_PER_S)]
        return {sighting.track: sighting.face.box.centre[0] for sighting in passage.sightings}


@pytest.fixture(scope="module")
def figures(eyes: Eyes, people: People) -> Figures:
    return {FIRST: figure(eyes, people[FIRST][2]), SECOND: figure(eyes, people[SECOND][0])}


@pytest.fixture(scope="module")
def both(eyes: Eyes, people: People) -> dict[str, Vector]:
    """Both enrolled. Of one there is a single portrait, so she is enrolled and seen by the same."""
    return templates(eyes, {FIRST: people[FIRST][:2], SECOND: people[SECOND]})


def look_at(
    eyes: Eyes,
    figures: Figures,
    enrolled: dict[str, Vector],
    ways: Iterable[tuple[str, Way]],
    seconds: float,
) -> Seen:
    """The whole road on a rendered scene."""
    shown = [(figures[person], way) for person, way in ways]
    images = render_people(shown, SEED, round(seconds * FRAMES_PER_S), frames_per_s=FRAMES_PER_S)
    return see(eyes, enrolled, images)


def see(eyes: Eyes, enrolled: dict[str, Vector], images: Iterable[Image]) -> Seen:
    gallery = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, enrolled)
    decider = Decider(DecideConfig(), gallery, eyes.spec.threshold(len(enrolled)))
    road = build_road(eyes, TrackConfig(), QualityConfig(), decider, NobodyKeeps())
    passages = [
        road.walk(Frame(image, captured_mono_ms=round(1000 * number / FRAMES_PER_S), number=number))
        for number, image in enumerate(images)
    ]
    ended = [end for passage in passages for end in passage.ended] + list(road.finish())
    return Seen(passages, ended)


def test_two_who_cross_are_each_recognised_once_and_keep_their_tracks(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [
        (FIRST, by_way_of([(0, -0.6, 2.2), (2.5, 0.6, 2.0)])),
        (SECOND, by_way_of([(0, 0.6, 1.6), (2.5, -0.6, 1.5)])),
    ]
    seen = look_at(eyes, figures, both, ways, 2.5)
    assert sorted(seen.people) == [FIRST, SECOND]
    before, after = seen.at(0.5), seen.at(2.2)
    assert len(before) == 2
    assert sorted(before, key=before.__getitem__) == sorted(after, key=after.__getitem__, reverse=True)
    assert len(seen.ended) == 2


def test_two_abreast_are_two_tracks_and_two_attendances(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [
        (FIRST, by_way_of([(0, -0.25, 3), (2.5, -0.2, 1.0)])),
        (SECOND, by_way_of([(0, 0.3, 3.1), (2.5, 0.25, 1.1)])),
    ]
    seen = look_at(eyes, figures, both, ways, 2.5)
    assert sorted(seen.people) == [FIRST, SECOND]
    assert len(seen.ended) == 2


def test_one_who_stops_while_another_walks_on_is_still_one_attendance(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [
        (FIRST, by_way_of([(0, -0.2, 3), (1, -0.2, 1.8), (3, -0.2, 1.8)])),
        (SECOND, by_way_of([(0, 0.4, 3.6), (3, 0.3, 0.9)])),
    ]
    seen = look_at(eyes, figures, both, ways, 3)
    assert sorted(seen.people) == [FIRST, SECOND]
    assert len(seen.ended) == 2


def test_one_whom_another_hides_for_a_moment_keeps_the_track(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [
        (FIRST, by_way_of([(0, 0, 1.9), (3, 0, 1.7)])),
        (SECOND, by_way_of([(0.5, -1, 1.2), (2.3, 1, 1.2)])),
    ]
    seen = look_at(eyes, figures, both, ways, 3)
    hidden = [len(passage.sightings) for passage in seen.passages[16:18]]
    assert hidden == [1, 1], "there is a moment in which only the nearer is seen"
    assert sorted(seen.people) == [FIRST, SECOND]
    assert list(seen.at(0.2)) == list(seen.at(2.9)), "the one behind has the number from before"


def test_who_leaves_and_comes_back_within_the_cooldown_is_one_attendance_and_two_tracks(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [(FIRST, by_way_of([(0, 0, 1.8), (4, 0, 1.5)], hidden_s=(1.2, 2.4)))]
    seen = look_at(eyes, figures, both, ways, 4)
    assert seen.people == [FIRST]
    assert [end.outcome for end in seen.ended] == [None, NoAttendance.COOLDOWN]


def test_who_takes_anothers_exact_place_after_an_attendance_gets_their_own(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [
        (FIRST, by_way_of([(0, 0, 1.7), (1.5, 0, 1.6)])),
        (SECOND, by_way_of([(1.55, 0, 1.6), (3.5, 0, 1.5)])),
    ]
    seen = look_at(eyes, figures, both, ways, 3.5)
    assert seen.people == [FIRST, SECOND]
    assert [(end.track, end.outcome) for end in seen.ended] == [(1, None), (2, None)]


@pytest.mark.parametrize("good_frames", range(1, 6))
def test_a_stranger_in_an_employees_place_never_gets_the_employees_name(
    eyes: Eyes, figures: Figures, people: People, good_frames: int
) -> None:
    """The place is taken after each number of good frames of the employee, before and after the name is written."""
    employee = templates(eyes, {FIRST: people[FIRST][:2]})
    change_s = (good_frames - 0.5) / FRAMES_PER_S
    ways = [
        (FIRST, by_way_of([(0, 0, 1.5), (change_s, 0, 1.5)])),
        (SECOND, by_way_of([(change_s, 0, 1.5), (3, 0, 1.5)])),
    ]
    seen = look_at(eyes, figures, employee, ways, 2.5)
    assert seen.people == ([FIRST] if good_frames >= 3 else [])
    assert all(a.seen_mono_ms < 1000 * change_s for a in seen.attendances), (
        "from frames of the employee alone"
    )
    assert len(seen.ended) == 2
    assert seen.ended[-1].outcome is NoAttendance.NO_MATCH, "the stranger had a chance of their own"


def test_an_employee_in_a_strangers_place_is_recognised(eyes: Eyes, figures: Figures, people: People) -> None:
    """Also once the stranger's case is closed: they stood there for longer than anybody is looked at."""
    employee = templates(eyes, {FIRST: people[FIRST][:2]})
    ways = [
        (SECOND, by_way_of([(0, 0, 1.5), (2.5, 0, 1.5)])),
        (FIRST, by_way_of([(2.5, 0, 1.5), (4, 0, 1.5)])),
    ]
    seen = look_at(eyes, figures, employee, ways, 4)
    assert seen.people == [FIRST]
    assert [end.outcome for end in seen.ended] == [NoAttendance.NO_MATCH, None]


def test_a_track_that_is_parted_is_told_by_its_new_number_from_the_same_frame_on(
    eyes: Eyes, figures: Figures, both: dict[str, Vector]
) -> None:
    ways = [
        (FIRST, by_way_of([(0, 0, 1.5), (0.5, 0, 1.5)])),
        (SECOND, by_way_of([(0.5, 0, 1.5), (1.5, 0, 1.5)])),
    ]
    seen = look_at(eyes, figures, both, ways, 1.5)
    ends = [(number, p) for number, p in enumerate(seen.passages) if p.ended]
    ((number, passage),) = ends
    assert [end.track for end in passage.ended] == [1]
    assert [sighting.track for sighting in passage.sightings] == [2]
    assert sum(end.frames for end in seen.ended) == sum(len(p.sightings) for p in seen.passages)
    assert seen.ended[0].frames == number - 1, "the two doubtful frames are the other's"
