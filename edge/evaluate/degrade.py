"""Makes of a good photograph what a door camera or a covered face would have given.

A degradation changes probes, and templates only where that is asked for. It is drawn by
chance from the photograph's name below the album, so that a run can be repeated, a
photograph is degraded alike whatever else is in the folder, and two photographs of one
person differ, as two days do.

Rendered degradations rank embedders and show where they break. They do not replace
photographs from the door itself (docs/on-site.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadImage
from edge.evaluate.coverings import put_on_glasses, put_on_mask, put_on_scarf
from edge.records import Face, Image

Floats = NDArray[np.float32]

Change = Callable[[Image, Face, np.random.Generator], Image]
"""Gives a changed copy of a picture that shows this face."""

DOOR_FACE_PX = (48.0, 96.0)
"""Width of the face's box: what the daemon embeds begins at 48, and at 1 m a door camera sees about 96."""

FRAME_PX = (640, 480)
"""Width and height of a door camera's frame: the daemon's default."""

JITTER_PX = 16
"""So far the photograph's middle may lie from the frame's: one cell of the detector at its coarsest."""

SURROUND_PX = (16, 1)
"""What is made up around the photograph has so many colours from left to right, and one from top to bottom: with
16 by 12, in 16 of 5,858 frames all of it was found as one face of 180 to 470 px, nearer to the middle than the true."""

SOFT_PX = 9
"""Over so many pixels the photograph goes over into it."""

NOISE_SIDE_PX = 1024
"""Of the noise that is drawn once for all pictures. Set: larger than a frame, so that each takes another part."""

LEAST_SIDE_PX = 32
"""A picture is not made smaller than this; the detector needs 16."""


def degrade(image: Image, face: Face, file: str, name: str) -> Image:
    """The picture of this file as the degradation of this name changes it; the file's name is the seed."""
    digest = hashlib.sha256(f"{name}\0{file}".encode()).digest()
    return CHANGES[name](image, face, np.random.default_rng(int.from_bytes(digest[:8], "big")))


def see_through_door_camera(image: Image, face: Face, rng: np.random.Generator) -> Image:
    """In a door camera's frame: small, moved, dim or bright, noisy and compressed.

    As `see_small`, but the photograph lies in a FRAME_PX of its own blurred surround, as a face at a
    door does, and so is found by a detector that sees the whole frame shrunk. The middle of the
    photograph stays within JITTER_PX of the frame's, so that whoever is nearest to it still is.

    Raises BadImage where the face has no width.
    """
    small, scale = _shrunk(image, face, rng)
    shift = rng.uniform(-JITTER_PX, JITTER_PX, 2)
    return _taken(_framed(small, _into_frame(small, face, scale, shift)), face.box.width_px * scale, rng)


def see_small(image: Image, face: Face, rng: np.random.Generator) -> Image:
    """The photograph itself: smaller, moved, dim or bright, noisy and compressed.

    The face becomes DOOR_FACE_PX wide, evenly drawn; a smaller one is not enlarged. A detector sees
    this small picture at its full size, which flatters it.

    Raises BadImage where the face has no width.
    """
    small, scale = _shrunk(image, face, rng)
    return _taken(small, face.box.width_px * scale, rng)


def _shrunk(image: Image, face: Face, rng: np.random.Generator) -> tuple[Image, float]:
    if not face.box.width_px > 0:
        raise BadImage("a face without width")
    scale = min(1.0, rng.uniform(*DOOR_FACE_PX) / face.box.width_px)
    scale = min(1.0, max(scale, LEAST_SIDE_PX / min(image.shape[:2])))
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _into_frame(small: Image, face: Face, scale: float, shift: NDArray[np.float64]) -> tuple[int, int]:
    """Where the photograph's upper left corner goes: middle to middle, but the whole face inside."""
    box = scale * np.array([[face.box.x1, face.box.y1], [face.box.x2, face.box.y2]])
    middle = (np.array(FRAME_PX) - small.shape[1::-1]) / 2 + shift
    left, top = np.clip(middle, -box[0], np.maximum(FRAME_PX - box[1], -box[0]))
    return round(float(left)), round(float(top))


def _framed(small: Image, corner: tuple[int, int]) -> Image:
    """The photograph in a frame filled with the mean colours of its columns: no second face."""
    move = np.array([[1, 0, corner[0]], [0, 1, corner[1]]], np.float64)
    sharp = cv2.warpAffine(small, move, FRAME_PX)
    inside = cv2.warpAffine(np.ones(small.shape[:2], np.float32), move, FRAME_PX)
    # The photograph's own edge becomes soft, or the detector would see a picture hung on a wall.
    share = np.asarray(cv2.blur(cv2.erode(inside, np.ones((SOFT_PX, SOFT_PX))), (SOFT_PX, SOFT_PX)))[
        ..., None
    ]
    coarse = cv2.resize(small, SURROUND_PX, interpolation=cv2.INTER_AREA)
    surround = cv2.resize(coarse, FRAME_PX, interpolation=cv2.INTER_CUBIC)
    return np.asarray(share * sharp + (1 - share) * surround + 0.5, np.uint8)


def _taken(picture: Image, face_px: float, rng: np.random.Generator) -> Image:
    """As a camera takes it.

    - Motion: up to 8 % of the face's width in any direction, which is 12 mm: 0.36 m/s across the
      view in an exposure of 1/30 s.
    - Lens: Gaussian of 0.4 to 0.8 px. White balance: up to 6 % off in each channel.
    - Exposure: 0.55 to 1.25 times the grey levels; what would be above 255 is lost.
    - Noise: standard deviation of 1 to 3 grey levels at black and 0.02 to 0.12 grey levels of variance
      for each grey level more (a 1/3" sensor indoors; `demo.walkpast` draws from about the same).
      Grey in every pixel, colour in every fourth, as demosaicing leaves it.
    - JPEG of quality 50 to 85, as cameras over USB and RTSP give.
    """
    moved = _moved(picture.astype(np.float32), face_px * rng.uniform(0, 0.08), rng.uniform(0, np.pi))
    light = np.asarray(cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.4, 0.8)), np.float32)
    light *= (rng.uniform(0.55, 1.25) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    noise = _noise(light, read=rng.uniform(1, 3), shot=rng.uniform(0.02, 0.12), rng=rng)
    return _compressed(np.clip(light + noise + 0.5, 0, 255).astype(np.uint8), int(rng.integers(50, 86)))


def _moved(picture: Floats, length_px: float, angle: float) -> Floats:
    """Averaged along a straight way of so many pixels."""
    side = 2 * int(np.ceil(length_px / 2)) + 3
    kernel = np.zeros((side, side), np.float32)
    steps = np.linspace(-length_px / 2, length_px / 2, 8 * side)
    for x, y in zip(steps * np.cos(angle) + side // 2, steps * np.sin(angle) + side // 2, strict=True):
        left, top = int(x), int(y)
        across, down = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer((1 - down, down), (1 - across, across))
    kernel /= kernel.sum()
    return np.asarray(cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float32)


def _noise(light: Floats, read: float, shot: float, rng: np.random.Generator) -> Floats:
    height, width = light.shape[:2]
    field = _noise_field(1 + max(height, width) // NOISE_SIDE_PX)
    down, right = rng.integers(0, len(field) - max(height, width) + 1, 2)
    mixed = field[down : down + height, right : right + width]
    return np.asarray(mixed * np.sqrt(read**2 + shot * np.maximum(light, 0)), np.float32)


@lru_cache(maxsize=2)
def _noise_field(sides: int) -> Floats:
    """So many NOISE_SIDE_PX square; each picture takes another part, since to draw it anew costs more than all else."""
    side = sides * NOISE_SIDE_PX
    rng = np.random.default_rng(sides)
    grey = rng.standard_normal((side, side, 1), np.float32)
    colour = rng.standard_normal((side // 2, side // 2, 3), np.float32)
    return np.asarray(grey + 0.6 * np.asarray(cv2.resize(colour, (side, side)), np.float32), np.float32)


def _compressed(image: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "door": see_through_door_camera,
        "small": see_small,
        "scarf": put_on_scarf,
        "mask": put_on_mask,
        "glasses": put_on_glasses,
    }
)
"""By the name that `--degrade` takes."""
