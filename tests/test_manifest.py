"""The manifest: strict about what it reads, and the embedder's id and thresholds."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ModelError
from edge.recognition import manifest as manifest_module
from edge.recognition.manifest import (
    EmbedderSpec,
    Measured,
    Normalisation,
    Source,
    VectorModelSpec,
    load_manifest,
)
from edge.recognition.thresholds import Thresholds

INSTALLED = load_manifest()
TEXT = (INSTALLED.folder / "manifest.toml").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    (folder / "manifest.toml").write_text(text, encoding="utf-8")
    return folder


def with_change(pattern: str, replacement: str) -> str:
    """The installed manifest with the first match replaced."""
    text, count = re.subn(pattern, lambda _: replacement, TEXT, count=1)
    assert count == 1, pattern
    return text


def test_the_installed_manifest_has_the_three_embedders() -> None:
    assert sorted(INSTALLED.embedders) == ["facenet", "facenet+sface", "sface"]
    assert INSTALLED.embedder() is INSTALLED.embedder("facenet+sface")
    fused = INSTALLED.embedder()
    assert fused.weights == pytest.approx((0.2, 0.8))
    assert fused.dimensions == sum(model.dimensions for model in fused.models)
    assert all(embedder.detector.kind == "detector" for embedder in INSTALLED.embedders.values())


def test_a_folder_given_by_hand_is_read_instead_of_the_installed_one(tmp_path: Path) -> None:
    other = load_manifest(written(tmp_path, TEXT))
    assert other.folder == tmp_path
    assert other.embedder().id == INSTALLED.embedder().id


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r"schema = 1", "schema = 2", r"schema = 2; allowed: 1"),
        (r"schema = 1", "schema = true", r"schema = True; allowed: 1"),
        (r'default_embedder = "[^"]*"', 'default_embedder = "x"', r"'x'; allowed: one of facenet, "),
        (r"schema = 1", "schema = 1\nnew = 3", r"new = 3; allowed: no such key here; known: .*schema"),
        (r"crop_px = 160", "crop_px = 161", r"models.facenet.crop_px = 161; allowed: the height and width"),
        (r"crop_px = 160", 'crop_px = "160"', r"models.facenet.crop_px = '160'"),
        (
            r"fusion_weight = 0.2",
            "fusion_weight = 0",
            r"fusion_weight = 0; allowed: a number from 0.001 to 1",
        ),
        (r"centre = \[\s+[\d.]+", "centre = [9.5", r"centre = \[9\.5, .*allowed: 128 numbers from -1 to 1"),
        (r"centre = \[\s+[\d.]+,", "centre = [", r"allowed: 128 numbers from -1 to 1, together shorter"),
        (r"fusion_weight = 0.2", "fusion_weight = nan", r"fusion_weight = nan"),
        (r"fusion_weight = 0.2", "", r"models.facenet.fusion_weight is missing"),
        (
            r'colour_order = "RGB"',
            'colour_order = "GBR"',
            r"colour_order = 'GBR'; allowed: \"RGB\" or \"BGR\"",
        ),
        (
            r"\[1, 160, 160, 3\]",
            "[1, 160, 160, 1]",
            r"input_shape = \[1, 160, 160, 1\]; allowed: \[1, height",
        ),
        (r"\[1, 160, 160, 3\]", "[2, 160, 160, 3]", r"input_shape"),
        (r'kind = "per-image"', 'kind = "per-image", mean = 3', r"models.facenet.normalisation.mean = 3"),
        (
            r'kind = "per-image"',
            'kind = "fixed", mean = 3',
            r"models.facenet.normalisation.divisor is missing",
        ),
        (
            r"\[53.39, 56.46\]",
            "[53.39, 252.73]",
            r"models.facenet.alignment.points = .*allowed: five \[x, y\]",
        ),
        (r"\[53.39, 56.46\], ", "", r"models.facenet.alignment.points"),
        (
            r'file = "facenet_int8',
            'file = "../facenet_int8',
            r"models.facenet.file = '../facenet_int8.tflite'",
        ),
        (r'sha256 = "[0-9a-f]', 'sha256 = "G', r"models.facenet.sha256 = 'G.*64 lower-case hex"),
        (
            r"dimensions = \d+",
            "dimensions = 12.5",
            r"models.facenet.dimensions = 12.5; allowed: a whole number",
        ),
        (r"dimensions = \d+", "dimensions = true", r"models.facenet.dimensions = True"),
        (
            r'licence = "MIT"',
            'licence = " "',
            r"models.facenet.licence = ' '; allowed: a text that is not empty",
        ),
        (r'detector = "yunet', 'detector = "unet', r"detector = 'unet_256x320'; allowed: .*yunet_256x320"),
        (r'refiner = "yunet', 'refiner = "unet', r"refiner = 'unet_160x160'; allowed: .*yunet_160x160"),
        (r'models = \["facenet", "sface"\]', 'models = ["sface", "sface"]', r"each once, of: facenet, sface"),
        (r'models = \["facenet", "sface"\]', "models = []", r"models = \[\]; allowed: a list"),
        (r"enrolled = \[\d+, ", "enrolled = [1000000, ", r"enrolled = .*rising"),
        (r"similarity = \[[\d.]+, ", "similarity = [1.5, ", r"similarity = \[1.5, .*from -1 to 1"),
        (r"similarity = \[[\d.]+, ", "similarity = [0.99, ", r"none lower than the one before"),
        (r"similarity = \[[\d.]+, ", "similarity = [", r"similarity"),
        (
            r"fpir_target = [\d.]+",
            "fpir_target = 3",
            r"fpir_target = 3; allowed: a number from 0.0001 to 0.5",
        ),
    ],
)
def test_a_wrong_entry_is_refused_with_file_key_value_and_what_is_allowed(
    tmp_path: Path, pattern: str, replacement: str, complaint: str
) -> None:
    folder = written(tmp_path, with_change(pattern, replacement))
    with pytest.raises(ModelError, match=complaint) as refusal:
        load_manifest(folder)
    assert str(tmp_path / "manifest.toml") in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("schema = ", "not TOML"),
        ("", "schema is missing"),
        ("schema = 1\ndefault_embedder = 'x'", "models is missing"),
    ],
)
def test_a_manifest_cut_short_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        load_manifest(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="not TOML"):
        load_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest.toml: cannot be read .*name the folder"):
        load_manifest(tmp_path)


def test_an_unknown_embedder_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ModelError, match=r'no embedder "arcface"; there are: facenet, facenet\+sface, sface'):
        INSTALLED.embedder("arcface")


def changed(spec: EmbedderSpec, model: int, **values: object) -> EmbedderSpec:
    """The embedder with some fields of one of its models replaced."""
    models = list(spec.models)
    models[model] = dataclasses.replace(models[model], **values)  # type: ignore[arg-type]
    return dataclasses.replace(spec, models=tuple(models))


def moved(spec: VectorModelSpec) -> object:
    (x, y), *rest = spec.alignment.points
    return dataclasses.replace(spec.alignment, points=((x + 0.01, y), *rest))


FUSED = INSTALLED.embedder("facenet+sface")
FACENET = FUSED.models[0]


@pytest.mark.parametrize(
    "other",
    [
        changed(FUSED, 0, sha256="0" * 64),
        changed(FUSED, 1, sha256="0" * 64),
        changed(FUSED, 0, dimensions=512),
        changed(FUSED, 0, alignment=moved(FACENET)),
        changed(FUSED, 0, alignment=dataclasses.replace(FACENET.alignment, crop_px=161)),
        changed(FUSED, 0, normalisation=Normalisation("fixed", 127.5, 128)),
        changed(FUSED, 0, normalisation=Normalisation("fixed", 127.5, 127.5)),
        changed(FUSED, 0, colour_order="BGR"),
        changed(FUSED, 0, fusion_weight=0.21),
        dataclasses.replace(FUSED, detector=dataclasses.replace(FUSED.detector, sha256="0" * 64)),
        dataclasses.replace(FUSED, refiner=dataclasses.replace(FUSED.refiner, sha256="0" * 64)),
        dataclasses.replace(FUSED, models=FUSED.models[::-1]),
        dataclasses.replace(FUSED, models=FUSED.models[:1]),
    ],
    ids=[
        "model file",
        "other model file",
        "dimensions",
        "template",
        "crop size",
        "normalisation",
        "its parameter",
        "colours",
        "weight",
        "detector",
        "refiner",
        "order",
        "one model",
    ],
)
def test_whatever_shapes_a_vector_changes_the_embedder_id(other: EmbedderSpec) -> None:
    assert other.id != FUSED.id


@pytest.mark.parametrize(
    "other",
    [
        changed(FUSED, 0, licence="other"),
        changed(FUSED, 0, trained_on="other"),
        changed(FUSED, 0, output="other"),
        changed(FUSED, 0, file="other.tflite"),
        changed(FUSED, 0, source=Source("a", "b", "c", "0" * 64)),
        changed(FUSED, 0, measured=Measured("other")),
        changed(FUSED, 0, alignment=dataclasses.replace(FACENET.alignment, name="other")),
        dataclasses.replace(FUSED, name="other"),
        dataclasses.replace(FUSED, measured=Measured("other")),
        dataclasses.replace(FUSED, thresholds=Thresholds(0.01, (1,), (0.1,), "other")),
    ],
    ids=[
        "licence",
        "training data",
        "description",
        "file name",
        "source",
        "model figures",
        "template name",
        "name",
        "figures",
        "thresholds",
    ],
)
def test_what_does_not_shape_a_vector_leaves_the_embedder_id_alone(other: EmbedderSpec) -> None:
    assert other.id == FUSED.id


def test_weights_count_only_in_proportion() -> None:
    single = INSTALLED.embedder("facenet")
    assert changed(single, 0, fusion_weight=0.9).id == single.id


def test_code_that_makes_other_vectors_can_change_every_embedder_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FUSED.id
    monkeypatch.setattr(manifest_module, "VECTOR_CODE", manifest_module.VECTOR_CODE + 1)
    assert before != FUSED.id


def test_the_embedder_id_is_the_sha256_of_canonical_json() -> None:
    assert re.fullmatch("[0-9a-f]{64}", FUSED.id)
    assert len({embedder.id for embedder in INSTALLED.embedders.values()}) == 3


def with_thresholds(enrolled: tuple[int, ...], similarity: tuple[float, ...]) -> EmbedderSpec:
    return dataclasses.replace(FUSED, thresholds=Thresholds(0.003, enrolled, similarity, "this test"))


def test_thresholds_are_linear_in_the_logarithm_of_the_number_enrolled() -> None:
    spec = with_thresholds((10, 1000), (0.4, 0.6))
    assert [spec.threshold(n) for n in (10, 100, 1000)] == pytest.approx([0.4, 0.5, 0.6])
    assert spec.threshold(30) == pytest.approx(0.4 + 0.1 * math.log10(3))


@pytest.mark.parametrize("enrolled", [0, 1, 9, 10])
def test_below_the_smallest_measured_size_its_threshold_holds(enrolled: int) -> None:
    assert with_thresholds((10, 1000), (0.4, 0.6)).threshold(enrolled) == 0.4


def test_above_the_largest_measured_size_the_threshold_goes_on_rising() -> None:
    spec = with_thresholds((10, 100, 1000), (0.4, 0.5, 0.52))
    assert spec.threshold(10_000) == pytest.approx(0.54)


def test_one_measured_size_serves_all() -> None:
    assert with_thresholds((100,), (0.5,)).threshold(100_000) == 0.5


@given(
    st.lists(st.tuples(st.integers(1, 9999), st.floats(-1, 1)), min_size=1, max_size=6),
    st.integers(0, 99_999),
)
def test_one_more_person_never_lowers_the_threshold(points: list[tuple[int, float]], enrolled: int) -> None:
    sizes = tuple(sorted({size for size, _ in points}))
    values = tuple(sorted(value for _, value in points)[: len(sizes)])
    spec = with_thresholds(sizes, values)
    assert spec.threshold(enrolled + 1) >= spec.threshold(enrolled) - 1e-12
    assert spec.threshold(enrolled) >= values[0]


def test_a_smaller_share_of_strangers_counts_as_more_people_enrolled() -> None:
    spec = with_thresholds((10, 100, 1000), (0.4, 0.5, 0.65))
    assert spec.threshold(100, 0.003) == spec.threshold(100) == pytest.approx(0.5)
    assert spec.threshold(100, 0.0003) == pytest.approx(spec.threshold(1000))
    assert spec.threshold(100, 0.03) == pytest.approx(spec.threshold(10))
    assert spec.threshold(10, 0.03) == pytest.approx(0.3), "below the smallest size the first slope goes on"
    assert spec.threshold(1, 0.03) == spec.threshold(10, 0.03)


@given(share=st.floats(0.0001, 0.5), enrolled=st.integers(1, 100_000))
def test_any_share_gives_a_similarity_and_a_larger_one_never_a_stricter(share: float, enrolled: int) -> None:
    spec = with_thresholds((10, 100, 1000), (0.4, 0.5, 0.65))
    assert -1 <= spec.threshold(enrolled, 0.5) <= spec.threshold(enrolled, share) + 1e-12
    assert spec.threshold(enrolled, share) <= spec.threshold(enrolled, 0.0001) + 1e-12 <= 1 + 1e-12
