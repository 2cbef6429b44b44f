"""What the benchmark of association counts, on poses and faces that are made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tracks import SECONDS, Scene, box_of, covered, follow, in_sight, truth_of, ways
from benchmarks.truth import Tally
from demo.walkpast import Pose
from edge.records import Box, Face


def pose(x_px: float, face_px: float, depth_m: float) -> Pose:
    return Pose(x_px, 200, face_px, 0, depth_m)


def face(box: Box) -> Face:
    return Face(box, np.zeros((5, 2), np.float32), 0.9)


def test_a_face_is_where_it_was_drawn_and_taller_than_wide() -> None:
    box = box_of(pose(100, 40, 3))
    assert box.centre == (100, 200)
    assert box.width_px == 40
    assert box.height_px == pytest.approx(52)


def test_the_share_of_a_box_within_another() -> None:
    assert covered(Box(0, 0, 10, 10), Box(5, 0, 100, 10)) == 0.5
    assert covered(Box(0, 0, 10, 10), Box(10, 0, 20, 10)) == 0
    assert covered(Box(0, 0, 10, 10), Box(-5, -5, 15, 15)) == 1


def test_only_the_farther_of_two_is_hidden() -> None:
    near, far = pose(100, 80, 1.5), pose(105, 40, 3)
    assert [person for person, _ in in_sight([near, far])] == [0]
    assert [person for person, _ in in_sight([far, near])] == [1]
    assert [person for person, _ in in_sight([near, pose(150, 40, 3)])] == [0, 1]
    assert [person for person, _ in in_sight([None, far])] == [1]


def test_whoever_comes_out_from_behind_another_has_not_been_away() -> None:
    near, far = pose(100, 80, 1.5), pose(100, 40, 3)
    truth = truth_of([[near, pose(20, 40, 3)], [near, far], [near, pose(180, 40, 3)]])
    assert [sorted(people) for people in truth.frames] == [[0, 1], [0], [0, 1]]
    assert [appearances.get(1) for appearances in truth.appearances] == [0, None, 0]


@pytest.mark.parametrize("number", range(3))
def test_in_every_kind_of_scene_two_people_pass_each_other_in_the_picture(number: int) -> None:
    for seed in range(20):
        first, second = ways(number, np.random.default_rng(seed))
        times_s = np.arange(0, SECONDS, 0.05)
        both = [(one, other) for at_s in times_s if (one := first(at_s)) and (other := second(at_s))]
        sides = {one.x_px < other.x_px for one, other in both}
        assert sides == {True, False}
        assert all(0 < one.x_px < 640 for one, _ in both)


def scene(*frames: tuple[tuple[float, float], tuple[float, float]]) -> Scene:
    """Two people, each by place and width of the face, 100 ms apart; the first is the nearer."""
    poses = [
        [pose(x_px, face_px, depth_m) for (x_px, face_px), depth_m in zip(each, (1, 3), strict=True)]
        for each in frames
    ]
    found = tuple(tuple(face(box_of(each)) for each in those) for those in poses)
    return Scene(tuple(100 * number for number in range(len(frames))), found, truth_of(poses))


def test_two_who_pass_at_different_distances_are_told_apart_by_their_size() -> None:
    # Each comes 40 px farther than expected, so that the other is the nearer one.
    passing = scene(((100, 80), (200, 60)), ((120, 80), (180, 60)), ((180, 80), (120, 60)))
    assert follow(passing, size_counts=0) == Tally(2, switches=2, fragments=2, strays=0, faces=6)
    assert follow(passing, size_counts=2) == Tally(2, switches=0, fragments=0, strays=0, faces=6)
