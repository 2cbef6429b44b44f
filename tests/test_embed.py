"""Embedding: crops in, one unit vector out, or an error."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from demo.people import sample_people
from edge.errors import BadImage, ModelError
from edge.recognition.detect import Detector
from edge.recognition.embed import Embedder, normalised_levels, unit
from edge.recognition.manifest import Normalisation, load_manifest
from edge.records import Box, Face, Image, Vector

MANIFEST = load_manifest()
NAMES = ("facenet", "facenet+sface", "sface")


@pytest.fixture(scope="module")
def embedders() -> dict[str, Embedder]:
    return {name: Embedder(MANIFEST.embedder(name), MANIFEST.folder) for name in NAMES}


@pytest.fixture(scope="module")
def people() -> dict[str, list[tuple[Image, Face]]]:
    """Each sample person's photographs with the face in them."""
    detector = Detector(MANIFEST)
    found: dict[str, list[tuple[Image, Face]]] = {}
    for who, paths in sample_people().items():
        for path in paths:
            image = np.asarray(cv2.imread(str(path)), np.uint8)
            found.setdefault(who, []).append((image, detector.detect(image)[0]))
    return found


def vector_of(embedder: Embedder, photograph: tuple[Image, Face]) -> Vector:
    return embedder.embed(embedder.crops(*photograph))


@pytest.mark.parametrize("name", NAMES)
def test_a_face_becomes_one_unit_vector(
    name: str, embedders: dict[str, Embedder], people: dict[str, list[tuple[Image, Face]]]
) -> None:
    embedder = embedders[name]
    vector = vector_of(embedder, people["P44"][0])
    assert vector.shape == (embedder.dimensions,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert embedder.id == MANIFEST.embedder(name).id


@pytest.mark.parametrize("name", NAMES)
def test_photographs_of_one_person_are_more_alike_than_of_two(
    name: str, embedders: dict[str, Embedder], people: dict[str, list[tuple[Image, Face]]]
) -> None:
    same = [vector_of(embedders[name], photograph) for photograph in people["P44"]]
    other = vector_of(embedders[name], people["P46"][0])
    alike = min(float(one @ two) for i, one in enumerate(same) for two in same[:i])
    assert alike > max(float(one @ other) for one in same) + 0.2


def test_the_fused_cosine_is_the_weighted_mean_of_the_models_cosines(
    embedders: dict[str, Embedder], people: dict[str, list[tuple[Image, Face]]]
) -> None:
    pairs = {name: [vector_of(embedders[name], people[who][0]) for who in ("P44", "P46")] for name in NAMES}
    cosines = {name: float(one @ two) for name, (one, two) in pairs.items()}
    first, second = MANIFEST.embedder("facenet+sface").weights
    assert cosines["facenet+sface"] == pytest.approx(
        first * cosines["facenet"] + second * cosines["sface"], abs=1e-5
    )


def test_crops_have_the_size_that_each_model_takes(
    embedders: dict[str, Embedder], people: dict[str, list[tuple[Image, Face]]]
) -> None:
    crops = embedders["facenet+sface"].crops(*people["P44"][0])
    assert [crop.shape for crop in crops] == [(160, 160, 3), (112, 112, 3)]
    assert all(crop.dtype == np.uint8 for crop in crops)


@pytest.mark.parametrize("name", NAMES)
def test_size_of_the_face_in_the_picture_hardly_matters(
    name: str, embedders: dict[str, Embedder], people: dict[str, list[tuple[Image, Face]]]
) -> None:
    image, face = people["P44"][0]
    small = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    smaller = Face(face.box, face.keypoints / np.float32(2), face.confidence)
    large, half = vector_of(embedders[name], (image, face)), vector_of(embedders[name], (small, smaller))
    assert float(large @ half) > 0.97


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_crop_without_any_contrast_gives_a_finite_vector(
    name: str, grey: int, embedders: dict[str, Embedder]
) -> None:
    sides = [model.alignment.crop_px for model in embedders[name].spec.models]
    vector = embedders[name].embed(tuple(np.full((side, side, 3), grey, np.uint8) for side in sides))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_the_same_crops_give_the_same_vector(
    embedders: dict[str, Embedder], people: dict[str, list[tuple[Image, Face]]]
) -> None:
    crops = embedders["facenet+sface"].crops(*people["P46"][0])
    one, two = (embedders["facenet+sface"].embed(crops) for _ in range(2))
    assert np.array_equal(one, two)


def test_keypoints_that_coincide_are_a_bad_image(embedders: dict[str, Embedder]) -> None:
    face = Face(Box(0, 0, 10, 10), np.zeros((5, 2), np.float32), 0.9)
    with pytest.raises(BadImage):
        embedders["sface"].crops(np.zeros((100, 100, 3), np.uint8), face)


@pytest.mark.parametrize(
    "values",
    [[np.nan, 1, 0], [np.inf, 1, 0], [0, 0, 0], [1e-9, 0, 0]],
    ids=["nan", "infinite", "zero", "almost zero"],
)
def test_a_vector_without_a_direction_is_an_error(values: list[float]) -> None:
    with pytest.raises(ModelError, match="facenet: gave a vector of length"):
        unit(np.array(values, np.float32), "facenet")


def test_a_model_that_gives_nonsense_is_an_error_and_never_a_vector(
    embedders: dict[str, Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = embedders["sface"]
    (network,) = embedder._networks
    monkeypatch.setattr(network, "run", lambda _: np.full((1, 128), np.nan, np.float32))
    with pytest.raises(ModelError, match="sface: gave a vector of length nan"):
        embedder.embed((np.zeros((112, 112, 3), np.uint8),))


def test_per_image_normalisation_is_that_of_facenets_authors() -> None:
    picture = np.random.default_rng(5).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    values = picture.astype(np.float64)
    expected = (values - values.mean()) / max(values.std(), 1 / np.sqrt(values.size))
    found = normalised_levels(picture, Normalisation("per-image"))[picture]
    assert np.abs(found - expected).max() < 1e-5


def test_fixed_normalisation_subtracts_and_divides() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    levels = normalised_levels(picture, Normalisation("fixed", 127.5, 128.0))
    assert levels[[0, 255]] == pytest.approx([-127.5 / 128, 127.5 / 128])
    assert np.array_equal(normalised_levels(picture, Normalisation("none")), np.arange(256))


def test_a_centre_is_taken_from_every_vector_before_vectors_are_compared(
    people: dict[str, list[tuple[Image, Face]]],
) -> None:
    spec = MANIFEST.embedder("sface")
    bare = replace(spec, models=(replace(spec.models[0], centre=()),))
    photograph = people["P44"][0]
    raw = vector_of(Embedder(bare, MANIFEST.folder), photograph)
    centre = tuple(0.3 * raw[::-1].astype(float))
    centred = Embedder(replace(bare, models=(replace(bare.models[0], centre=centre),)), MANIFEST.folder)
    expected = raw - np.array(centre, np.float32)
    assert vector_of(centred, photograph) == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert centred.id != bare.id
