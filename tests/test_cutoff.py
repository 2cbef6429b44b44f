"""What the benchmark of cut-off faces cuts, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cutoff import Edge, cut_away, similarity, told

IMAGE = np.arange(100 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 80, 3)
KEYPOINTS = np.array([[30, 42], [50, 40], [40, 50], [33, 60], [47, 62]], np.float32)
"""The eyes are 20.1 px apart."""


@pytest.mark.parametrize(
    ("edge", "distance", "shape", "moved"),
    [
        ("above", 0.5, (70, 80), (0, 30)),
        ("above", 0, (60, 80), (0, 40)),
        ("above", 5, (100, 80), (0, 0)),
        ("beside", 0.5, (100, 60), (20, 0)),
        ("below", 0.5, (72, 80), (0, 0)),
        ("below", 5, (100, 80), (0, 0)),
    ],
)
def test_an_edge_cuts_so_many_distances_of_the_eyes_away(
    edge: Edge, distance: float, shape: tuple[int, int], moved: tuple[int, int]
) -> None:
    cut, found = cut_away(IMAGE, KEYPOINTS, edge, distance)
    assert cut.shape[:2] == shape
    assert found == moved
    left, top = moved
    assert (cut == IMAGE[top : top + shape[0], left : left + shape[1]]).all()


def test_nothing_may_be_left_of_a_face_at_the_edge() -> None:
    cut, _ = cut_away(IMAGE, KEYPOINTS - (0, 70), "below", 0)
    assert cut.shape[0] == 0


def test_a_face_that_is_not_found_is_not_recognised() -> None:
    one, other = np.array([1, 0], np.float32), np.array([0.6, 0.8], np.float32)
    assert similarity(one, other) == pytest.approx(0.6)
    assert similarity(one, None) == similarity(None, other) == -1
    figures = told("above_0.3", [one, one, one, one], [one, other, other, None], threshold=0.7)
    assert figures["above_0.3_similarity"].value == pytest.approx(0.6)
    assert figures["above_0.3_missed"].value == 75
