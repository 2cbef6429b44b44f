"""Renders replay attacks: a recording of somebody, played on a phone that a hand holds up to the door camera.

Not the real thing: what a screen's own pixels, its polarised light and a real hand do is
only imitated. What is imitated is what a camera sees of any of them: the rim of the device
around the face, its dark glass, a raised black level, the pattern of its pixels, light
reflected from the glass, and that everything on it moves as one with the hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Image

SCREEN_PX = (540, 960)
"""Width and height of the rendered screen, upright: half the pixels of a common phone, as a camera sees no more."""

FRAME_PX = (640, 480)
"""Width and height of what the door camera sees."""

PIXEL_PERIOD_PX = 3
"""Of the pattern that the screen's pixels leave on SCREEN_PX."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Held:
    """One phone in one hand, with one camera's noise: everything that a seed decides."""

    share: float
    """Width of the phone, as a share of the frame's height."""
    rim: float
    """Width of the rim at the sides, as a share of the screen's width; above and below it is twice as wide."""
    rim_level: int
    """Grey level of the rim."""
    gain: float
    """Brightness of the screen."""
    black_level: float
    """What the screen still shines where it is black."""
    tint: tuple[float, float, float]
    """Of its white, BGR."""
    grid: float
    """Depth of the pixel pattern, 0 to 1."""
    glare: float
    """Grey levels that the brightest reflection adds."""
    glare_angle: float
    centre: tuple[float, float]
    """Where the phone is held, as shares of the frame."""
    tilt_deg: float
    sway: tuple[float, float, float, float]
    """Amplitudes of its movement: right, down and in size, as shares; in degrees of rotation."""
    pace_hz: tuple[float, float, float, float]
    phase: tuple[float, float, float, float]
    keystone: float
    """How much smaller the far side of the phone is, as a share."""
    blur_px: float
    noise: float
    """Standard deviation of the camera's noise, grey levels."""
    jpeg_quality: int


def draw_held(rng: np.random.Generator) -> Held:
    """A phone, a hand and a camera, at random."""
    four = (0.02, 0.02, 0.06, 2.5)
    return Held(
        share=rng.uniform(0.3, 0.85),
        rim=rng.uniform(0.02, 0.06),
        rim_level=int(rng.choice((12, 30, 60, 200))),
        gain=rng.uniform(0.85, 1.2),
        black_level=rng.uniform(4, 24),
        tint=(rng.uniform(0.95, 1.1), 1.0, rng.uniform(0.9, 1.05)),
        grid=rng.uniform(0.0, 0.12),
        glare=rng.uniform(0, 50),
        glare_angle=rng.uniform(0, 2 * math.pi),
        centre=(rng.uniform(0.42, 0.58), rng.uniform(0.45, 0.55)),
        tilt_deg=rng.uniform(-10, 10),
        sway=_four(rng.uniform(0.3, 1.0, 4) * four),
        pace_hz=_four(rng.uniform(0.3, 1.2, 4)),
        phase=_four(rng.uniform(0, 2 * math.pi, 4)),
        keystone=rng.uniform(0, 0.08),
        blur_px=rng.uniform(0.4, 1.0),
        noise=rng.uniform(1, 4),
        jpeg_quality=int(rng.integers(80, 96)),
    )


def hold_up(picture: Image, background: Image, held: Held, at_s: float, rng: np.random.Generator) -> Image:
    """What the door camera sees of a picture on the phone at this moment: FRAME_PX, BGR.

    The picture fills the screen; what has another shape than the screen is cut at both sides.
    """
    phone = _phone(picture, held)
    scene = np.asarray(cv2.resize(background, FRAME_PX, interpolation=cv2.INTER_AREA), np.float32)
    matrix = _placed(phone.shape[:2], held, at_s)
    # Averaged down first: a warp alone would skip pixels, and no lens does.
    shrink = min(1.0, 1.5 * abs(np.linalg.det(matrix[:2, :2])) ** 0.5)
    small = cv2.resize(phone, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    matrix = matrix @ np.diag([phone.shape[1] / small.shape[1], phone.shape[0] / small.shape[0], 1.0])
    inside = np.full(small.shape[:2], 255, np.uint8)
    seen = np.asarray(cv2.warpPerspective(small, matrix, FRAME_PX, flags=cv2.INTER_LINEAR), np.float32)
    mask = cv2.warpPerspective(inside, matrix, FRAME_PX, flags=cv2.INTER_LINEAR)
    share = (np.asarray(mask, np.float32) / 255)[..., np.newaxis]
    together = np.asarray(seen * share + scene * (1 - share), np.float32)
    return _through_camera(together, held, rng)


def fill_screen(picture: Image, centre: tuple[float, float], face_px: float, widths: float) -> Image:
    """The upright part of a picture that shows a face in so many face widths, black where the picture ends."""
    width = face_px * widths
    height = width * SCREEN_PX[1] / SCREEN_PX[0]
    scale = SCREEN_PX[0] / width
    shift = (-(centre[0] - width / 2) * scale, -(centre[1] - 0.45 * height) * scale)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(picture, matrix, SCREEN_PX, flags=cv2.INTER_CUBIC), np.uint8)


def _four(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    a, b, c, d = values.tolist()
    return a, b, c, d


def _phone(picture: Image, held: Held) -> Image:
    """The device from the front: the lit screen in its rim."""
    resized = np.asarray(cv2.resize(picture, SCREEN_PX, interpolation=cv2.INTER_LINEAR), np.float32)
    lit = resized * np.float32(held.gain * (1 - held.black_level / 255)) + np.float32(held.black_level)
    lit *= np.array(held.tint, np.float32)
    dark = np.float32(1 - held.grid)
    lit[::PIXEL_PERIOD_PX] *= dark
    lit[:, ::PIXEL_PERIOD_PX] *= dark
    side = round(held.rim * SCREEN_PX[0])
    whole = cv2.copyMakeBorder(
        lit, 2 * side, 2 * side, side, side, cv2.BORDER_CONSTANT, value=(held.rim_level,) * 3
    )
    shining = np.asarray(whole, np.float32) + _glare((whole.shape[0], whole.shape[1]), held)[..., np.newaxis]
    return np.asarray(np.clip(shining, 0, 255), np.uint8)


def _glare(size: tuple[int, int], held: Held) -> NDArray[np.float32]:
    """A soft band of reflected light across the glass."""
    rows = np.linspace(-0.5, 0.5, size[0], dtype=np.float32)[:, np.newaxis] * math.sin(held.glare_angle)
    columns = np.linspace(-0.5, 0.5, size[1], dtype=np.float32)[np.newaxis, :] * math.cos(held.glare_angle)
    return np.asarray(held.glare * np.exp(-(((rows + columns - 0.2) / 0.18) ** 2)), np.float32)


def _placed(size: tuple[int, int], held: Held, at_s: float) -> Matrix:
    """From the phone's pixels to the frame's."""
    height, width = size
    sway = [
        amplitude * math.sin(2 * math.pi * pace * at_s + phase)
        for amplitude, pace, phase in zip(held.sway, held.pace_hz, held.phase, strict=True)
    ]
    across = held.share * FRAME_PX[1] * (1 + sway[2])
    down = across * height / width
    x = (held.centre[0] + sway[0]) * FRAME_PX[0]
    y = (held.centre[1] + sway[1]) * FRAME_PX[1]
    far = 1 - held.keystone
    corners = np.array([[-1, -1], [1, -far], [1, far], [-1, 1]]) * np.array([across / 2, down / 2])
    angle = math.radians(held.tilt_deg + sway[3])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    there = corners @ turn + np.array([x, y])
    here = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    return np.asarray(
        cv2.getPerspectiveTransform(here.astype(np.float32), there.astype(np.float32)), np.float64
    )


def _through_camera(picture: NDArray[np.float32], held: Held, rng: np.random.Generator) -> Image:
    """Lens, sensor and compression."""
    soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), held.blur_px), np.float32)
    noisy = soft + rng.standard_normal(soft.shape, np.float32) * np.float32(held.noise)
    quality = [cv2.IMWRITE_JPEG_QUALITY, held.jpeg_quality]
    _, data = cv2.imencode(".jpg", np.asarray(np.clip(noisy, 0, 255), np.uint8), quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
