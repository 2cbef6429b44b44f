"""Faces of successive frames become people passing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.config import TrackConfig
from edge.recognition.track import GAP_MS, Tracker
from edge.records import Box, Face, Sighting, Vector

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


def test_of_two_who_pass_each_other_the_larger_face_stays_the_larger() -> None:
    """One hides the other for a frame; the one that is left has the size of its own track, not its neighbour's."""
    tracker = Tracker(TrackConfig(), SAME)
    near, far = face(380, width_px=77), face(276, width_px=56)
    assert numbers(tracker, [near, far], 0) == [1, 2]
    assert numbers(tracker, [face(361, width_px=77), face(291, width_px=56)], FRAME_MS) == [1, 2]
    assert numbers(tracker, [face(319, width_px=77)], 3 * FRAME_MS) == [1]


ANNA, BUDI = np.eye(2, dtype=np.float32)


def look(tracker: Tracker, vector: Vector, now_mono_ms: int) -> tuple[int, int, int | None]:
    """Show the tracker the one face of a frame: its number, how many looks count, which track is over by it."""
    (sighting,), _ = tracker.update([face(100)], now_mono_ms)
    view = tracker.compare(sighting, vector)
    return view.sighting.track, len(view.vectors), view.parted


def test_another_person_in_the_same_place_goes_on_under_a_number_of_their_own() -> None:
    tracker = Tracker(TrackConfig(), SAME)
    shown = [ANNA, ANNA, BUDI, BUDI, BUDI, BUDI]
    seen = [look(tracker, vector, i * FRAME_MS) for i, vector in enumerate(shown)]
    assert seen == [(1, 1, None), (1, 1, None), (1, 0, None), (2, 2, 1), (2, 1, None), (2, 1, None)]
    assert tracker.end_all() == (2,), "the first ended when the second began"


def test_somebody_who_returns_to_a_place_is_a_third_track() -> None:
    tracker = Tracker(TrackConfig(), SAME)
    shown = [ANNA, ANNA, BUDI, BUDI, ANNA, ANNA]
    assert [look(tracker, vector, i * FRAME_MS)[0] for i, vector in enumerate(shown)] == [1, 1, 1, 2, 2, 3]


def due(tracker: Tracker, now_mono_ms: int) -> Sighting | None:
    """The sighting of this frame's face if a look at it is due."""
    (sighting,), _ = tracker.update([face(100)], now_mono_ms)
    return sighting if tracker.unsure(sighting) else None


def test_a_face_is_looked_at_again_when_it_was_away_when_it_is_doubted_and_every_so_often() -> None:
    tracker = Tracker(TrackConfig(recheck_ms=500), SAME)
    first = due(tracker, 0)
    assert first is not None, "never looked at yet"
    tracker.compare(first, ANNA)
    times = range(100, 501, 100)
    assert [now for now in times if due(tracker, now)] == [500]
    again = due(tracker, 600)
    assert again is not None, "due until a look was good enough"
    tracker.compare(again, ANNA)
    assert due(tracker, 700) is None
    back = due(tracker, 701 + GAP_MS)
    assert back is not None, "it was hidden meanwhile"
    tracker.compare(back, BUDI)
    assert due(tracker, 800 + GAP_MS) is not None, "one doubtful look"


boxes = st.tuples(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(0, 800))


@given(st.lists(st.lists(boxes, max_size=6), max_size=12))
def test_in_every_frame_each_face_has_a_number_of_its_own(
    frames: list[list[tuple[float, float, float]]],
) -> None:
    tracker = Tracker(TrackConfig(max_tracks=256), SAME)
    for i, frame in enumerate(frames):
        found = numbers(tracker, [face(x, y, width_px) for x, y, width_px in frame], i * FRAME_MS)
        assert len(set(found)) == len(frame)
