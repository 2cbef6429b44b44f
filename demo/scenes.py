"""Several people before one camera, each on a way of their own, rendered from portraits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demo.door import face_in
from demo.walkpast import (
    CAMERA_HEIGHT_M,
    EYE_HEIGHT_M,
    FACE_M,
    CutOut,
    Pose,
    Way,
    cut_out,
    focal_px,
    horizon_px,
)
from edge.assembly import Eyes
from edge.camera.pictures import read_picture

SIZE = (640, 480)
STEPS_PER_S = 1.9

Stop = tuple[float, float, float]
"""When (s), how far to the right of the middle (m), how far from the camera (m)."""


def figure(eyes: Eyes, photo: Path) -> CutOut:
    """Somebody of a portrait, without its background."""
    return cut_out(read_picture(photo), face_in(eyes, photo))


def by_way_of(stops: Sequence[Stop], hidden_s: tuple[float, float] | None = None) -> Way:
    """Walk from one place to the next, straight and bobbing; in sight from the first to the last."""
    times, across, depths = zip(*stops, strict=True)

    def pose(at_s: float) -> Pose | None:
        if not times[0] <= at_s <= times[-1] or (hidden_s and hidden_s[0] <= at_s < hidden_s[1]):
            return None
        depth_m = float(np.interp(at_s, times, depths))
        step = 2 * math.pi * STEPS_PER_S * at_s
        pixels = focal_px(SIZE[0]) / depth_m
        y_m = CAMERA_HEIGHT_M - EYE_HEIGHT_M + 0.015 * math.cos(step)
        return Pose(
            x_px=SIZE[0] / 2 + float(np.interp(at_s, times, across)) * pixels,
            y_px=horizon_px(SIZE[1]) + y_m * pixels,
            face_px=FACE_M * pixels,
            roll_rad=math.radians(1.5 * math.sin(step / 2)),
            depth_m=depth_m,
        )

    return pose
