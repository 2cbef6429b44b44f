"""Good enough to look at: size, pose, light, sharpness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.config import QualityConfig
from edge.recognition.align import ARCFACE_POINTS
from edge.recognition.quality import above_eyes, assess, examine, pose, unfit
from edge.records import Box, Face, Image, NoAttendance, Quality

LIMITS = QualityConfig()
GOOD = Quality(face_px=100, sharpness=300, brightness=120, yaw=0.1, roll_deg=3)
FRONT = np.array(ARCFACE_POINTS, np.float32)
DOWN = np.array([0, 1], np.float32)


def face(points: np.ndarray = FRONT, width_px: float = 100) -> Face:
    return Face(box=Box(0, 0, width_px, width_px), keypoints=points, confidence=0.9)


def texture() -> Image:
    return np.random.default_rng(3).integers(0, 255, (112, 112, 3)).astype(np.uint8)


def test_a_good_face_may_be_embedded() -> None:
    assert unfit(GOOD, LIMITS) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"face_px": 39.9}, NoAttendance.TOO_SMALL),
        ({"yaw": -0.61}, NoAttendance.TURNED_AWAY),
        ({"roll_deg": 36}, NoAttendance.TURNED_AWAY),
        ({"above_eyes": 0.34}, NoAttendance.CUT_OFF),
        ({"brightness": 29}, NoAttendance.BAD_LIGHT),
        ({"brightness": 236}, NoAttendance.BAD_LIGHT),
        ({"sharpness": LIMITS.min_sharpness - 0.1}, NoAttendance.TOO_BLURRED),
    ],
)
def test_each_limit_has_its_own_reason(change: dict[str, float], reason: NoAttendance) -> None:
    values = {name: getattr(GOOD, name) for name in GOOD.__dataclass_fields__}
    assert unfit(Quality(**{**values, **change}), LIMITS) is reason


def test_a_face_whose_brow_the_picture_cuts_off_is_refused_where_the_same_face_lower_is_not() -> None:
    """The detector gives all five points of it, but has guessed them: the eyes are too near the edge."""
    picture = cv2.copyMakeBorder(texture(), 40, 0, 0, 0, cv2.BORDER_REFLECT)
    whole, cut = FRONT + DOWN * 40, FRONT - DOWN * 42
    assert examine(np.asarray(picture, np.uint8), face(whole), LIMITS) is None
    assert examine(texture(), face(cut), LIMITS) is NoAttendance.CUT_OFF
    assert above_eyes(FRONT[[0, 0, 2, 3, 4]]) == -np.inf, "eyes in one point"


def test_a_face_from_the_front_has_neither_yaw_nor_roll() -> None:
    yaw, roll_deg = pose(FRONT)
    assert abs(yaw) < 0.05
    assert abs(roll_deg) < 1


def test_a_nose_over_an_eye_is_a_profile_whichever_way_the_head_is_tilted() -> None:
    turned = FRONT.copy()
    turned[2, 0] = FRONT[1, 0]
    assert pose(turned)[0] == pytest.approx(1, abs=0.05)
    tilt = cv2.getRotationMatrix2D((56, 56), -30, 1)
    tilted = (turned @ tilt[:, :2].T + tilt[:, 2]).astype(np.float32)
    yaw, roll_deg = pose(tilted)
    assert yaw == pytest.approx(1, abs=0.05)
    assert roll_deg == pytest.approx(30, abs=1)


def test_eyes_in_one_place_are_no_face_from_the_front() -> None:
    assert pose(np.zeros((5, 2), np.float32))[0] == 1.0


def test_blur_lowers_sharpness_and_darkness_lowers_brightness() -> None:
    sharp = assess(texture(), face())
    blurred = assess(cv2.GaussianBlur(texture(), (0, 0), 3).astype(np.uint8), face())
    dark = assess((texture() // 8).astype(np.uint8), face())
    assert blurred.sharpness < sharp.sharpness / 10
    assert dark.brightness < 32 < sharp.brightness


def test_keypoints_that_no_face_has_are_a_reason_and_not_a_crash() -> None:
    for points in (np.zeros((5, 2), np.float32), np.full((5, 2), np.nan, np.float32)):
        assert examine(texture(), face(points), LIMITS) is NoAttendance.TURNED_AWAY
