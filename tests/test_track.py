"""Faces of successive frames become people passing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.config import TrackConfig
from edge.recognition.track import Tracker
from edge.records import Box, Face

FRAME_MS = 80
SAME = 0.45


def face(x: float, y: float = 100, width_px: float = 50) -> Face:
    box = Box(x - width_px / 2, y - width_px * 0.6, x + width_px / 2, y + width_px * 0.6)
    return Face(box=box, keypoints=np.zeros((5, 2), np.float32), confidence=0.9)


def numbers(tracker: Tracker, faces: list[Face], now_mono_ms: int) -> list[int]:
    return [sighting.track for sighting in tracker.update(faces, now_mono_ms)[0]]


def test_somebody_who_walks_keeps_one_number() -> None:
    tracker = Tracker(TrackConfig(), SAME)
    seen = [numbers(tracker, [face(50 + 30 * i, width_px=30 + 3 * i)], i * FRAME_MS) for i in range(15)]
    assert seen == [[1]] * 15


def test_two_who_cross_keep_their_numbers() -> None:
    tracker = Tracker(TrackConfig(), SAME)
    for i in range(21):
        left, right = face(100 + 20 * i, y=100), face(500 - 20 * i, y=112)
        order = [left, right] if i % 2 else [right, left]
        by_x = dict(zip([f.box.centre[1] for f in order], numbers(tracker, order, i * FRAME_MS), strict=True))
        if i == 0:
            first = by_x
        assert by_x == first


def test_a_face_that_was_hidden_for_half_a_second_is_still_the_same_person() -> None:
    tracker = Tracker(TrackConfig(), SAME)
    for i in range(5):
        numbers(tracker, [face(100 + 10 * i)], i * FRAME_MS)
    assert numbers(tracker, [face(140 + 60)], 4 * FRAME_MS + 480) == [1]


def test_a_track_ends_once_its_face_was_gone_for_too_long_and_the_next_is_another() -> None:
    tracker = Tracker(TrackConfig(lost_after_ms=800), SAME)
    numbers(tracker, [face(100)], 0)
    assert tracker.update([], 800) == ((), ())
    assert tracker.update([], 801) == ((), (1,))
    assert numbers(tracker, [face(100)], 900) == [2]


def test_a_face_far_away_or_of_another_size_is_somebody_else() -> None:
    tracker = Tracker(TrackConfig(max_shift=1.2), SAME)
    numbers(tracker, [face(100)], 0)
    assert numbers(tracker, [face(400)], FRAME_MS) == [2]
    assert numbers(tracker, [face(100, width_px=120)], 2 * FRAME_MS) == [3]


def test_no_more_tracks_are_followed_than_configured() -> None:
    tracker = Tracker(TrackConfig(max_tracks=2), SAME)
    crowd = [face(100 * i, width_px=20) for i in range(5)]
    assert len(numbers(tracker, crowd, 0)) == 2


def test_when_no_more_frames_come_every_track_ends() -> None:
    tracker = Tracker(TrackConfig(), SAME)
    numbers(tracker, [face(100), face(400)], 0)
    assert tracker.end_all() == (1, 2)
    assert tracker.end_all() == ()


boxes = st.tuples(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(0, 800))


@given(st.lists(st.lists(boxes, max_size=6), max_size=12))
def test_in_every_frame_each_face_has_a_number_of_its_own(
    frames: list[list[tuple[float, float, float]]],
) -> None:
    tracker = Tracker(TrackConfig(max_tracks=256), SAME)
    for i, frame in enumerate(frames):
        found = numbers(tracker, [face(x, y, width_px) for x, y, width_px in frame], i * FRAME_MS)
        assert len(set(found)) == len(frame)
