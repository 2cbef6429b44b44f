"""Looks a second time at a face that was found, for keypoints sharp enough to embed by.

The first look is at a whole frame shrunk into the detector's input, where a face at a door
is 20 to 50 px wide and a keypoint off by a pixel turns and scales the crop visibly. The
second is at the face alone, upright and of the size at which YuNet is steadiest, and at its
mirror image: what YuNet errs to one side in the one it errs to the other side in the other,
so their mean is better than either. Measurements: docs/decisions/recognition.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.recognition.align import ARCFACE_POINTS, crop, similarity_transform
from edge.recognition.detect import decode
from edge.recognition.manifest import ModelSpec, Template
from edge.recognition.tflite import Network
from edge.records import Image, Points

SCALE = 0.8
"""Size of the face relative to ArcFace's 112 px crop: eyes 28 px apart, a box of about 65 px. Of
0.5 to 1.5 the best (a prototype; its table is in docs/decisions/recognition.md): larger faces fall to YuNet's stride
of 32, whose keypoints are coarse."""

MIDDLE = (0.5, 0.525)
"""Where the middle of the keypoints lies in the input, as shares of its side. The box reaches from
the forehead to the chin, so that its middle is a little above theirs. Set by that, not measured."""

MIN_CONFIDENCE = 0.3
"""Of the second look, 0 to 1. Set, not measured: it may be lower than the first's, since that there is a face is known
already."""

MAX_SHIFT = 0.25
"""How far from the middle a face of the second look may be centred, as a share of the input's side;
farther off it is a neighbour's, and the first look's keypoints stand. Set, not measured."""

MIRRORED = [1, 0, 2, 4, 3]
"""The order of the points of a mirrored face: its right eye is the left one."""


class Refiner:
    """A small detection model with a square input. Not safe for use by two threads at once.

    Raises ModelError where its file is unusable, or its input not square.
    """

    def __init__(self, spec: ModelSpec, folder: Path, threads: int = 1) -> None:
        height, width = spec.input_shape[1:3]
        if height != width:
            raise ModelError(f"{spec.key}: takes {width}x{height}; a second look needs a square input")
        self._side = width
        self._template = upright(width)
        self._network = Network(spec, folder, threads)

    def refine(self, image: Image, keypoints: Points) -> Points:
        """The keypoints of the second look; those of the first where it finds no face.

        Raises BadImage where the keypoints show no face, or one outside the picture.
        """
        transform = similarity_transform(keypoints, self._template)
        closeup = crop(image, keypoints, self._template, self._side)
        seen = [self._look(closeup), mirrored(self._look(closeup[:, ::-1]), self._side)]
        found = [points for points in seen if points is not None]
        if not found:
            return keypoints
        points = np.mean(found, axis=0) - transform[:, 2]
        return np.asarray(np.linalg.solve(transform[:, :2], points.T).T, np.float32)

    def _look(self, closeup: Image) -> Points | None:
        rows = self._network.run(closeup[np.newaxis].astype(np.float32, order="C"))
        return surest_in_the_middle(decode(rows[0], self._side, self._side, MIN_CONFIDENCE), self._side)


def upright(side: int) -> Template:
    """Where the keypoints of an upright face lie in the middle of a square of this side."""
    points = np.array(ARCFACE_POINTS)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    placed = (points - middle) * SCALE + np.array(MIDDLE) * side
    return tuple((float(x), float(y)) for x, y in placed)


def surest_in_the_middle(candidates: NDArray[np.float32], side: int) -> Points | None:
    """The keypoints of the first candidate (surest first) that is centred near the middle."""
    centres = (candidates[:, 1:3] + candidates[:, 3:5]) / 2
    near = np.hypot(*(centres - side / 2).T) <= MAX_SHIFT * side
    return candidates[near][0, 5:].reshape(5, 2) if near.any() else None


def mirrored(points: Points | None, side: int) -> Points | None:
    """Points of a mirrored picture in the picture itself; pixels count from the centre of the first."""
    if points is None:
        return None
    return np.asarray(np.column_stack([side - 1 - points[:, 0], points[:, 1]])[MIRRORED], np.float32)
