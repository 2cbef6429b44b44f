"""Turns a face into the one unit vector that stands for it.

One class for every embedder of the manifest: one model or several, whose unit vectors are
centred (the mean of many people's is taken away, and they are made unit vectors again),
weighted by the root of their share and joined, so that the cosine of two joined vectors is
the weighted mean of the models' own cosines.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.recognition.align import crop
from edge.recognition.manifest import EmbedderSpec, Normalisation
from edge.recognition.refine import Refiner
from edge.recognition.tflite import Network
from edge.records import Face, Image, Vector

SHORTEST = 1e-6
"""A model's raw vector shorter than this has no direction to speak of (real ones are 5 to 30 long). Set."""

LEVELS = np.arange(256, dtype=np.float32)
"""All grey levels of 8 bits, normalised once instead of pixel by pixel."""


class Embedder:
    """The loaded models of one embedder. Not safe for use by two threads at once.

    Raises ModelError where a file is missing, damaged or does not fit the manifest.
    """

    def __init__(self, spec: EmbedderSpec, folder: Path, threads: int = 1) -> None:
        self.spec = spec
        self.id = spec.id
        self.dimensions = spec.dimensions
        self._refiner = Refiner(spec.refiner, folder, threads)
        self._networks = tuple(Network(model, folder, threads) for model in spec.models)
        self._centres = tuple(np.array(model.centre or (0.0,), np.float32) for model in spec.models)

    def crops(self, image: Image, face: Face) -> tuple[Image, ...]:
        """The aligned crop for each model, (crop_px, crop_px, 3) uint8, BGR, after a second look at the face.

        Raises BadImage where the keypoints show no face.
        """
        keypoints = self._refiner.refine(image, face.keypoints)
        alignments = (model.alignment for model in self.spec.models)
        return tuple(crop(image, keypoints, to.points, to.crop_px) for to in alignments)

    def embed(self, crops: tuple[Image, ...]) -> Vector:
        """The unit vector of one face, (dimensions,) float32, from what `crops` gave.

        Raises ModelError where a model gives no finite direction: a crop is bytes, so the
        fault is then the model's and not the picture's.
        """
        vectors = map(_embedded, self._networks, crops)
        centred = (vector - centre for vector, centre in zip(vectors, self._centres, strict=True))
        parts = [
            unit(vector, model.key) * np.float32(weight**0.5)
            for vector, model, weight in zip(centred, self.spec.models, self.spec.weights, strict=True)
        ]
        return unit(np.concatenate(parts), self.spec.name)


def _embedded(network: Network, picture: Image) -> Vector:
    spec = network.spec
    if spec.colour_order == "RGB":
        picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
    # All values of a crop are changed alike, so 256 of them are computed and the rest looked up.
    table = network.quantise(normalised_levels(picture, spec.normalisation))
    return unit(network.run(table[picture][np.newaxis]).ravel(), spec.key)


def normalised_levels(picture: Image, normalisation: Normalisation) -> NDArray[np.float32]:
    """What each of the 256 byte values becomes in this picture, (256,) float32."""
    mean, divisor = normalisation.mean, normalisation.divisor
    if normalisation.kind == "per-image":
        means, deviations = cv2.meanStdDev(picture.reshape(len(picture), -1))
        mean, divisor = float(means[0, 0]), max(float(deviations[0, 0]), picture.size**-0.5)
    return (LEVELS - np.float32(mean)) / np.float32(divisor)


def unit(values: NDArray[np.float32], what: str) -> Vector:
    """Values divided by their length. Raises ModelError where that is not finite, or nothing."""
    length = float(np.linalg.norm(values))
    if not SHORTEST < length < np.inf:
        raise ModelError(f"{what}: gave a vector of length {length:g}; its file or the interpreter is broken")
    return (values / np.float32(length)).astype(np.float32, copy=False)
