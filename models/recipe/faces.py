"""The photographs of the recipe, as the daemon sees them: found, aligned and normalised."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.recognition.align import crop
from edge.recognition.detect import Detector
from edge.recognition.embed import normalised_levels
from edge.recognition.manifest import VectorModelSpec


def largest_face_crops(paths: list[Path], detector: Detector, spec: VectorModelSpec) -> list[np.ndarray]:
    """What the network is given for each photograph: (1, height, width, 3) float32.

    A photograph without a face is left out.
    """
    crops = []
    for path in paths:
        image = cv2.imread(str(path))
        faces = detector.detect(image)
        if not faces:
            continue
        face = max(faces, key=lambda face: face.box.width_px)
        picture = crop(image, face.keypoints, spec.alignment.points, spec.alignment.crop_px)
        if spec.colour_order == "RGB":
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        crops.append(normalised_levels(picture, spec.normalisation)[picture][np.newaxis])
    return crops
