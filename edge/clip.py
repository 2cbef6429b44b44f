"""A file of moving pictures that its owner alone can read, and that is never there by half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edge.errors import InputError
from edge.records import Image

CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
"""What is in every OpenCV wheel: JPEG frames, and MPEG-4 part 2 at a tenth of the size."""

MIN_SIDE_PX = 32
"""Smaller pictures get black beside them: given some of 4x4 px, OpenCV 5.0's MJPG writer overruns its own memory."""

FALLBACK_FRAMES_PER_S = 10.0
"""For a clip of one picture, which has no rate."""


@contextmanager
def new_clip(out: Path, source: str) -> Iterator[Path]:
    """An empty file beside `out` that takes its name at the end, or vanishes: never half a clip under that name.

    Raises:
        InputError: `out` has another suffix than a video's, is what is played or lies in it, or
            cannot be created.
    """
    if out.suffix.lower() not in CODECS:
        raise InputError(f"{out}: the annotated clip must be called {' or '.join('*' + s for s in CODECS)}")
    if out.is_dir() or (out.exists() and not out.is_file()):
        raise InputError(f"{out}: exists and is not a file; name another for the annotated clip")
    played = Path(source).resolve()
    if played in (out.resolve(), *out.resolve().parents) or (out.exists() and out.samefile(source)):
        raise InputError(f"{out}: is what is played, or lies in it ({source}); name another place")
    try:
        handle, name = tempfile.mkstemp(out.suffix.lower(), f".{out.stem}-", out.parent)  # 0600
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)


class ClipWriter:
    """Writes pictures as one video; later ones are fitted to the size of the first."""

    def __init__(self, out: Path, rate: float) -> None:
        self._out = out
        self._rate = rate
        self._written = 0
        self._size = (0, 0)
        self._video = cv2.VideoWriter()

    def write(self, image: Image) -> None:
        if not self._written:
            self._open(image)
        self._video.write(_fitted(image, self._size))
        self._written += 1

    def close(self) -> None:
        self._video.release()

    def check(self) -> None:
        """OpenCV does not tell when a disk is full, so what was written is counted. Raises InputError."""
        capture = cv2.VideoCapture(str(self._out), cv2.CAP_FFMPEG)
        kept = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if kept != self._written:
            raise InputError(
                f"{self._out.parent}: the annotated clip could not be written whole ({kept} of {self._written} "
                "frames can be read back); is the disk full?"
            )

    def _open(self, image: Image) -> None:
        height, width = image.shape[:2]
        # Even, because MPEG-4 and JPEG halve the colours.
        self._size = (max(MIN_SIDE_PX, width + width % 2), max(MIN_SIDE_PX, height + height % 2))
        codec = CODECS[self._out.suffix]
        self._video.open(
            str(self._out), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), self._rate, self._size
        )
        if not self._video.isOpened():
            others = " or ".join(f"*{suffix}" for suffix in CODECS if suffix != self._out.suffix)
            raise InputError(
                f"this OpenCV cannot write {self._out.suffix} ({codec}, {width} x {height}); name {others}"
            )


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """The picture in a frame of this (width, height): shrunk or enlarged as a whole, black beside it."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    if scale < 1 or scale > 1.05:  # noqa: PLR2004 - one pixel to become even is not worth a resampling
        fitted = max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0]))
        image = np.asarray(cv2.resize(image, fitted), np.uint8)
    image = image[:height, :width]
    down, right = height - image.shape[0], width - image.shape[1]
    return np.asarray(cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT), np.uint8)


def frames_per_s(times_ms: Sequence[int]) -> float:
    """The one rate that a written clip has: of the usual steps, without the gaps between two clips of a folder."""
    steps = np.diff(times_ms)
    if not steps.size:
        return FALLBACK_FRAMES_PER_S
    usual = steps[steps <= 2 * np.median(steps)]
    # Two decimals: MPEG-4 takes no finer time base.
    return round(float(1000 / max(1.0, usual.mean())), 2)
