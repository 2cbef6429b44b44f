"""Cues beside the models: do they tell attacks that the models miss, without costing live people?

Each looks at a window of frames of a fixed camera and gives a number that is higher for what
should be an attack. A cue helps if, added to the models' mean with a weight that one half of
the data chooses, it lowers the other half's APCER at the same BPCER. What came of it is in
docs/liveness.md; none of them is on the board's road.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.evaluate.attack_rates import Rate, apcer, threshold_at_bpcer
from edge.evaluate.liveness import Item, parts, windows
from edge.evaluate.looks import Look, Seen
from edge.records import Box

Grey = NDArray[np.float32]

LAGS = (1, 2, 3, 5)
"""Frames between the two pictures that are compared: all are tried, and the best of them told."""

LEAST_SHIFT = 0.06
"""Of a face, in its widths: less says nothing about what moved with it. Set, not swept, as are the
next three: what came of them is in docs/liveness.md, and none is on the board."""

SURROUND = ((1.0, -0.2), (1.0, 0.2), (0.5, -1.0))
"""Places beside and above a face, in its widths from its centre, to the right; and the same to the left."""

PATCH = 0.22
"""Half the side of what is compared there, in widths of the face."""

FLAT = 6.0
"""Standard deviation of grey levels below which a patch shows no movement."""

BPCER_PERCENT = 1.0
"""At 5 % the models alone take no rendered replay for live, so that nothing could be better."""

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Of a cue against the models' mean liveness of 0 to 1: one half of the data chooses among them."""

Pictures = Sequence[tuple[Look, Grey]]


def moves_with_surround(pictures: Pictures) -> float:
    """Whether what is around a face moves with it, as on a print or phone (Anjos and Marcel, IJCB 2011).

    The log ratio of two differences: to where the surround was, and to where the face's movement
    would have carried it; positive where it was carried. 0 where nobody moved enough.
    """
    found = [
        value
        for lag in LAGS
        for (before, one), (after, other) in zip(pictures, pictures[lag:], strict=False)
        for value in _carried(before.box, one, after.box, other)
    ]
    return float(np.mean(found)) if found else 0.0


def _carried(before: Box, one: Grey, after: Box, other: Grey) -> Iterator[float]:
    shift = np.subtract(after.centre, before.centre)
    if not LEAST_SHIFT * before.width_px <= math.hypot(*shift) <= before.width_px / 2:
        return
    half = PATCH * before.width_px
    for side in (-1, 1):
        for across, down in SURROUND:
            place = np.add(before.centre, (side * across * before.width_px, down * before.width_px))
            was, stayed, moved = (
                _patch(one, place, half),
                _patch(other, place, half),
                _patch(other, place + shift, half),
            )
            if was is not None and stayed is not None and moved is not None and was.std() >= FLAT:
                yield math.log((np.abs(was - stayed).mean() + 2) / (np.abs(was - moved).mean() + 2))


def _patch(grey: Grey, centre: NDArray[np.float64], half: float) -> Grey | None:
    left, top = (round(float(value) - half) for value in centre)
    side = round(2 * half)
    inside = left >= 0 and top >= 0 and left + side <= grey.shape[1] and top + side <= grey.shape[0]
    return grey[top : top + side, left : left + side] if inside and side > 0 else None


def size_jumps(pictures: Pictures) -> float:
    """The largest change of a face's width between two frames, as a log ratio: a hand moves faster than a walker."""
    widths = [look.box.width_px for look, _ in pictures]
    return max(
        (abs(math.log(after / before)) for before, after in pairwise(widths)),
        default=0.0,
    )


def stillness(pictures: Pictures) -> float:
    """How little changes within a face that is laid over itself, as the negative log of the mean difference.

    Eyes that blink and a mouth that moves change it; a photograph that is only carried about does not.
    """
    faces = [_face(look.box, grey) for look, grey in pictures]
    changes = [float(np.abs(before - after).mean()) for before, after in pairwise(faces)]
    return -math.log(float(np.mean(changes)) + 1) if changes else 0.0


def _face(box: Box, grey: Grey) -> Grey:
    part = grey[max(0, round(box.y1)) : max(1, round(box.y2)), max(0, round(box.x1)) : max(1, round(box.x2))]
    small = np.asarray(cv2.resize(part, (48, 48), interpolation=cv2.INTER_AREA), np.float32)
    return np.asarray((small - small.mean()) / max(float(small.std()), 1.0) * 32, np.float32)


CUES: dict[str, Callable[[Pictures], float]] = {
    "moves with its surround": moves_with_surround,
    "jumps in size": size_jumps,
    "still within itself": stillness,
}


@dataclass(frozen=True, slots=True)
class Tried:
    """What one cue tells alone, and what it does beside the models."""

    name: str
    alone: float
    """How often it is higher for an attack than for a live person: 0.5 is chance, 1 is always."""
    weight: float
    """Beside the models, as one half chose it; 0 where the cue helped with none."""
    choosing: tuple[Rate, Rate]
    """APCER at BPCER_PERCENT on that half, without and with it."""
    reporting: tuple[Rate, Rate]
    """The same on the other half."""


def try_cues(seen: Seen, length: int, least: int) -> list[Tried]:
    """Each cue on windows of so many frames; nothing where a half lacks live ones or attacks."""
    choosing, reporting = (
        [item for item in windows(part, length, least) if item.liveness is not None]
        for part in parts(seen.tracks)
    )
    if any(len({item.track.presentation.live for item in half}) < 2 for half in (choosing, reporting)):  # noqa: PLR2004
        return []
    values = _values([*choosing, *reporting], length)
    return [_tried(name, choosing, reporting, values[name]) for name in CUES]


def _values(items: Sequence[Item], length: int) -> dict[str, dict[int, float]]:
    """Each cue of each item, by the item's id; each presentation is read once."""
    by_presentation: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_presentation[item.track.presentation.name].append(item)
    found: dict[str, dict[int, float]] = {name: {} for name in CUES}
    for shown in by_presentation.values():
        looks = {id(item): item.track.looks[item.first : item.first + length] for item in shown}
        wanted = {look.frame for some in looks.values() for look in some}
        greys = {
            number: np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.float32)
            for number, (_, image) in enumerate(shown[0].track.presentation.frames())
            if number in wanted
        }
        for item in shown:
            pictures = [(look, greys[look.frame]) for look in looks[id(item)]]
            for name, cue in CUES.items():
                found[name][id(item)] = cue(pictures)
    return found


def _tried(name: str, choosing: Sequence[Item], reporting: Sequence[Item], cue: Mapping[int, float]) -> Tried:
    weight = min(WEIGHTS, key=lambda weight: (_apcer(choosing, cue, weight).errors, weight))
    return Tried(
        name=name,
        alone=_alone([*choosing, *reporting], cue),
        weight=weight,
        choosing=(_apcer(choosing, cue, 0.0), _apcer(choosing, cue, weight)),
        reporting=(_apcer(reporting, cue, 0.0), _apcer(reporting, cue, weight)),
    )


def _alone(items: Sequence[Item], cue: Mapping[int, float]) -> float:
    """The area under the cue's own curve; equal values count half."""
    attacks = np.array([cue[id(item)] for item in items if not item.track.presentation.live])
    live = np.array([cue[id(item)] for item in items if item.track.presentation.live])
    above = np.sign(attacks[:, np.newaxis] - live[np.newaxis, :])
    return float((above.mean() + 1) / 2)


def _apcer(items: Sequence[Item], cue: Mapping[int, float], weight: float) -> Rate:
    """At the threshold that refuses BPCER_PERCENT of these live ones."""
    joined = np.array([(item.liveness or 0.0) - weight * cue[id(item)] for item in items])
    live = np.array([item.track.presentation.live for item in items])
    return apcer(joined[~live], threshold_at_bpcer(joined[live], BPCER_PERCENT))


def cues_report(tried: Sequence[Tried]) -> str:
    """For people."""
    if not tried:
        return "Cues: both halves need live people and attacks"
    lines = [f"Cues beside the models; APCER at a BPCER of {BPCER_PERCENT:g} %:"]
    for one in tried:
        lines.append(f"  {one.name}: alone right in {100 * one.alone:.0f} % of pairs; weight {one.weight:g}")
        for half, rates in (("half that chose it", one.choosing), ("other half", one.reporting)):
            lines.append(f"    {half}: models alone {rates[0]}, with it {rates[1]}")
    return "\n".join(lines)
