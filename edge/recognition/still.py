"""Finds faces in a photograph: larger than a camera's frame, held wrongly, and looked at once, so with more effort.

A photograph of some megapixels that is shrunk into the input for frames leaves a face of a tenth of
its width 30 px, one in a group 10. Of 398 photographs made of LFW's faces, 6 to 50 % of the shorter
side wide, in group pictures of 0.2 to 8 megapixels, the input of 256x320 finds 96.5 %, that of 480x640
99.7 %. What no input finds may lie on its side: not every program keeps the EXIF data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge.recognition.detect import Detector, check_image
from edge.records import Box, Face, Image

FRAME_SIDE_PX = 640
"""A picture no larger than that is looked at as the daemon looks at a frame: the side of a door camera's."""

UPRIGHT = 0.87
"""A face found at less may be one upside down or on its side, which YuNet finds at 0.64 to 0.85 with its
keypoints anywhere; the same face upright at 0.93. Seen on a few portraits (`tests/test_still.py`), and not swept."""

CLEARLY = 0.05
"""By how much more surely a face must be found in the turned picture than in it as it is. Set, not
measured."""


class StillDetector:
    """The daemon's detector and one with a larger input, tried until one finds a face.

    The larger one is loaded when it is needed first, and never by a daemon.
    """

    def __init__(self, usual: Detector, open_larger: Callable[[], Detector]) -> None:
        self.min_confidence = usual.min_confidence
        self._usual = usual
        self._open_larger = open_larger

    @cached_property
    def _larger(self) -> Detector:
        return self._open_larger()

    def detect(self, image: Image) -> tuple[Face, ...]:
        """The faces of a picture, surest first; pixels of that picture.

        Raises BadImage where the array is not an 8-bit BGR picture of a bearable size.
        """
        check_image(image)
        within = max(image.shape[:2]) <= FRAME_SIDE_PX
        first = self._usual if within else self._larger
        upright = first.detect(image) or (self._larger if within else self._usual).detect(image)
        if _surest(upright) >= UPRIGHT:
            return upright
        turned = max((_turned(first, image, quarters) for quarters in (1, 2, 3)), key=_surest)
        return turned if _surest(turned) > _surest(upright) + CLEARLY else upright


def _turned(detector: Detector, image: Image, quarters: int) -> tuple[Face, ...]:
    faces = detector.detect(np.ascontiguousarray(np.rot90(image, quarters)))
    return tuple(turned_back(face, quarters, image) for face in faces)


def _surest(faces: tuple[Face, ...]) -> float:
    return faces[0].confidence if faces else 0.0


def turned_back(face: Face, quarters: int, image: Image) -> Face:
    """A face of `np.rot90(image, quarters)` in the image itself."""
    height, width = image.shape[:2]
    box = np.array([[face.box.x1, face.box.y1], [face.box.x2, face.box.y2]])
    corners = _turn(box, quarters, width, height)
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    # Keypoints count from the centre of a pixel, edges of a box from its edge.
    points = _turn(np.asarray(face.keypoints, np.float64), quarters, width - 1, height - 1)
    return Face(Box(*map(float, (x1, y1, x2, y2))), points.astype(np.float32), face.confidence)


def _turn(points: NDArray[np.float64], quarters: int, width: float, height: float) -> NDArray[np.float64]:
    x, y = points[:, 0], points[:, 1]
    back = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[quarters]
    return np.column_stack(back)
