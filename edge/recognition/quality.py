"""Is this face good enough to look at? Decided before the costly part, from pixels and keypoints."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge.config import QualityConfig
from edge.errors import BadImage
from edge.recognition.align import ARCFACE_POINTS, crop
from edge.records import Face, Image, NoAttendance, Points, Quality

CROP_PX = 112
"""Side of the aligned crop on which sharpness and light are judged: SFace's own."""


def assess(image: Image, face: Face) -> Quality:
    """Size, sharpness, light and pose of one face.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), taken on the
    aligned crop so that it does not depend on the size of the picture around the face.

    Raises BadImage where the keypoints show no face.
    """
    grey = cv2.cvtColor(crop(image, face.keypoints, ARCFACE_POINTS, CROP_PX), cv2.COLOR_BGR2GRAY)
    yaw, roll_deg = pose(face.keypoints)
    return Quality(
        face_px=face.box.width_px,
        sharpness=float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        brightness=float(grey.mean()),
        yaw=yaw,
        roll_deg=roll_deg,
        above_eyes=above_eyes(face.keypoints),
    )


def pose(keypoints: Points) -> tuple[float, float]:
    """Yaw (-1 to 1) and roll (degrees) from five keypoints.

    Yaw is how far the nose lies from the middle of the eyes along their line, in half
    eye distances: 0 from the front, ±1 where it lies over an eye.
    """
    right_eye, left_eye, nose = keypoints[0], keypoints[1], keypoints[2]
    across = left_eye - right_eye
    distance = float(np.hypot(*across))
    roll_deg = math.degrees(math.atan2(float(across[1]), float(across[0])))
    if distance == 0:
        return 1.0, roll_deg
    offset = float((nose - (right_eye + left_eye) / 2) @ across) / distance
    return max(-1.0, min(1.0, offset / (distance / 2))), roll_deg


def above_eyes(keypoints: Points) -> float:
    """From the higher eye to the picture's upper edge, in distances of the eyes; -inf where they are one point."""
    right_eye, left_eye = keypoints[0], keypoints[1]
    distance = float(np.hypot(*(left_eye - right_eye)))
    return min(float(right_eye[1]), float(left_eye[1])) / distance if distance > 0 else -math.inf


def examine(image: Image, face: Face, limits: QualityConfig) -> NoAttendance | None:
    """Why this face of a picture must not be embedded; None where it may."""
    try:
        return unfit(assess(image, face), limits)
    except BadImage:  # keypoints such as no face has that looks this way
        return NoAttendance.TURNED_AWAY


def unfit(quality: Quality, limits: QualityConfig) -> NoAttendance | None:
    """Which limit a face's quality does not keep, the cheapest to mend first; None where all are kept."""
    if quality.face_px < limits.min_face_px:
        return NoAttendance.TOO_SMALL
    if quality.above_eyes < limits.min_above_eyes:
        return NoAttendance.CUT_OFF
    if abs(quality.yaw) > limits.max_yaw or abs(quality.roll_deg) > limits.max_roll_deg:
        return NoAttendance.TURNED_AWAY
    if not limits.min_brightness <= quality.brightness <= limits.max_brightness:
        return NoAttendance.BAD_LIGHT
    if quality.sharpness < limits.min_sharpness:
        return NoAttendance.TOO_BLURRED
    return None
