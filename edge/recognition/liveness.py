"""Is there a person in front of the camera, or a picture of one?

Models look at crops with much around the face: a rim, an edge of paper or the flat light
of a screen tells more than the face itself. No single frame decides: the mean of all
models over the latest frames of a track does. What cannot be judged - too small, at the
edge, too close, blurred, noisy - is *undecided*, never live: blurred enough, a printed
photograph looks as live as anybody (docs/liveness.md).

The models run only when everything else speaks for an attendance. Until then a track
keeps its latest crops, which cost two small resizes a frame.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import LivenessConfig
from edge.errors import ModelError
from edge.recognition.embed import normalised_levels
from edge.recognition.liveness_manifest import LivenessModelSpec, LivenessSpec
from edge.recognition.tflite import Network
from edge.records import Box, Image, Judgement, Sighting, Unclear, Verdict

Crops = tuple[Image, ...]
"""What each model looks at, in the order of the specification."""

MIN_INSIDE = 0.95
"""Of a face's box, either way: less is cut by the picture's edge."""

NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Blind to flat light, edges and slopes (Immerkær, "Fast noise variance estimation", CVIU 64(2), 1996)."""

NOISE_PX = 64
"""Side of the square that is looked at for noise: 4,000 pixels tell it to a few percent."""


def crop_of(image: Image, box: Box, spec: LivenessModelSpec) -> Image:
    """The square around a face that a model takes, of its input's size, BGR.

    Where it would reach out of the picture it is moved, and where the picture is too small
    for it, it is as large as the picture: as the authors of MiniFASNet cut theirs. Bilinear,
    without averaging, also as theirs.
    """
    height, width = image.shape[:2]
    x, y = box.centre
    y += spec.crop_shift * box.height_px
    side = max(1, round(min(height, width, spec.crop_widths * box.width_px)))
    left = min(max(0, round(x - side / 2)), width - side)
    top = min(max(0, round(y - side / 2)), height - side)
    size = (spec.input_shape[2], spec.input_shape[1])
    part = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def badly_placed(size: tuple[int, int], box: Box, config: LivenessConfig) -> Unclear | None:
    """Why a face in a picture of this (height, width) cannot be judged where it is; None where it can."""
    height, width = size
    if box.width_px < config.min_face_px:
        return Unclear.TOO_SMALL
    across = min(box.x2, width) - max(box.x1, 0.0)
    down = min(box.y2, height) - max(box.y1, 0.0)
    if across < MIN_INSIDE * box.width_px or down < MIN_INSIDE * box.height_px:
        return Unclear.AT_EDGE
    if min(height, width) < config.min_context_widths * box.width_px:
        return Unclear.TOO_CLOSE
    return None


def badly_seen(image: Image, box: Box, crop: Image, config: LivenessConfig) -> Unclear | None:
    """Why a face, or the crop around it, is no picture to judge; None where it is."""
    if noise_of(image, box) > config.max_noise:
        return Unclear.TOO_NOISY
    if sharpness_of(crop) < config.min_sharpness:
        return Unclear.TOO_BLURRED
    return None


def sharpness_of(crop: Image) -> float:
    """Variance of the Laplacian over that of the grey picture: the same in dim and in bright light, 0 where flat."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(grey)
    _, detail = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))
    return float(detail[0, 0] ** 2) / max(float(deviation[0, 0] ** 2), 1.0)


def noise_of(image: Image, box: Box) -> float:
    """Standard deviation of the noise in the middle of a face, grey levels; texture counts as some.

    On the picture's own pixels: a smaller picture would have averaged it away.
    """
    x, y = box.centre
    left, top = max(0, round(x) - NOISE_PX // 2), max(0, round(y) - NOISE_PX // 2)
    part = image[top : top + NOISE_PX, left : left + NOISE_PX]
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    rest = cv2.filter2D(grey, cv2.CV_32F, NOISE_KERNEL)[1:-1, 1:-1]
    return float(np.abs(rest).mean()) * math.sqrt(math.pi / 2) / 6


class LivenessModels:
    """The loaded models. Not safe for use by two threads at once.

    Raises ModelError where a file is missing, damaged or does not fit its description.
    """

    def __init__(self, spec: LivenessSpec, threads: int = 1) -> None:
        self.spec = spec
        self._networks = tuple(Network(model, spec.folder, threads) for model in spec.models)
        for model, network in zip(spec.models, self._networks, strict=True):
            nothing = network.quantise(np.zeros(model.input_shape, np.float32))
            if (found := network.run(nothing).size) != model.classes:
                raise ModelError(f"{spec.folder / model.file}: gives {found} numbers, not {model.classes}")

    def crops(self, image: Image, box: Box) -> Crops:
        """What the models look at, for one face of a picture."""
        return tuple(crop_of(image, box, model) for model in self.spec.models)

    def liveness(self, crops: Crops) -> float:
        """Mean of the models' probabilities that this is live, 0 to 1."""
        each = zip(self.spec.models, self._networks, crops, strict=True)
        return float(np.mean([_live(spec, network, crop) for spec, network, crop in each]))


def _live(spec: LivenessModelSpec, network: Network, crop: Image) -> float:
    """One model's probability that a crop is live."""
    if spec.colour_order == "RGB":
        crop = np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB), np.uint8)
    table = network.quantise(normalised_levels(crop, spec.normalisation))
    values = network.run(table[crop][np.newaxis]).ravel()
    return float(_probabilities(values, spec)[spec.live_class])


def _probabilities(values: NDArray[np.float32], spec: LivenessModelSpec) -> NDArray[np.float32]:
    if spec.activation == "softmax":
        return values
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum(), np.float32)


def verdict_of(values: Sequence[float], live_from: float, config: LivenessConfig) -> Verdict:
    """From the liveness of a track's latest frames: live as soon as there are enough, attack only at the end.

    Whoever is not live with the least number of frames may be with more, so that a hand
    before the face for a moment accuses nobody.
    """
    if len(values) < config.min_frames:
        return Verdict.UNDECIDED
    if float(np.mean(values)) >= live_from:
        return Verdict.LIVE
    return Verdict.ATTACK if len(values) >= config.max_frames else Verdict.UNDECIDED


@dataclass(slots=True)
class Throttle:
    """Lets at most one through in so long; without an interval, none."""

    interval_ms: int | None = None
    _last_mono_ms: int | None = None

    def admits(self, now_mono_ms: int) -> bool:
        """Whether one may pass now; it then counts as passed."""
        if self.interval_ms is None:
            return False
        if self._last_mono_ms is not None and now_mono_ms - self._last_mono_ms < self.interval_ms:
            return False
        self._last_mono_ms = now_mono_ms
        return True


class Liveness(Protocol):
    """What the road asks before a face may become an attendance; another camera's answer would fit as well."""

    @property
    def on(self) -> bool:
        """Whether anybody looks."""
        ...

    def look(self, image: Image, sighting: Sighting, /) -> None:
        """Take in one good frame of a track."""
        ...

    def judge(self, track: int, /) -> Judgement:
        """What a track's frames so far say."""
        ...

    def forget(self, track: int, /) -> None:
        """The track is over, or shows somebody else."""
        ...


class NoLiveness:
    """Liveness is off: everybody counts as live."""

    on = False

    def look(self, image: Image, sighting: Sighting, /) -> None:
        """Nothing to see."""

    def judge(self, track: int, /) -> Judgement:
        """Live, unseen."""
        return Judgement(Verdict.LIVE, liveness=None, frames=0, unclear=None)

    def forget(self, track: int, /) -> None:
        """Nothing was kept."""


@dataclass(slots=True)
class _Looks:
    """The latest frames of one track that can be judged."""

    crops: deque[Crops]
    """Those that no model has seen yet."""
    values: deque[float]
    unclear: Unclear | None = None
    """Of the latest frame."""


@dataclass(slots=True)
class TrackLiveness:
    """Judges tracks by their latest frames."""

    models: LivenessModels
    config: LivenessConfig
    _tracks: dict[int, _Looks] = field(default_factory=dict)

    on = True

    def look(self, image: Image, sighting: Sighting, /) -> None:
        """Keep the crops of a frame, if they can be judged."""
        looks = self._looks(sighting.track)
        box = sighting.face.box
        looks.unclear = badly_placed((image.shape[0], image.shape[1]), box, self.config)
        if looks.unclear is None:
            crops = self.models.crops(image, box)
            looks.unclear = badly_seen(image, box, crops[0], self.config)
        if looks.unclear is None:
            looks.crops.append(crops)

    def judge(self, track: int, /) -> Judgement:
        """Ask the models about the crops that they have not seen, and judge."""
        looks = self._looks(track)
        if len(looks.values) + len(looks.crops) >= self.config.min_frames:
            while looks.crops:
                looks.values.append(self.models.liveness(looks.crops.popleft()))
        verdict = verdict_of(looks.values, self.models.spec.live_from, self.config)
        mean = float(np.mean(looks.values)) if looks.values else None
        return Judgement(verdict, mean, len(looks.values), looks.unclear)

    def forget(self, track: int, /) -> None:
        """Drop what was kept of a track."""
        self._tracks.pop(track, None)

    def _looks(self, track: int) -> _Looks:
        most = self.config.max_frames
        return self._tracks.setdefault(track, _Looks(deque(maxlen=most), deque(maxlen=most)))
