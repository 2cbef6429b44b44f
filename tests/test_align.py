"""Alignment: five points to a template, and the crop that comes of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadImage
from edge.recognition.align import ARCFACE_POINTS, crop, similarity_transform
from edge.recognition.manifest import load_manifest
from edge.records import Points

TEMPLATE = np.array(ARCFACE_POINTS)


def placed(scale: float, degrees: float, x: float, y: float) -> Points:
    """The template's points, turned and scaled about the origin, then shifted."""
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE @ turn.T + (x, y)).astype(np.float32)


def squared_error(transform: np.ndarray, keypoints: Points) -> float:
    moved = keypoints.astype(np.float64) @ transform[:, :2].T + transform[:, 2]
    return float(np.sum((moved - TEMPLATE) ** 2))


def gradient() -> np.ndarray:
    """A picture in which every pixel tells where it is: blue rises to the right, green downwards."""
    rows, columns = np.mgrid[:200, :200]
    return np.stack([columns, rows, np.full_like(rows, 7)], axis=2).astype(np.uint8)


@given(
    scale=st.floats(0.1, 10),
    degrees=st.floats(-180, 180),
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
)
def test_any_turn_scale_and_shift_of_the_template_is_undone(
    scale: float, degrees: float, x: float, y: float
) -> None:
    keypoints = placed(scale, degrees, x, y)
    assert squared_error(similarity_transform(keypoints, ARCFACE_POINTS), keypoints) < 1e-3


@given(st.integers(0, 2**32 - 1))
def test_no_other_similarity_fits_noisy_points_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keypoints = (placed(2, 20, 50, 60) + rng.normal(0, 5, (5, 2))).astype(np.float32)
    best = similarity_transform(keypoints, ARCFACE_POINTS)
    error = squared_error(best, keypoints)
    for _ in range(5):
        turn, lean, across, down = rng.normal(0, 0.01, 4)
        nudge = np.array([[turn, -lean, across], [lean, turn, down]])
        assert squared_error(best + nudge, keypoints) >= error


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = placed(1, 0, 0, 0) * (-1, 1)
    transform = similarity_transform(mirrored.astype(np.float32), ARCFACE_POINTS)
    assert np.linalg.det(transform[:, :2]) > 0


@pytest.mark.parametrize(
    ("keypoints", "complaint"),
    [
        (np.full((5, 2), 3.0), "coincide"),
        (np.full((5, 2), np.nan), "not finite"),
        (placed(1, 0, 0, 0) * np.inf, "not finite"),
        (placed(0.001, 0, 50, 50), "coincide"),
        (placed(1e6, 0, 0, 0), "scale"),
    ],
    ids=["one point", "nan", "infinite", "a speck", "gigantic"],
)
def test_keypoints_that_show_no_face_are_a_bad_image(keypoints: np.ndarray, complaint: str) -> None:
    with pytest.raises(BadImage, match=complaint):
        similarity_transform(keypoints.astype(np.float32), ARCFACE_POINTS)


def test_a_face_that_lies_on_the_template_is_cut_out_as_it_is() -> None:
    picture = gradient()
    aligned = crop(picture, placed(1, 0, 0, 0), ARCFACE_POINTS, 112)
    assert aligned.shape == (112, 112, 3)
    assert aligned.dtype == np.uint8
    assert np.abs(aligned.astype(int) - picture[:112, :112]).max() <= 1


def test_the_crop_shows_what_the_keypoints_point_at() -> None:
    picture = gradient()
    keypoints = placed(0.8, 15, 60, 20)
    aligned = crop(picture, keypoints, ARCFACE_POINTS, 112)
    for (x, y), (template_x, template_y) in zip(keypoints, ARCFACE_POINTS, strict=True):
        blue, green, _ = aligned[round(template_y), round(template_x)]
        assert (int(blue), int(green)) == pytest.approx((x, y), abs=2)


def test_what_lies_outside_the_picture_is_black() -> None:
    white = np.full((200, 200, 3), 255, np.uint8)
    aligned = crop(white, placed(1, 0, -56, 0), ARCFACE_POINTS, 112)
    assert aligned[:, :50].max() == 0
    assert aligned[:, 60:].min() == 255


def test_a_face_entirely_outside_the_picture_is_a_bad_image() -> None:
    with pytest.raises(BadImage, match="outside"):
        crop(gradient(), placed(1, 0, 5000, 0), ARCFACE_POINTS, 112)


def test_a_large_face_is_averaged_and_not_sampled() -> None:
    # Stripes one pixel wide: sampled, they alias to black and white; averaged, they are grey.
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[:, ::2] = 255
    aligned = crop(stripes, placed(8, 0, 100, 100), ARCFACE_POINTS, 112)
    assert np.abs(aligned[4:-4, 4:-4].astype(int) - 127).max() <= 2


def test_averaging_does_not_shift_the_crop() -> None:
    small = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 256, (150, 150, 3), dtype=np.uint8), (0, 0), 3
    )
    large = cv2.resize(small, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    keypoints = placed(1, 0, 10, 12)
    # A point at x of the small picture lies at (x + 1/2) * 5 - 1/2 of the large one.
    expected = crop(np.asarray(small, np.uint8), keypoints, ARCFACE_POINTS, 112)
    found = crop(np.asarray(large, np.uint8), (keypoints + 0.5) * 5 - np.float32(0.5), ARCFACE_POINTS, 112)
    assert np.abs(found.astype(int) - expected).mean() < 1


def test_the_manifest_aligns_sface_to_the_arcface_points() -> None:
    (sface,) = load_manifest().embedder("sface").models
    assert sface.alignment.points == ARCFACE_POINTS
    assert sface.alignment.crop_px == 112
