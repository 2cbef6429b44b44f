"""Whether the pictures show anything: black and frozen ones are noticed, by pictures and time alone."""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera import Origin
from edge.records import Image

STEP_PX = 8
"""Every so many pixels, both ways, one is looked at: 4,800 of 640x480. That takes 0.01 ms; all take 0.5."""

COLOUR_DIMENSIONS = 3

DARK_MEAN = 20.0
"""Brighter pictures, 0 to 255, are not black, whatever they show. H.264 and most webcams call 16 black."""

BLANK_SPREAD = 1.25
"""Standard deviation, in grey levels, of the means of blocks of 8x4 pixels, in which a sensor's noise
averages out (5 levels become 0.9). Where four clips with people were darkened until they were below
DARK_MEAN, with noise of one level added, YuNet found its last face at 1.53, in 528 pictures."""

BLACK_MS = 3000
"""A hand or a head before the lens is gone sooner."""

STILL_SHARE = 0.005
"""Of the pixels looked at, so few may differ in a still picture, for a clock that is drawn into it.
Two pictures of a quiet wall differ in 2.8 % at the least, with noise of 0.3 levels after JPEG of quality
60, and of any scene in 16 %; real noise is larger."""

FROZEN_MS = {Origin.SENSOR: 3000, Origin.STREAM: 60_000}
"""How long pictures may stand still. An encoder leaves out what did not change: of a real clip of a street
at 25 frames a second, 74 frames in a row were the same. Only its next key frame has new noise, and
cameras send one at least every minute. A stream that stops altogether is noticed by its read timeout."""


class Verdict(StrEnum):
    """What is to be thought of the latest picture."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    """Black or standing still, but not for long enough to say so, or not yet seen to move."""
    BLACK = "black"
    FROZEN = "frozen"


class PictureWatch:
    """Judges the pictures of one opening of a camera, in their order.

    Args:
        origin: a recording is always good: a still or dark one was made so, and opening it
            again would only begin it again. The others have limits of their own (FROZEN_MS).
    """

    def __init__(self, origin: Origin) -> None:
        self._frozen_ms = FROZEN_MS.get(origin)
        self._must_move = origin is Origin.SENSOR
        self._before: NDArray[np.uint8] | None = None
        self._still_since_ms = 0
        self._ever_moved = False
        self._black_since_ms: int | None = None

    def judge(self, image: Image, mono_ms: int) -> Verdict:
        """The verdict on a picture taken at this time."""
        if self._frozen_ms is None or image.ndim != COLOUR_DIMENSIONS or not image.size:
            return Verdict.GOOD  # what is no picture at all, the road refuses by name
        sample = np.ascontiguousarray(image[::STEP_PX, ::STEP_PX, 1])
        black_ms = self._black_for_ms(image, sample, mono_ms)
        still_ms = self._still_for_ms(sample, mono_ms)
        if black_ms is not None and black_ms >= BLACK_MS:
            return Verdict.BLACK
        if still_ms >= self._frozen_ms:
            return Verdict.FROZEN
        still = not self._ever_moved or (self._must_move and still_ms > 0)
        return Verdict.DOUBTFUL if still or black_ms is not None else Verdict.GOOD

    def _black_for_ms(self, image: Image, sample: NDArray[np.uint8], mono_ms: int) -> int | None:
        """How long pictures have been black; None where this one is not."""
        if not _is_black(image, sample):
            self._black_since_ms = None
            return None
        if self._black_since_ms is None:
            self._black_since_ms = mono_ms
        return mono_ms - self._black_since_ms

    def _still_for_ms(self, sample: NDArray[np.uint8], mono_ms: int) -> int:
        """How long pictures have been alike; 0 where this one differs from the one before."""
        before, self._before = self._before, sample
        first = before is None or before.shape != sample.shape
        moved = not first and bool(np.count_nonzero(sample != before) > STILL_SHARE * sample.size)
        self._ever_moved = self._ever_moved or moved
        if first or moved:
            self._still_since_ms = mono_ms
        return mono_ms - self._still_since_ms


def _is_black(image: Image, sample: NDArray[np.uint8]) -> bool:
    if sample.mean() >= DARK_MEAN:
        return False
    # Only in the dark, since it looks at every other row: 0.1 ms.
    blocks = cv2.resize(image[::2], (sample.shape[1], sample.shape[0]), interpolation=cv2.INTER_AREA)
    return float(blocks[..., 1].std()) < BLANK_SPREAD
