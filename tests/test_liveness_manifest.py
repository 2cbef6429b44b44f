"""`liveness.toml`: read as strictly as the manifest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.errors import ModelError
from edge.recognition.liveness_manifest import LivenessModelSpec, load_liveness
from edge.recognition.manifest import Measured, Normalisation, Source


def a_model() -> LivenessModelSpec:
    return LivenessModelSpec(
        key="any",
        kind="liveness",
        file="any.tflite",
        sha256="0" * 64,
        input_shape=(1, 80, 80, 3),
        dtype="float32",
        colour_order="BGR",
        normalisation=Normalisation("none"),
        output="softmax",
        licence="none",
        trained_on="nothing",
        source=Source("a", "b", "c", "0" * 64),
        measured=Measured("make liveness"),
        crop_widths=3.0,
        crop_shift=0.0,
        classes=3,
        live_class=1,
        activation="softmax",
    )


def test_where_nobody_made_the_models_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert load_liveness(tmp_path) is None


def test_what_make_liveness_writes_is_read(live_models: Path) -> None:
    spec = load_liveness(live_models)
    assert spec is not None
    assert [model.key for model in spec.models] == ["minifasnet_v2", "minifasnet_v1se"]
    assert {model.live_class for model in spec.models} == {1}
    assert all(model.normalisation.kind == "none" for model in spec.models)


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        ("schema = 1", "schema = 2", "schema = 2; allowed: 1"),
        ("schema = 1", "schema = 1\nmore = 1", "more = 1; allowed: no such key here"),
        ('kind = "liveness"', 'kind = "embedder"', "kind = 'embedder'; allowed: \"liveness\""),
        ("classes = 3", "classes = 1", "classes = 1; allowed: a whole number from 2"),
        ("live_class = 1", "live_class = 3", "live_class = 3; allowed: a whole number from 0 to 2"),
        ("crop_widths = [0-9.]+", "crop_widths = 0.5", "crop_widths = 0.5; allowed: a number from 1 to 10"),
        ("live_from = [0-9.]+", "live_from = 1.5", "live_from = 1.5; allowed: a number from 0 to 1"),
        ("live_from = [0-9.]+", "", "liveness.live_from is missing"),
        (r'models = \["minifasnet_v2"', 'models = ["x"', r"liveness.models = \['x'"),
        (r"models = \[.*\]", "models = []", r"liveness.models = \[\]; allowed: a list, each once"),
        ('activation = "softmax"', 'activation = "relu"', "activation = 'relu'"),
    ],
)
def test_what_is_not_as_expected_stops_the_start_with_the_place(
    live_models: Path, tmp_path: Path, pattern: str, replacement: str, complaint: str
) -> None:
    text = (live_models / "liveness.toml").read_text(encoding="utf-8")
    changed, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1
    (tmp_path / "liveness.toml").write_text(changed, encoding="utf-8")
    with pytest.raises(ModelError, match=complaint):
        load_liveness(tmp_path)
