"""Line charts and histograms as inline SVG: text that any browser draws, without a library or a network.

Colours are CSS classes of the page (`edge.evaluate.page`), so that a chart follows its light
or dark theme; lines differ by dashes too. Each chart carries a title and a description for
those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 680, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 52
"""Margins around the plotted area, in units of the picture."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale with its ticks."""

    title: str
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at `low` to 1 at `high`; held inside."""
        low, high, at = (self._scaled(number) for number in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self) -> list[float]:
        """Powers of ten, or about six round numbers."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [float(f"1e{power}") for power in range(first, last + 1)]
        rough = (self.high - self.low) / 6
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 12) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one area down to the axis."""

    label: str
    points: Points
    style: int
    """1 to 4: colour and dashes of the page."""
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at a value."""

    label: str
    at: float


def steps(edges: Sequence[float], heights: Sequence[float]) -> Points:
    """The outline of a histogram: one height between each two edges."""
    points = []
    for left, right, height in zip(edges, edges[1:], heights, strict=False):
        points += [(left, height), (right, height)]
    return points


def chart(
    name: str,
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
) -> str:
    """An SVG picture; `name` makes its ids unique on a page."""
    return "\n".join(
        [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-labelledby="{name}-title {name}-text" xmlns="http://www.w3.org/2000/svg">',
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-text">{escape(description)}</desc>',
            *_grid(x, y),
            *(_drawn(one, x, y) for one in series),
            *(_marked(mark, number, x) for number, mark in enumerate(marks)),
            *_legend(series),
            "</svg>",
        ]
    )


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _grid(x: Axis, y: Axis) -> list[str]:
    bottom = HEIGHT - BOTTOM
    lines = []
    for tick in x.ticks():
        at = f"{_x(x, tick):.1f}"
        lines += [
            f'<line class="grid" x1="{at}" y1="{TOP}" x2="{at}" y2="{bottom}"/>',
            f'<text class="tick" x="{at}" y="{bottom + 17}" text-anchor="middle">{_short(tick)}</text>',
        ]
    for tick in y.ticks():
        level = _y(y, tick)
        lines += [
            f'<line class="grid" x1="{LEFT}" y1="{level:.1f}" x2="{WIDTH - RIGHT}" y2="{level:.1f}"/>',
            f'<text class="tick" x="{LEFT - 7}" y="{level + 4:.1f}" text-anchor="end">{_short(tick)}</text>',
        ]
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + bottom) / 2
    return [
        *lines,
        f'<path class="frame" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>',
        f'<text class="axis" x="{middle_x}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x.title)}</text>',
        f'<text class="axis" transform="translate(16 {middle_y}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.title)}</text>",
    ]


def _short(tick: float) -> str:
    """1e-5 rather than 1e-05."""
    return f"{tick:g}".replace("e-0", "e-")


def _drawn(series: Series, x: Axis, y: Axis) -> str:
    points = [f"{_x(x, across):.1f} {_y(y, up):.1f}" for across, up in series.points]
    if not points:
        return ""
    line = "M" + "L".join(points)
    if series.filled:
        first, last = series.points[0][0], series.points[-1][0]
        bottom = HEIGHT - BOTTOM
        area = f"M{_x(x, first):.1f} {bottom}L{line[1:]}L{_x(x, last):.1f} {bottom}Z"
        return (
            f'<path class="area s{series.style}" d="{area}"/><path class="line s{series.style}" d="{line}"/>'
        )
    return f'<path class="line s{series.style}" d="{line}"/>'


def _marked(mark: Mark, number: int, x: Axis) -> str:
    at = _x(x, mark.at)
    right = at > WIDTH * 0.7
    return (
        f'<line class="mark" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="label" x="{at + (-6 if right else 6):.1f}" y="{TOP + 16 + 18 * number}" '
        f'text-anchor="{"end" if right else "start"}">{escape(mark.label)}</text>'
    )


def _legend(series: Sequence[Series]) -> list[str]:
    """One entry beside the other above the plotted area, where no line can cross it."""
    apart = (WIDTH - LEFT - RIGHT) // max(2, len(series))
    return [
        f'<path class="line s{one.style}" d="M{LEFT + apart * place} 17h26"/>'
        f'<text class="label" x="{LEFT + apart * place + 33}" y="21">{escape(one.label)}</text>'
        for place, one in enumerate(series)
    ]
