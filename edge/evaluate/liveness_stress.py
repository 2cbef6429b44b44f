"""What bad pictures do to liveness: the same faces, made noisy, blurred, dark, bright, small, cut and compressed.

Undecided is the right answer where nothing can be told. What matters most is that no
attack becomes live by being seen badly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.evaluate.attack_rates import NEVER, Rate, apcer, bpcer, undecided
from edge.evaluate.looks import Look, Observer, Seen, Track, with_pictures
from edge.records import Box, Face, Image

MOST = 60
"""Frames of each label. Set: a rate of 4 % among 60 is known to 5 points either way (95 %), one of a half to 13; and
all of it takes about a minute."""

SEED = 5
"""Any number would do; one that stays draws the same frames at every run."""

Change = Callable[[Image, Box, np.random.Generator], tuple[Image, Box]]
"""A changed picture, and where its face is then."""


def _noise(deviation: float) -> Change:
    def change(image: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
        noisy = image + rng.normal(0, deviation, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8), box

    return change


def _blur(share: float) -> Change:
    def change(image: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
        blurred = cv2.GaussianBlur(image, (0, 0), max(0.3, share * box.width_px))
        return np.asarray(blurred, np.uint8), box

    return change


def _exposure(gain: float) -> Change:
    def change(image: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
        return np.clip(image * gain, 0, 255).astype(np.uint8), box

    return change


def _jpeg(quality: int) -> Change:
    def change(image: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8), box

    return change


def _small(face_px: float) -> Change:
    def change(image: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
        scale = min(1.0, face_px / box.width_px)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        placed = Box(box.x1 * scale, box.y1 * scale, box.x2 * scale, box.y2 * scale)
        return np.asarray(small, np.uint8), placed

    return change


def _cut(widths: float) -> Change:
    """To a square of so many widths of the face, as far as the picture goes."""

    def change(image: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
        (x, y), half = box.centre, widths * box.width_px / 2
        left, top = max(0, round(x - half)), max(0, round(y - half))
        part = image[top : round(y + half), left : round(x + half)]
        return part.copy(), Box(box.x1 - left, box.y1 - top, box.x2 - left, box.y2 - top)

    return change


CHANGES: dict[str, Change] = {
    "as they are": lambda image, box, rng: (image, box),
    **{f"noise, {sigma} grey levels": _noise(sigma) for sigma in (4, 8, 12, 20, 30)},
    **{f"blur, {share:g} face widths": _blur(share) for share in (0.01, 0.02, 0.03, 0.05, 0.08, 0.12)},
    **{f"exposure, times {gain:g}": _exposure(gain) for gain in (0.25, 0.5, 1.5, 2.2)},
    **{f"JPEG of quality {quality}": _jpeg(quality) for quality in (50, 30, 15)},
    **{f"face of {px} px": _small(px) for px in (96, 64, 48, 36)},
    **{f"cut to {widths:g} face widths": _cut(widths) for widths in (3.0, 2.2, 1.8)},
}
"""Each from hardly visible to beyond use; where the board draws the line is read off what they print."""


@dataclass(frozen=True, slots=True)
class Stressed:
    """What one change does to single frames."""

    name: str
    apcer: Rate
    bpcer: Rate
    undecided_live: Rate
    undecided_attacks: Rate


def stress(seen: Seen, observer: Observer, live_from: float, most: int = MOST) -> list[Stressed]:
    """Judge up to `most` frames of each label under every change."""
    values: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for track, look, image in _sample(seen, most):
        for name, change in CHANGES.items():
            changed, box = change(image, look.box, np.random.default_rng([SEED, look.frame]))
            face = Face(box, np.zeros((5, 2), np.float32), 1.0)
            liveness = observer.look(changed, face, look.frame).liveness
            values[name, track.presentation.live].append(NEVER if liveness is None else liveness)
    return [
        _counted(name, np.array(values[name, False]), np.array(values[name, True]), live_from)
        for name in CHANGES
    ]


def _counted(name: str, attacks: np.ndarray, live: np.ndarray, live_from: float) -> Stressed:
    return Stressed(
        name, apcer(attacks, live_from), bpcer(live, live_from), undecided(live), undecided(attacks)
    )


def _sample(seen: Seen, most: int) -> Iterator[tuple[Track, Look, Image]]:
    """Judged frames, evenly over everything that was looked at, of each label."""
    for live in (True, False):
        judged = [
            (track, look)
            for track in seen.tracks
            if track.presentation.live is live
            for look in track.looks
            if look.liveness is not None
        ]
        places = np.linspace(0, len(judged) - 1, min(most, len(judged))).round().astype(int)
        yield from with_pictures([judged[place] for place in places])


def stress_report(stressed: Sequence[Stressed]) -> str:
    """For people."""
    lines = [f"{'single frames':24} {'APCER':>8} {'undecided':>10} {'BPCER':>8} {'undecided':>10}"]
    for one in stressed:
        numbers = (one.apcer, one.undecided_attacks, one.bpcer, one.undecided_live)
        told = " ".join(
            f"{'-' if not rate.trials else f'{rate.percent:.0f} %':>{width}}"
            for rate, width in zip(numbers, (8, 10, 8, 10), strict=True)
        )
        lines.append(f"{one.name:24} {told}")
    first = stressed[0]
    lines.append(f"({first.apcer.trials} frames of attacks, {first.bpcer.trials} of live people)")
    return "\n".join(lines)
