"""How a picture is turned, mirrored and cut, and how many are taken."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.camera import open_camera
from edge.camera.view import RateLimit, View
from edge.config import CameraConfig
from edge.records import Image

PICTURE: Image = np.random.default_rng(5).integers(0, 255, (40, 60, 3), np.uint8)


def test_a_view_that_changes_nothing_gives_the_very_picture() -> None:
    assert np.shares_memory(View().apply(PICTURE), PICTURE)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_picture_is_turned_clockwise(rotation: int) -> None:
    turned = View(rotation).apply(PICTURE)
    assert (turned == np.rot90(PICTURE, -rotation // 90)).all()
    if rotation == 90:
        assert (turned[0, -1] == PICTURE[0, 0]).all(), "what was top left is top right"


def test_a_mirror_exchanges_left_and_right() -> None:
    assert (View(mirror=True).apply(PICTURE)[0, 0] == PICTURE[0, -1]).all()


def test_a_region_is_a_share_of_the_picture() -> None:
    part = View(region=(0.5, 0.25, 0.25, 0.5)).apply(PICTURE)
    assert (part == PICTURE[10:30, 30:45]).all()


def test_a_region_is_of_the_picture_as_a_person_sees_it_turned_and_mirrored() -> None:
    view = View(90, mirror=True, region=(0, 0, 1, 0.5))
    whole = View(90, mirror=True).apply(PICTURE)
    assert (view.apply(PICTURE) == whole[:30]).all()


@given(
    st.sampled_from([0, 90, 180, 270]),
    st.booleans(),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_any_view_gives_a_contiguous_part_of_at_least_a_pixel(
    rotation: int, mirror: bool, region: tuple[float, float, float, float]
) -> None:
    part = View(rotation, mirror, region).apply(PICTURE)
    assert part.flags["C_CONTIGUOUS"]
    assert part.dtype == np.uint8
    assert part.ndim == 3
    assert part.size >= 3
    whole = View(rotation, mirror).apply(PICTURE)
    x, y = (
        min(round(at * side), side - 1)
        for at, side in zip(region, (whole.shape[1], whole.shape[0]), strict=False)
    )
    assert (part == whole[y : y + part.shape[0], x : x + part.shape[1]]).all()


def test_the_settings_reach_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), PICTURE)
    settings = CameraConfig(sources=(str(path),), pace="fast", rotation=90, region_width=0.5)
    with open_camera(settings, threading.Event()) as camera:
        frame = camera.read()
        assert frame is not None
        assert (frame.image == np.rot90(PICTURE, -1)[:, :20]).all()
        assert camera.read() is None


def test_no_limit_admits_everything() -> None:
    limit = RateLimit(0)
    assert all(limit.admits(at_ms) for at_ms in (0, 1, 1, 2))


def test_a_limit_leaves_out_what_comes_too_soon_and_begins_anywhere() -> None:
    limit = RateLimit(10)
    admitted = [at_ms for at_ms in range(5_000_000, 5_000_500, 33) if limit.admits(at_ms)]
    assert [later - earlier for earlier, later in pairwise(admitted)] == [99] * 5


def test_after_a_pause_a_limit_does_not_let_a_burst_through() -> None:
    limit = RateLimit(10)
    assert limit.admits(0)
    assert [limit.admits(at_ms) for at_ms in (10_000, 10_010, 10_020, 10_100)] == [True, False, False, True]
