"""Finds faces and their five keypoints in a frame of any size, with YuNet.

YuNet (OpenCV Zoo, `face_detection_yunet_2023mar`) is anchor-free: every cell of the grids
at strides 8, 16 and 32 says how surely a face is centred near it, and where its box and
its keypoints lie. `decode` and `suppress` are plain functions of arrays; only `Detector`
knows the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadImage, ModelError
from edge.recognition.manifest import Manifest
from edge.recognition.tflite import Network
from edge.records import Box, Face, Image

STRIDES = (8, 16, 32)

COLUMNS = 16
"""cls, obj, four of the box, ten of the keypoints: the order in which the model file has them."""

MAX_FACES = 32
"""More people than that do not pass a door in one frame; the surest are kept."""

MAX_CANDIDATES = 512
"""Cells that go into suppression, the surest ones: bounds the time that a bad frame can cost."""

OVERLAP = 0.3
"""Boxes of larger intersection over union are one face. OpenCV's FaceDetectorYN has the same default."""

MIN_SIDE_PX = 16
MAX_PIXELS = 50_000_000
"""A picture larger than this is refused before anything is allocated for it (the largest photographs
in the evaluation data have 36 megapixels)."""

KEYPOINT_REACH = 0.5
"""Keypoints may lie outside their box by this share of its size (a turned head's nose does)."""

Candidates = NDArray[np.float32]
"""(n, 15): confidence, box x1 y1 x2 y2, five keypoints x y; surest first."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture lies in the model's input: shrunk to `width` x `height`, at the top left."""

    width: int
    height: int
    scale_x: float
    """Input pixels per picture pixel; the two scales differ only by rounding to whole pixels."""
    scale_y: float


class Detector:
    """One loaded detection model. Not safe for use by two threads at once.

    Raises ModelError where the manifest has no such detector or its file is unusable.
    """

    def __init__(
        self,
        manifest: Manifest,
        model_key: str = "yunet_256x320",
        min_confidence: float = 0.6,
        threads: int = 1,
    ) -> None:
        spec = manifest.model(model_key)
        if spec.kind != "detector":
            raise ModelError(f'{manifest.folder / "manifest.toml"}: model "{model_key}" is not a detector')
        self.min_confidence = min_confidence
        self._height, self._width = spec.input_shape[1:3]
        self._network = Network(spec, manifest.folder, threads)

    def detect(self, image: Image) -> tuple[Face, ...]:
        """The faces of a picture, surest first, at most MAX_FACES; pixels of that picture.

        Raises BadImage where the array is not an 8-bit BGR picture of a bearable size.
        """
        check_image(image)
        height, width = image.shape[:2]
        fit = fit_into(width, height, self._width, self._height)
        rows = self._network.run(self._letterbox(image, fit))
        found = suppress(decode(rows[0], self._width, self._height, self.min_confidence))
        return to_faces(found, fit, width, height)

    def _letterbox(self, image: Image, fit: Fit) -> NDArray[np.float32]:
        if image.shape[:2] != (fit.height, fit.width):
            # Area averaging is what does not alias when shrinking, and `fit_into` only shrinks.
            size = (fit.width, fit.height)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        tensor = np.zeros((1, self._height, self._width, 3), np.float32)
        tensor[0, : fit.height, : fit.width] = image
        return tensor


def check_image(image: Image) -> None:
    """Raise BadImage unless this is (height, width, 3) uint8 with sides and area that the road takes."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:  # noqa: PLR2004
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise BadImage(f"not a picture: {found}; expected uint8 (height, width, 3), BGR")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX or height * width > MAX_PIXELS:
        raise BadImage(
            f"a picture of {width}x{height} pixels; expected at least {MIN_SIDE_PX} a side "
            f"and at most {MAX_PIXELS} in all"
        )


def fit_into(width: int, height: int, input_width: int, input_height: int) -> Fit:
    """Shrink a picture into the model's input without distortion; never enlarge it.

    Enlarging finds nothing more: YuNet was trained on faces from 10 px up, and the pixels
    that interpolation adds only soften them.
    """
    scale = min(1.0, input_width / width, input_height / height)
    fitted_width = max(1, min(input_width, round(width * scale)))
    fitted_height = max(1, min(input_height, round(height * scale)))
    return Fit(fitted_width, fitted_height, fitted_width / width, fitted_height / height)


@lru_cache(maxsize=8)
def _cells(input_width: int, input_height: int) -> NDArray[np.float32]:
    """(cells, 3): column, row and stride of each cell, in the model's order."""
    grids = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: input_height // stride, : input_width // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def decode(
    rows: NDArray[np.float32], input_width: int, input_height: int, min_confidence: float
) -> Candidates:
    """Candidates in pixels of the model's input from its (cells, 16) output.

    The confidence is the geometric mean of cls and obj, as OpenCV's FaceDetectorYN has it.
    A row with NaN or an infinity anywhere, with a confidence above 1, a box larger than
    twice the input or keypoints far from their box is no candidate.
    """
    cells = _cells(input_width, input_height)
    if rows.shape != (len(cells), COLUMNS):
        raise ModelError(f"the detector gave {rows.shape}; expected {(len(cells), COLUMNS)}")
    with np.errstate(invalid="ignore", over="ignore"):
        product = rows[:, 0] * rows[:, 1]
        # NaN compares false; no sigmoid gives more than 1.
        chosen = np.flatnonzero((product >= min_confidence**2) & (product <= 1))
        if len(chosen) > MAX_CANDIDATES:
            chosen = chosen[np.argsort(-product[chosen], kind="stable")[:MAX_CANDIDATES]]
        picked, stride = rows[chosen], cells[chosen, 2:3]
        corner = cells[chosen, :2]
        centre = (corner + picked[:, 2:4]) * stride
        half = np.exp(picked[:, 4:6]) * stride / 2
        keypoints = (picked[:, 6:].reshape(-1, 5, 2) + corner[:, None]) * stride[:, None]
        confidence = np.sqrt(product[chosen])
        candidates = np.concatenate(
            [confidence[:, None], centre - half, centre + half, keypoints.reshape(-1, 10)], axis=1
        )
        usable = np.isfinite(candidates).all(axis=1) & (half <= max(input_width, input_height)).all(axis=1)
        usable &= (half > 0).all(axis=1) & _within_reach(keypoints, centre, half)
    order = np.argsort(-confidence[usable], kind="stable")
    return np.asarray(candidates[usable][order], np.float32)


def _within_reach(
    keypoints: NDArray[np.floating], centre: NDArray[np.floating], half: NDArray[np.floating]
) -> NDArray[np.bool_]:
    distance = np.abs(keypoints - centre[:, None])
    return np.asarray((distance <= half[:, None] * (1 + 2 * KEYPOINT_REACH)).all(axis=(1, 2)), np.bool_)


def suppress(candidates: Candidates, overlap: float = OVERLAP, most: int = MAX_FACES) -> Candidates:
    """Of boxes that overlap more than this (intersection over union), only the surest; at most `most`.

    Takes and returns candidates surest first.
    """
    boxes = candidates[:, 1:5].astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.arange(len(candidates))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        first, left = left[0], left[1:]
        kept.append(int(first))
        sides = np.minimum(boxes[first, 2:], boxes[left, 2:]) - np.maximum(boxes[first, :2], boxes[left, :2])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        left = left[shared <= overlap * (areas[first] + areas[left] - shared)]
    return candidates[kept]


def to_faces(candidates: Candidates, fit: Fit, width: int, height: int) -> tuple[Face, ...]:
    """Candidates as faces in pixels of the full picture; those entirely outside it (in the padding) go."""
    scale = np.array([fit.scale_x, fit.scale_y])
    faces = []
    for row in candidates.astype(np.float64):
        x1, y1, x2, y2 = (float(value) for value in (row[1:5].reshape(2, 2) / scale).ravel())
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            continue
        keypoints = (row[5:].reshape(5, 2) / scale).astype(np.float32)
        faces.append(Face(Box(x1, y1, x2, y2), keypoints, float(row[0])))
    return tuple(faces)
