"""Turns a face into the upright square crop that an embedding network was trained on.

The five keypoints of the face are carried to the five points of the network's template by
the similarity transform (turn, scale, shift; no shear, no mirror) of least squared error.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadImage
from edge.recognition.manifest import Template
from edge.records import Image, Points

MIN_SPREAD_PX = 1.0
"""Keypoints whose root mean square distance from their centre is smaller show no face. Set: the
smallest face that is embedded has one of some 11 px."""

MAX_SCALE = 64.0
"""A crop that enlarges the face more than this shows nothing of it. Set, to bound what odd keypoints may ask for."""

ARCFACE_POINTS: Template = ((38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20))
"""For a 112 px crop: the template of ArcFace (insightface), to two decimals."""

Transform = NDArray[np.float64]
"""(2, 3): maps x, y, 1 of the picture to x, y of the crop."""


def similarity_transform(keypoints: Points, template: Template) -> Transform:
    """The similarity transform that carries keypoints to template points with least squared error.

    Umeyama's solution (IEEE TPAMI 13(4), 1991) without mirroring; in the plane it is one
    division of complex numbers: with z the centred keypoints and w the centred template,
    turn and scale are sum(conj(z) w) / sum(|z|^2).

    Raises BadImage where the keypoints are not finite, (nearly) coincide, or fit the template
    only by (nearly) vanishing.
    """
    source, target = np.asarray(keypoints, np.float64), np.array(template)
    if not np.isfinite(source).all():
        raise BadImage("keypoints that are not finite")
    source_centre, target_centre = source.mean(axis=0), target.mean(axis=0)
    z, w = (centred @ (1, 1j) for centred in (source - source_centre, target - target_centre))
    spread = float(np.vdot(z, z).real)
    if spread < len(source) * MIN_SPREAD_PX**2:
        raise BadImage("keypoints that coincide")
    turn = complex(np.vdot(z, w)) / spread
    if not 1 / MAX_SCALE**2 < abs(turn) < MAX_SCALE:
        raise BadImage(f"keypoints that fit the template only at a scale of {abs(turn):.2g}")
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, target_centre - linear @ source_centre])


def crop(image: Image, keypoints: Points, template: Template, crop_px: int) -> Image:
    """The aligned (crop_px, crop_px, 3) BGR crop; black where it reaches outside the picture.

    A face more than twice as large as the crop wants it is averaged down first, because
    bilinear sampling alone then skips pixels and aliases: on ten faces of 3 to 20 times the
    crop, cosine to the same face in a picture averaged down as a whole 0.987, so 0.997.

    Raises BadImage where the keypoints show no face or the crop lies outside the picture.
    """
    transform = similarity_transform(keypoints, template)
    image, transform = _window(image, transform, crop_px)
    shrink = int(1 / np.hypot(*transform[:, 0]))
    if shrink > 1:
        image, transform = _averaged(image, transform, shrink)
    return np.asarray(cv2.warpAffine(image, transform, (crop_px, crop_px)), np.uint8)  # bilinear


def _window(image: Image, transform: Transform, side: int) -> tuple[Image, Transform]:
    """The part of the picture that the crop shows, one pixel more around it, as a view."""
    ends = np.array([[-1, -1], [side, -1], [-1, side], [side, side]]) - transform[:, 2]
    corners = np.linalg.solve(transform[:, :2], ends.T).T
    x1, y1 = (max(0, int(value)) for value in np.floor(corners.min(axis=0)))
    height, width = image.shape[:2]
    limit_x, limit_y = np.ceil(corners.max(axis=0)) + 1
    x2, y2 = int(min(width, limit_x)), int(min(height, limit_y))
    if x1 >= x2 or y1 >= y2:
        raise BadImage("a face outside the picture")
    return image[y1:y2, x1:x2], _after(transform, np.ones(2), np.array([x1, y1]))


def _averaged(image: Image, transform: Transform, shrink: int) -> tuple[Image, Transform]:
    """The picture averaged down by about a whole factor, and the transform that fits it."""
    height, width = image.shape[:2]
    size = (max(1, width // shrink), max(1, height // shrink))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    factor = np.array([width / small.shape[1], height / small.shape[0]])
    # Both functions count from the centres of pixels, hence the halves.
    return small, _after(transform, factor, factor / 2 - 0.5)


def _after(transform: Transform, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> Transform:
    """The transform applied to x * factor + shift."""
    linear = transform[:, :2]
    return np.column_stack([linear * factor, transform[:, 2] + linear @ shift])
