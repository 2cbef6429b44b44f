"""Finds faces and their five keypoints in a frame of any size, with YuNet.

YuNet (OpenCV Zoo, `face_detection_yunet_2023mar`) is anchor-free: every cell of the grids
at strides 8, 16 and 32 says how surely a face is centred near it, and where its box and
its keypoints lie. `decode` and `suppress` are plain functions of arrays; only `Detector`
and `Closer` know the interpreter.

A frame is shrunk into the model's input, so that a face of 50 px has 25 there, and where it is
blurred or dim as well YuNet is unsure of it. To look at every frame at its full size would cost
four times as much, also in an empty corridor. So only where it is unsure it looks again, closer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadImage, ModelError
from edge.recognition.manifest import Manifest, ModelSpec
from edge.recognition.tflite import Network
from edge.records import Box, Face, Image

STRIDES = (8, 16, 32)
"""Pixels of the input from cell to cell in YuNet's three grids (Wu, Peng, Yu, "YuNet", Machine Intelligence Research
20, 2023)."""

COLUMNS = 16
"""cls, obj, four of the box, ten of the keypoints: the order in which the model file has them."""

MAX_FACES = 32
"""More people than that do not pass a door in one frame; the surest are kept. Set, not measured."""

MAX_CANDIDATES = 512
"""Cells that go into suppression, the surest ones: bounds the time that a bad frame can cost. Set, not
measured."""

OVERLAP = 0.3
"""Boxes of larger intersection over union are one face. OpenCV's FaceDetectorYN has the same default."""

MIN_SIDE_PX = 16
"""A picture with a shorter side is refused. Set: it is half a cell of the coarsest grid, and no face fits in."""

MAX_PIXELS = 50_000_000
"""A picture larger than this is refused before anything is allocated for it (the largest photographs
in the evaluation data have 36 megapixels)."""

UNSURE = 0.2
"""From this confidence on a place is worth a closer look. Of 2,697 faces seen as `--degrade door` has them,
33 were found at less than 0.6 with the default input, 21 of these by a closer look from 0.2 on, 20 from 0.3
(a prototype; its table, and that of the next three, is in docs/decisions/recognition.md)."""

CLOSER_PX = 96
"""Size of the doubtful box in the closer look. Of 50, 65, 80 and 96 px the one that finds most."""

LEAST_CLOSER_PX = 32
"""Width of a doubtful box that is looked at again: what is smaller in the frame is not embedded anyway
(`quality.min_face_px`, with some room)."""

CONFIRMED = 0.8
"""Confidence that the closer look must have: of the 33 as many reach it as reach 0.6."""

MAX_CLOSER_LOOKS = 4
"""In one frame, 0.4 ms each on the machine of docs/figures.md. Set, to bound what a frame may cost."""

KEYPOINT_REACH = 0.5
"""Keypoints may lie outside their box by this share of its size (a turned head's nose does). Set, not
measured."""

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

    With `closer_key`, the detector with a small square input that looks again where this one is unsure.

    Raises ModelError where the manifest has no such detector or its file is unusable.
    """

    def __init__(
        self,
        manifest: Manifest,
        model_key: str = "yunet_256x320",
        min_confidence: float = 0.6,
        threads: int = 1,
        closer_key: str | None = None,
    ) -> None:
        spec = _detector(manifest, model_key)
        self.min_confidence = min_confidence
        self._closer = (
            None if closer_key is None else Closer(_detector(manifest, closer_key), manifest.folder, threads)
        )
        self._least = min_confidence if self._closer is None else min(UNSURE, min_confidence)
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
        found = suppress(decode(rows[0], self._width, self._height, self._least))
        return self._sure(image, to_faces(found, fit, width, height))

    def _sure(self, image: Image, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """Those that are sure, and of the surest others those that a closer look confirms."""
        count = sum(face.confidence >= self.min_confidence for face in faces)
        if self._closer is None or count == len(faces):
            return faces[:count]
        kept = list(faces[:count])
        worth = (face for face in faces[count:] if worth_a_closer_look(face.box, image))
        for face in islice(worth, MAX_CLOSER_LOOKS):
            seen = self._closer.look(image, face, max(CONFIRMED, self.min_confidence))
            if seen is not None and all(overlap(seen.box, other.box) <= OVERLAP for other in kept):
                kept.append(seen)
        return tuple(sorted(kept, key=lambda face: -face.confidence))

    def _letterbox(self, image: Image, fit: Fit) -> NDArray[np.float32]:
        if image.shape[:2] != (fit.height, fit.width):
            # Area averaging is what does not alias when shrinking, and `fit_into` only shrinks.
            size = (fit.width, fit.height)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        tensor = np.zeros((1, self._height, self._width, 3), np.float32)
        tensor[0, : fit.height, : fit.width] = image
        return tensor


def worth_a_closer_look(box: Box, image: Image) -> bool:
    """Large enough that it could be embedded, and not cut off by the picture's edge, where too little is left."""
    height, width = image.shape[:2]
    inside = box.x1 >= 0 and box.y1 >= 0 and box.x2 <= width and box.y2 <= height
    return inside and box.width_px >= LEAST_CLOSER_PX


class Closer:
    """A detection model with a small square input, for a face whose place is known but not that it is one.

    Raises ModelError where its file is unusable.
    """

    def __init__(self, spec: ModelSpec, folder: Path, threads: int = 1) -> None:
        self._height, self._width = spec.input_shape[1:3]
        self._network = Network(spec, folder, threads)

    def look(self, image: Image, face: Face, min_confidence: float) -> Face | None:
        """The same face as it is found at CLOSER_PX; None where it is not found near the middle."""
        box = face.box
        scale = CLOSER_PX / max(box.width_px, box.y2 - box.y1)
        shift = np.array([self._width, self._height]) / 2 - scale * np.array(box.centre)
        transform = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        part = cv2.warpAffine(image, transform, (self._width, self._height), flags=cv2.INTER_LINEAR)
        rows = self._network.run(part[np.newaxis].astype(np.float32))
        found = decode(rows[0], self._width, self._height, min_confidence)
        centres = (found[:, 1:3] + found[:, 3:5]) / 2
        near = np.hypot(*(centres - [self._width / 2, self._height / 2]).T) <= CLOSER_PX / 2
        if not near.any():
            return None
        row = found[near][0].astype(np.float64)
        points = (row[1:].reshape(-1, 2) - shift) / scale
        return Face(Box(*map(float, points[:2].ravel())), points[2:].astype(np.float32), float(row[0]))


def _detector(manifest: Manifest, key: str) -> ModelSpec:
    spec = manifest.model(key)
    if spec.kind != "detector":
        raise ModelError(f'{manifest.folder / "manifest.toml"}: model "{key}" is not a detector')
    return spec


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


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    wide = min(one.x2, other.x2) - max(one.x1, other.x1)
    high = min(one.y2, other.y2) - max(one.y1, other.y1)
    shared = max(wide, 0.0) * max(high, 0.0)
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other))
    return shared / (areas - shared)


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
