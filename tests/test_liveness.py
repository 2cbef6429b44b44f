"""Liveness: what the models look at, what cannot be judged, and the decision over a track."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.assembly import open_liveness
from edge.config import LivenessConfig, RecognitionConfig
from edge.errors import ModelError
from edge.recognition.liveness import (
    LivenessModels,
    NoLiveness,
    Throttle,
    TrackLiveness,
    badly_placed,
    badly_seen,
    crop_of,
    noise_of,
    sharpness_of,
    verdict_of,
)
from edge.recognition.liveness_manifest import LivenessSpec, load_liveness
from edge.records import Box, Face, Image, Sighting, Unclear, Verdict

LIMITS = LivenessConfig()
SIZE = (480, 640)
FACE = Box(270, 180, 370, 310)


@pytest.fixture(scope="session")
def spec(live_models: Path) -> LivenessSpec:
    found = load_liveness(live_models)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def models(spec: LivenessSpec) -> LivenessModels:
    return LivenessModels(spec)


def textured(seed: int = 0) -> Image:
    """Sharp, with detail of all sizes, without noise of single pixels."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*SIZE, 3), np.float32)
    for cells in (6, 12, 24, 48):
        coarse = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        picture += np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    return np.clip((picture / 4 - 128) * 2 + 128, 0, 255).astype(np.uint8)


def test_the_crop_is_a_square_around_the_face_of_the_models_own_size(spec: LivenessSpec) -> None:
    model = replace(spec.models[0], crop_widths=3.0, crop_shift=0.0)
    picture = np.zeros((*SIZE, 3), np.uint8)
    x, y = (round(value) for value in FACE.centre)
    picture[y - 150 : y + 150, x - 150 : x + 150] = 200
    crop = crop_of(picture, FACE, model)
    assert crop.shape == (80, 80, 3)
    assert int(crop.min()) == 200
    wider = crop_of(picture, FACE, replace(model, crop_widths=3.1))
    assert int(wider[0].max()) == 0


@given(st.floats(-100, 700), st.floats(-100, 600), st.floats(1, 900), st.floats(0.5, 2), st.floats(-0.5, 0.5))
def test_every_box_gives_a_crop_that_lies_in_the_picture(
    x: float, y: float, width: float, ratio: float, shift: float
) -> None:
    from tests.test_liveness_manifest import a_model  # noqa: PLC0415 - beside its file's own tests

    model = replace(a_model(), crop_widths=4.0, crop_shift=shift)
    picture = np.full((*SIZE, 3), 7, np.uint8)
    crop = crop_of(picture, Box(x, y, x + width, y + ratio * width), model)
    assert (crop.shape, set(crop.ravel().tolist())) == ((80, 80, 3), {7})


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (FACE, None),
        (Box(300, 200, 347, 260), Unclear.TOO_SMALL),
        (Box(300, 200, 348, 260), None),
        (Box(-10, 200, 90, 320), Unclear.AT_EDGE),
        (Box(-4, 200, 96, 320), None),
        (Box(300, 380, 400, 500), Unclear.AT_EDGE),
        (Box(150, 100, 391, 400), Unclear.TOO_CLOSE),
        (Box(150, 100, 389, 400), None),
    ],
)
def test_a_face_must_be_large_enough_whole_and_have_something_around_it(
    box: Box, reason: Unclear | None
) -> None:
    assert badly_placed(SIZE, box, LIMITS) is reason


def test_blur_and_noise_are_seen_whatever_the_light(spec: LivenessSpec) -> None:
    picture = textured()
    model = spec.models[0]

    def reason(image: Image) -> Unclear | None:
        return badly_seen(image, FACE, crop_of(image, FACE, model), LIMITS)

    assert reason(picture) is None
    assert reason(np.asarray(cv2.GaussianBlur(picture, (0, 0), 12), np.uint8)) is Unclear.TOO_BLURRED
    noise = np.random.default_rng(1).normal(0, 20, picture.shape)
    assert reason(np.clip(picture + noise, 0, 255).astype(np.uint8)) is Unclear.TOO_NOISY
    dim = (picture * 0.5).astype(np.uint8)
    assert sharpness_of(crop_of(dim, FACE, model)) == pytest.approx(
        sharpness_of(crop_of(picture, FACE, model)), rel=0.2
    )


def test_the_estimate_of_noise_is_its_standard_deviation() -> None:
    flat = np.full((*SIZE, 3), 128.0)
    grey_noise = np.random.default_rng(2).normal(0, 10, (*SIZE, 1))
    assert noise_of((flat + grey_noise).astype(np.uint8), FACE) == pytest.approx(10, rel=0.1)
    assert noise_of(flat.astype(np.uint8), Box(-30, -30, 20, 20)) == 0, "also at the picture's corner"


@given(st.lists(st.floats(0, 1), max_size=12))
def test_nobody_is_live_or_an_attack_on_fewer_frames_than_it_takes(values: list[float]) -> None:
    verdict = verdict_of(values[-10:], 0.5, LIMITS)
    if len(values) < LIMITS.min_frames:
        assert verdict is Verdict.UNDECIDED
    if verdict is Verdict.LIVE:
        assert np.mean(values[-10:]) >= 0.5
    if verdict is Verdict.ATTACK:
        assert len(values) >= LIMITS.max_frames
        assert np.mean(values[-10:]) < 0.5


def test_a_hand_before_the_face_accuses_nobody() -> None:
    assert verdict_of([0.9, 0.9, 0.0, 0.0, 0.0], 0.5, LIMITS) is Verdict.UNDECIDED
    assert verdict_of([0.9, 0.9, 0.0, 0.0, 0.0, 0.9], 0.5, LIMITS) is Verdict.UNDECIDED
    assert verdict_of([0.9, 0.9, 0.0, 0.0, 0.0, 0.9, 0.9], 0.5, LIMITS) is Verdict.LIVE


def sighting(track: int, box: Box = FACE) -> Sighting:
    return Sighting(track, Face(box, np.zeros((5, 2), np.float32), 0.9), 0)


def test_a_track_is_judged_by_its_own_latest_frames_only(models: LivenessModels) -> None:
    liveness = TrackLiveness(models, LIMITS)
    picture = textured()
    for _ in range(4):
        liveness.look(picture, sighting(1))
        liveness.look(picture, sighting(2))
    assert liveness.judge(1).verdict is Verdict.UNDECIDED
    assert liveness.judge(1).liveness is None, "no model was asked yet"
    liveness.look(picture, sighting(1))
    judged = liveness.judge(1)
    assert judged.frames == 5
    assert judged.liveness == pytest.approx(models.liveness(models.crops(picture, FACE)))
    assert liveness.judge(2).frames == 0
    liveness.forget(1)
    assert liveness.judge(1).frames == 0, "another person starts from nothing"


def test_frames_that_cannot_be_judged_never_count_and_tell_why(models: LivenessModels) -> None:
    liveness = TrackLiveness(models, LIMITS)
    for _ in range(20):
        liveness.look(textured(), sighting(1, Box(300, 200, 340, 250)))
    judged = liveness.judge(1)
    assert (judged.verdict, judged.frames, judged.unclear) == (Verdict.UNDECIDED, 0, Unclear.TOO_SMALL)
    liveness.look(textured(), sighting(1))
    assert liveness.judge(1).unclear is None


def test_without_models_nobody_looks_unless_that_is_required(models_without_liveness: Path) -> None:
    recognition = RecognitionConfig(models_dir=models_without_liveness)
    off = open_liveness(LivenessConfig(), recognition)
    assert not off.on
    off.look(textured(), sighting(1))
    assert off.judge(1).verdict is Verdict.LIVE
    off.forget(1)
    with pytest.raises(
        ModelError, match=r"liveness.required = true: .*liveness.toml is not there; run `make"
    ):
        open_liveness(LivenessConfig(required=True), recognition)


def test_with_models_somebody_looks_unless_that_is_switched_off(live_models: Path) -> None:
    recognition = RecognitionConfig(models_dir=live_models)
    assert open_liveness(LivenessConfig(required=True), recognition).on
    assert isinstance(open_liveness(LivenessConfig(enabled=False), recognition), NoLiveness)


def test_a_description_that_does_not_fit_its_file_stops_the_start(live_models: Path, tmp_path: Path) -> None:
    for file in live_models.glob("*.tflite"):
        (tmp_path / file.name).symlink_to(file.resolve())
    text = (live_models / "liveness.toml").read_text(encoding="utf-8")
    (tmp_path / "liveness.toml").write_text(re.sub("classes = 3", "classes = 4", text), encoding="utf-8")
    found = load_liveness(tmp_path)
    assert found is not None
    with pytest.raises(ModelError, match="gives 3 numbers, not 4"):
        LivenessModels(found)


def test_a_model_of_another_kind_needs_its_description_only(live_models: Path, tmp_path: Path) -> None:
    """Another vendor's: RGB, scaled, its last layer without a softmax, live somewhere else."""
    for file in live_models.glob("*.tflite"):
        (tmp_path / file.name).symlink_to(file.resolve())
    text = (live_models / "liveness.toml").read_text(encoding="utf-8")
    v2 = text[text.index("[models.minifasnet_v2]") : text.index("[models.minifasnet_v1se]")]
    other = (
        v2.replace("minifasnet_v2]", "other]")
        .replace("minifasnet_v2.measured", "other.measured")
        .replace('"BGR"', '"RGB"')
        .replace('{ kind = "none" }', '{ kind = "fixed", mean = 127.5, divisor = 128 }')
        .replace('activation = "softmax"', 'activation = "none"')
        .replace("live_class = 1", "live_class = 0")
    )
    listed = text.replace(
        'models = ["minifasnet_v2", "minifasnet_v1se"]', 'models = ["minifasnet_v1se", "other"]'
    )
    (tmp_path / "liveness.toml").write_text(f"{listed}\n{other}", encoding="utf-8")
    found = load_liveness(tmp_path)
    assert found is not None
    models = LivenessModels(found)
    assert 0 < models.liveness(models.crops(textured(), FACE)) < 1


def test_attacks_are_let_through_once_in_a_while_or_never() -> None:
    throttle = Throttle(10_000)
    assert [throttle.admits(at_ms) for at_ms in (0, 1, 9_999, 10_000, 15_000, 20_000)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    assert not Throttle(None).admits(0)
