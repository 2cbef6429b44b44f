"""The model files as they are committed: whole, described, and faithful to the float networks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.people import sample_people
from edge.evaluate.centre import without_centres
from edge.recognition.align import crop
from edge.recognition.detect import Detector
from edge.recognition.embed import Embedder
from edge.recognition.liveness_manifest import load_liveness
from edge.recognition.manifest import ModelSpec, load_manifest

MANIFEST = load_manifest()
REFERENCE: dict[str, dict[str, list[float]]] = json.loads(
    (Path(__file__).parent / "data" / "models" / "reference_vectors.json").read_text(encoding="ascii")
)
"""Unit vectors of the float networks, by model and photograph; `make models` writes them."""

LEAST_COSINE = 0.995


@pytest.mark.parametrize("spec", MANIFEST.models.values(), ids=MANIFEST.models.keys())
def test_every_committed_file_has_the_hash_that_the_manifest_says(spec: ModelSpec) -> None:
    content = (MANIFEST.folder / spec.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == spec.sha256


def test_there_is_no_model_file_that_the_manifest_does_not_describe() -> None:
    files = {path.name for path in MANIFEST.folder.glob("*.tflite")}
    made = load_liveness()
    assert files == {spec.file for spec in (*MANIFEST.models.values(), *(made.models if made else ()))}


@pytest.mark.parametrize("spec", MANIFEST.models.values(), ids=MANIFEST.models.keys())
def test_every_model_tells_how_faithful_it_is(spec: ModelSpec) -> None:
    measured = spec.measured
    if spec.kind == "embedder":
        assert measured.cosine_mean is not None
        assert measured.cosine_mean > LEAST_COSINE
        assert measured.cosine_min is not None
    else:
        assert measured.deviation_max is not None
        assert measured.deviation_max < 1e-4


@pytest.mark.parametrize("key", ["facenet", "sface"])
def test_the_quantized_model_agrees_with_the_float_network(key: str) -> None:
    # Without a centre: the float vectors have none.
    embedder = Embedder(without_centres(MANIFEST.embedder(key)), MANIFEST.folder)
    detector = Detector(MANIFEST)
    photographs = {f"{who}/{path.name}": path for who, paths in sample_people().items() for path in paths}
    assert sorted(photographs) == sorted(REFERENCE[key])
    for name, path in photographs.items():
        image = np.asarray(cv2.imread(str(path)), np.uint8)
        face = max(detector.detect(image), key=lambda face: face.box.width_px)
        # Cut as the recipe cuts, so that only the networks differ.
        to = embedder.spec.models[0].alignment
        found = embedder.embed((crop(image, face.keypoints, to.points, to.crop_px),))
        assert float(found @ np.array(REFERENCE[key][name], np.float32)) >= LEAST_COSINE, name


@pytest.mark.parametrize("key", ["facenet", "sface"])
def test_the_reference_vectors_tell_people_apart(key: str) -> None:
    """Or agreement with them would prove nothing."""
    first, second, third, other = (np.array(REFERENCE[key][name]) for name in sorted(REFERENCE[key]))
    assert [np.linalg.norm(vector) for vector in (first, second, third, other)] == pytest.approx([1] * 4)
    assert min(first @ second, first @ third, second @ third) > max(v @ other for v in (first, second, third))


def test_the_model_card_names_every_file() -> None:
    card = (MANIFEST.folder / "README.md").read_text(encoding="utf-8")
    assert all(spec.file in card for spec in MANIFEST.models.values())
