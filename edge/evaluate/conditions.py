"""How a face was photographed: what a site can change at its door, measured, and put into bins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.recognition.align import ARCFACE_POINTS, crop
from edge.recognition.quality import CROP_PX, assess
from edge.records import Face, Image


@dataclass(frozen=True, slots=True)
class Condition:
    """One of them, and the edges of the bins in which it is reported."""

    name: str
    title: str
    """With its unit, for people."""
    edges: tuple[float, ...]
    """Between the bins, which are half-open: a value on an edge belongs to the bin above it."""

    def bins(self) -> tuple[str, ...]:
        """What each bin is called."""
        edges = [f"{edge:g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        return (f"below {edges[0]}", *between, f"{edges[-1]} and more")

    def place(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """The bin of each value."""
        return np.digitize(values, self.edges)


CONDITIONS = (
    Condition("face_px", "face width, pixels", (48, 64, 80, 96, 128)),
    Condition("yaw", "yaw, of half the distance of the eyes, either way", (0.1, 0.2, 0.35, 0.5)),
    Condition("roll_deg", "roll, degrees either way", (1, 2, 5, 10)),
    Condition("brightness", "brightness, mean grey level", (60, 80, 100, 120, 150)),
    Condition("contrast", "contrast, standard deviation of grey levels", (25, 35, 45, 55)),
    Condition(
        "side_light", "side light, difference of the halves over their sum, either way", (0.05, 0.1, 0.2, 0.3)
    ),
    Condition("sharpness", "sharpness, variance of the Laplacian", (25, 50, 100, 200, 400)),
)
"""All on the aligned crop of `edge.recognition.quality`, except the width, which is the box's. The edges
spread LFW and LFW seen through `--degrade door` over the bins; that nobody is in one is said as well."""

NAMES = tuple(condition.name for condition in CONDITIONS)

FACE_ROWS = slice(CROP_PX * 2 // 7, CROP_PX)
FACE_COLUMNS = slice(CROP_PX // 6, CROP_PX - CROP_PX // 6)
"""The part of the aligned crop that shows skin from brows to chin rather than hair and background."""


def measure(image: Image, face: Face) -> tuple[float, ...]:
    """The conditions of one face, in the order of CONDITIONS; yaw, roll and side light without their sign.

    Raises BadImage where the keypoints show no face.
    """
    quality = assess(image, face)
    grey = cv2.cvtColor(crop(image, face.keypoints, ARCFACE_POINTS, CROP_PX), cv2.COLOR_BGR2GRAY)
    skin = np.asarray(grey, np.float64)[FACE_ROWS, FACE_COLUMNS]
    middle = skin.shape[1] // 2
    left, right = float(skin[:, :middle].mean()), float(skin[:, middle:].mean())
    return (
        quality.face_px,
        abs(quality.yaw),
        abs(quality.roll_deg),
        quality.brightness,
        float(skin.std()),
        abs(left - right) / max(left + right, math.ulp(1.0)),
        quality.sharpness,
    )
