"""Draws onto a picture what the road made of it: a box, a number and a few words for every face.

State is told three times, by colour, by the kind of line and in words, because one man in
twelve does not see red and green apart. Text stands on a dark plate, so that it can be
read on snow and at night, and beside the faces, never on one if there is any room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from edge.records import Box, Image

Colour = tuple[int, int, int]
"""BGR."""

Point = tuple[int, int]

Rectangle = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels of the canvas, half-open."""

MIN_SHORT_SIDE_PX = 480
"""Smaller pictures are enlarged by a whole factor, or no letter would fit beside their faces."""

MAX_ENLARGEMENT = 4
"""A long strip of a picture must not become gigabytes."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.42
"""On a canvas with a short side of MIN_SHORT_SIDE_PX: letters of 9 px."""

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
PLATE_OPACITY = 0.72


class Look(Enum):
    """How a face is framed. Colours after Okabe and Ito (2008), which all eyes can tell apart, lightened."""

    UNDECIDED = (90, 228, 240)
    """Yellow corners."""
    ATTENDANCE = (140, 205, 40)
    """A bluish green frame."""
    NO_ATTENDANCE = (60, 130, 245)
    """A dashed vermilion frame."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is drawn for one face."""

    box: Box
    look: Look
    lines: tuple[str, ...]
    """ASCII, the first in the colour of the look."""
    seen: bool = True
    """False: it was there a moment ago. A cross without a frame, so that no box stands where no face is."""


def enlargement(image: Image) -> int:
    """The whole factor by which a picture is enlarged before it is drawn on."""
    return min(MAX_ENLARGEMENT, math.ceil(MIN_SHORT_SIDE_PX / int(min(image.shape[:2]))))


def annotate(image: Image, marks: Sequence[Mark], caption: str) -> Image:
    """A copy of the picture, `enlargement` times as large, with everything drawn in."""
    factor = enlargement(image)
    if factor > 1:
        canvas = np.asarray(
            cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8
        )
    else:
        canvas = image.copy()
    pen = _Pen(canvas)
    taken = []
    for mark in marks:
        box = _scaled(mark.box, factor)
        taken.append(pen.frame(box, mark.look) if mark.seen else pen.cross(box, mark.look))
    framed = tuple(taken)
    taken.append(pen.caption(caption, taken))
    plates = []
    for mark, frame in zip(marks, framed, strict=True):
        plate = place(pen.plate_size(mark.lines), frame, taken, canvas.shape[:2])
        pen.leader(plate, frame, mark.look)
        plates.append(plate)
        taken.append(plate)
    for mark, plate in zip(marks, plates, strict=True):  # after the leaders, which may cross words
        pen.plate(plate, mark)
    return canvas


def place(
    size: tuple[int, int], face: Rectangle, taken: Sequence[Rectangle], canvas: tuple[int, int]
) -> Rectangle:
    """Where a plate of (width, height) goes: near its face, on the canvas, on nothing that is taken.

    Where everything is taken, where it covers least. `canvas` is (height, width).
    """
    options = [_inside(option, canvas) for option in _around(size, face)]
    costs = [(sum(_overlap(option, other) for other in taken), order) for order, option in enumerate(options)]
    return options[min(costs)[1]]


def _around(size: tuple[int, int], face: Rectangle) -> Iterator[Rectangle]:
    """Places for a plate, the best first: above, below, right, left, then the same farther away."""
    width, height = size
    x1, y1, x2, y2 = face
    gap = max(3, height // 8)
    for step in range(4):
        away = gap + step * (height + gap)
        for left in (x1, x2 - width):
            yield left, y1 - away - height, left + width, y1 - away
            yield left, y2 + away, left + width, y2 + away + height
        yield x2 + away, y1, x2 + away + width, y1 + height
        yield x1 - away - width, y1, x1 - away, y1 + height


def _inside(rectangle: Rectangle, canvas: tuple[int, int]) -> Rectangle:
    """Moved onto the canvas as far as it fits."""
    x1, y1, x2, y2 = rectangle
    height, width = canvas
    right, down = max(0, min(x1, width - (x2 - x1))), max(0, min(y1, height - (y2 - y1)))
    return right, down, right + x2 - x1, down + y2 - y1


def _overlap(one: Rectangle, other: Rectangle) -> int:
    """Common area in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def _scaled(box: Box, factor: int) -> Rectangle:
    return round(box.x1 * factor), round(box.y1 * factor), round(box.x2 * factor), round(box.y2 * factor)


class _Pen:
    """Draws on one canvas, with lines and letters that fit its size."""

    def __init__(self, canvas: Image) -> None:
        self._canvas = canvas
        unit = min(canvas.shape[:2]) / MIN_SHORT_SIDE_PX
        self._font_scale = FONT_SCALE * max(1.0, unit)
        self._thin = max(1, round(unit))
        self._bold = max(1, int(unit))
        (_, letters), below = cv2.getTextSize("Hg", FONT, self._font_scale, self._bold)
        self._ascent = letters
        self._line_height = letters + below + 2 * self._thin
        self._pad = 3 * self._thin + 1

    def frame(self, frame: Rectangle, look: Look) -> Rectangle:
        """Around a face; returns its place."""
        self._lines(tuple(_strokes(frame, look)), look)
        return frame

    def cross(self, frame: Rectangle, look: Look) -> Rectangle:
        """In the middle of where a face was; returns its place."""
        x, y = (frame[0] + frame[2]) // 2, (frame[1] + frame[3]) // 2
        arm = self._line_height // 4
        x1, y1, x2, y2 = x - arm, y - arm, x + arm, y + arm
        self._lines((((x1, y1), (x2, y2)), ((x1, y2), (x2, y1))), look)
        return x1, y1, x2, y2

    def _lines(self, lines: Sequence[tuple[Point, Point]], look: Look) -> None:
        """A dark line beneath makes each coloured one visible on any picture.

        Two pixels wide at least: video keeps one colour for four pixels, and a single one would lose its own.
        """
        for start, end in lines:
            cv2.line(self._canvas, start, end, BLACK, 2 * self._thin + 2, cv2.LINE_AA)
        for start, end in lines:
            cv2.line(self._canvas, start, end, look.value, 2 * self._thin, cv2.LINE_AA)

    def caption(self, text: str, faces: Sequence[Rectangle]) -> Rectangle:
        """In whichever corner no face is; returns its place."""
        height, width = self._canvas.shape[:2]
        wide, high = self.plate_size((text,))
        corners = [(x, y, x + wide, y + high) for y in (height - high, 0) for x in (0, max(0, width - wide))]
        corner = min(corners, key=lambda corner: sum(_overlap(corner, face) for face in faces))
        self._shade(corner)
        self._write(text, corner[0] + self._pad, corner[1] + self._pad + self._ascent, WHITE)
        return corner

    def plate_size(self, lines: Sequence[str]) -> tuple[int, int]:
        widest = max(
            (cv2.getTextSize(line, FONT, self._font_scale, self._bold)[0][0] for line in lines), default=0
        )
        return widest + 3 * self._pad, len(lines) * self._line_height + self._pad

    def leader(self, plate: Rectangle, frame: Rectangle, look: Look) -> None:
        """A line from words to their face, where another could be meant."""
        start, end = _nearest_points(plate, frame)
        if np.hypot(end[0] - start[0], end[1] - start[1]) > 2 * self._line_height:
            self._lines(((start, end),), look)

    def plate(self, plate: Rectangle, mark: Mark) -> None:
        """The words."""
        self._shade(plate)
        x1, y1, _, y2 = plate
        colour = mark.look.value
        cv2.rectangle(self._canvas, (x1, y1), (x1 + self._thin, y2 - 1), colour, cv2.FILLED)
        for number, line in enumerate(mark.lines):
            baseline = y1 + self._pad + self._ascent + number * self._line_height
            self._write(line, x1 + 2 * self._pad, baseline, WHITE if number else colour)

    def _shade(self, plate: Rectangle) -> None:
        x1, y1, x2, y2 = plate
        part = self._canvas[max(0, y1) : y2, max(0, x1) : x2]
        part[:] = (part * (1 - PLATE_OPACITY)).astype(np.uint8)

    def _write(self, text: str, x: int, y: int, colour: Colour) -> None:
        cv2.putText(self._canvas, text, (x, y), FONT, self._font_scale, colour, self._bold, cv2.LINE_AA)


def _strokes(frame: Rectangle, look: Look) -> Iterator[tuple[Point, Point]]:
    """The lines of a frame: corners only, whole, or dashed."""
    x1, y1, x2, y2 = frame
    corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        for first, last in _SHARES[look]:
            yield _between(start, end, first), _between(start, end, last)


_SHARES = {
    Look.UNDECIDED: ((0.0, 0.25), (0.75, 1.0)),
    Look.ATTENDANCE: ((0.0, 1.0),),
    Look.NO_ATTENDANCE: ((0.0, 0.11), (0.22, 0.33), (0.445, 0.555), (0.67, 0.78), (0.89, 1.0)),
}
"""Which shares of each side are drawn."""


def _between(start: Point, end: Point, share: float) -> Point:
    return round(start[0] + (end[0] - start[0]) * share), round(start[1] + (end[1] - start[1]) * share)


def _nearest_points(one: Rectangle, other: Rectangle) -> tuple[Point, Point]:
    """Where the shortest line between two rectangles begins and ends."""
    across, down = _nearest(one[0], one[2], other[0], other[2]), _nearest(one[1], one[3], other[1], other[3])
    return (across[0], down[0]), (across[1], down[1])


def _nearest(low: int, high: int, other_low: int, other_high: int) -> tuple[int, int]:
    """The points of two intervals that are nearest to each other; a common one where they overlap."""
    if high < other_low:
        return high, other_low
    if other_high < low:
        return low, other_high
    middle = (max(low, other_low) + min(high, other_high)) // 2
    return middle, middle
