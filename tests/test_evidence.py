"""Whoever is seen in whatever order: what must hold of every attendance and of every track.

The road itself, with faces and vectors out of a script instead of models, so that
thousands of passages take seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.config import DecideConfig, QualityConfig, TrackConfig
from edge.pipeline import Passage, Road
from edge.recognition.align import ARCFACE_POINTS
from edge.recognition.decide import Decider
from edge.recognition.gallery import make_gallery
from edge.recognition.track import Tracker
from edge.records import Box, Face, Frame, Image, TrackEnd, Vector
from edge.replay import NobodyKeeps

DIMENSIONS = 6
THRESHOLD = SAME = 0.5
FRAME_MS = 100
PICTURE = np.random.default_rng(3).integers(0, 255, (200, 400, 3)).astype(np.uint8)
PLACES = (40, 240)
"""Where the two faces of a script stand, pixels from the left: too far apart for one track."""


def toward(*shares: float) -> Vector:
    vector = np.array(shares, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


LOOKS = {
    "anna": toward(1, 0, 0, 0, 0, 0),
    "anna, half turned": toward(1, 0.1, 0, 0.5, 0, 0),
    "budi": toward(0, 1, 0, 0, 0, 0),
    "anna's brother": toward(0.72, 0.69, 0, 0, 0, 0),
    "stranger": toward(0.2, 0.1, 1, 0, 0, 0),
    "blur": toward(0.3, 0.3, 0.3, 0.3, 1, 0.3),
    "blur, too": toward(-0.3, 0.3, -0.3, 0.3, 0.3, 1),
}
"""What a face may look like in a frame, as the embedder would say it."""

AWAY, UNFIT = "away", "unfit"
ENROLLED = {"anna": LOOKS["anna"], "budi": LOOKS["budi"]}

shown = st.sampled_from([*LOOKS, AWAY, UNFIT])
scripts = st.lists(st.tuples(shown, shown), max_size=60)


def staying(what: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    """One place where each thing stays for a while, which is what reaches an attendance."""
    scene = st.tuples(what, st.integers(1, 12)).map(lambda scene: [(scene[0], AWAY)] * scene[1])
    return st.lists(scene, max_size=8).map(lambda scenes: [frame for scene in scenes for frame in scene])


steady = staying(shown)
unrelated = staying(shown.filter(lambda what: what != "anna's brother"))


@dataclass
class Script:
    """Detector and embedder of a road: both read the script instead of the picture."""

    frames: Sequence[tuple[str, str]]
    number: int = -1
    asked: list[tuple[int, str]] = field(default_factory=list)
    """Every look that was embedded: its frame and what it showed."""

    def detect(self, image: Image) -> tuple[Face, ...]:
        self.number += 1
        return tuple(
            face_at(x, 30.0 if what == UNFIT else 90.0)
            for x, what in zip(PLACES, self.frames[self.number], strict=True)
            if what != AWAY
        )

    def crops(self, image: Image, face: Face) -> str:
        what = self.frames[self.number][PLACES.index(round(face.box.centre[0]) - 45)]
        self.asked.append((self.number, what))
        return what

    def embed(self, what: str) -> Vector:
        return LOOKS[what]


def face_at(x: float, width_px: float) -> Face:
    middle = x + 45
    box = Box(middle - width_px / 2, 100 - width_px / 2, middle + width_px / 2, 100 + width_px / 2)
    points = np.array(ARCFACE_POINTS, np.float32) + np.array([x, 44], np.float32)
    return Face(box=box, keypoints=points, confidence=0.9)


@dataclass(frozen=True)
class Played:
    script: Script
    passages: list[Passage]
    ended: list[TrackEnd]


def play(frames: Sequence[tuple[str, str]], cooldown_s: float = 2.0) -> Played:
    script = Script(frames)
    gallery = make_gallery(1, "e" * 64, DIMENSIONS, ENROLLED)
    road = Road(
        detector=script,  # type: ignore[arg-type]
        tracker=Tracker(TrackConfig(), SAME),
        quality=QualityConfig(min_sharpness=0),
        embedder=script,  # type: ignore[arg-type]
        decider=Decider(DecideConfig(cooldown_s=cooldown_s), gallery, THRESHOLD),
        recorder=NobodyKeeps(),
    )
    passages = [road.walk(Frame(PICTURE, FRAME_MS * n, n)) for n in range(len(frames))]
    ended = [end for passage in passages for end in passage.ended] + list(road.finish())
    return Played(script, passages, ended)


def whose(what: str) -> str:
    return "anna" if what.startswith("anna,") else what


@given(st.one_of(scripts, steady))
def test_every_track_that_was_ever_seen_ends_once_and_with_an_outcome(frames: list[tuple[str, str]]) -> None:
    played = play(frames)
    seen = Counter(s.track for passage in played.passages for s in passage.sightings)
    assert sorted(end.track for end in played.ended) == sorted(seen)
    assert sum(end.frames for end in played.ended) == sum(seen.values())
    assert all(0 <= end.good_frames <= end.frames for end in played.ended)


@given(st.one_of(scripts, steady))
def test_an_attendance_and_a_track_without_a_reason_are_one_to_one(frames: list[tuple[str, str]]) -> None:
    played = play(frames)
    attended = sorted(a.track for passage in played.passages for a in passage.attendances)
    assert attended == sorted(end.track for end in played.ended if end.outcome is None)


@given(unrelated)
def test_nobody_is_named_who_was_not_seen_well_in_three_looks_of_that_very_track(
    frames: list[tuple[str, str]],
) -> None:
    played = play(frames)
    for number, passage in enumerate(played.passages):
        for attendance in passage.attendances:
            before = [what for at, what in played.script.asked if at <= number]
            assert Counter(map(whose, before))[attendance.person] >= 3
            track = [
                n for n, p in enumerate(played.passages) for s in p.sightings if s.track == attendance.track
            ]
            looks = {whose(what) for at, what in played.script.asked if track[0] <= at <= number}
            assert not looks & (set(ENROLLED) - {attendance.person}), "no look of it spoke for anybody else"


@given(steady)
def test_the_same_person_is_not_written_down_twice_within_the_cooldown(frames: list[tuple[str, str]]) -> None:
    played = play(frames, cooldown_s=3)
    last: dict[str, int] = {}
    for passage in played.passages:
        for attendance in passage.attendances:
            before = last.get(attendance.person)
            assert before is None or attendance.seen_mono_ms - before >= 3000
            last[attendance.person] = attendance.seen_mono_ms


@given(steady)
def test_somebody_like_two_who_are_enrolled_is_nobody(frames: list[tuple[str, str]]) -> None:
    frames = [("anna's brother" if what == "anna" else what, other) for what, other in frames]
    frames = [frame for frame in frames if not frame[0].startswith("anna,")]
    assert all(a.person != "anna" for passage in play(frames).passages for a in passage.attendances)


def test_the_scripts_do_reach_attendances_cooldowns_and_new_persons() -> None:
    """Else the properties above would hold of nothing."""
    one = [("anna", AWAY)] * 5 + [("budi", AWAY)] * 8 + [(AWAY, AWAY)] * 9 + [("anna", AWAY)] * 4
    played = play(one)
    assert [a.person for passage in played.passages for a in passage.attendances] == ["anna", "budi", "anna"]
    played = play(one, cooldown_s=60)
    assert [str(end.outcome) for end in played.ended] == ["None", "None", "cooldown"]
