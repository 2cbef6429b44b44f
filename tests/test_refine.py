"""The second look: sharper keypoints, or those of the first."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from demo.people import sample_people
from edge.errors import BadImage, ModelError
from edge.recognition.align import similarity_transform
from edge.recognition.detect import Detector
from edge.recognition.manifest import load_manifest
from edge.recognition.refine import MIRRORED, Refiner, mirrored, surest_in_the_middle, upright
from edge.records import Image, Points

MANIFEST = load_manifest()
SPEC = MANIFEST.embedder().refiner


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return Refiner(SPEC, MANIFEST.folder)


@pytest.fixture(scope="module")
def portrait() -> tuple[Image, Points]:
    image = np.asarray(cv2.imread(str(sample_people()["P44"][0])), np.uint8)
    return image, Detector(MANIFEST).detect(image)[0].keypoints


def eyes_px(points: Points) -> float:
    return float(np.hypot(*(points[1] - points[0])))


def off(points: Points, truth: Points) -> float:
    """Mean distance in eye distances."""
    return float(np.hypot(*(points - truth).T).mean()) / eyes_px(truth)


def test_keypoints_that_are_off_come_nearer(refiner: Refiner, portrait: tuple[Image, Points]) -> None:
    image, keypoints = portrait
    truth = refiner.refine(image, keypoints)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.1, (20, *truth.shape)) * eyes_px(truth)
    guesses = [(truth + each).astype(np.float32) for each in noise]
    before = np.mean([off(guess, truth) for guess in guesses])
    after = np.mean([off(refiner.refine(image, guess), truth) for guess in guesses])
    assert after < before / 2


def test_the_mirror_image_of_a_picture_has_the_mirrored_keypoints(
    refiner: Refiner, portrait: tuple[Image, Points]
) -> None:
    image, keypoints = portrait
    seen = refiner.refine(image, keypoints)
    width = image.shape[1]
    flipped = np.ascontiguousarray(image[:, ::-1])
    guess = mirrored(keypoints, width)
    assert guess is not None
    assert refiner.refine(flipped, guess) == pytest.approx(mirrored(seen, width), abs=0.05 * eyes_px(seen))


@pytest.mark.parametrize("angle", [-30, 30, 90])
def test_a_turned_face_is_looked_at_upright(
    angle: float, refiner: Refiner, portrait: tuple[Image, Points]
) -> None:
    image, keypoints = portrait
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    turned = np.asarray(cv2.warpAffine(image, turn, (width, height)), np.uint8)
    there = (np.column_stack([keypoints, np.ones(5)]) @ turn.T).astype(np.float32)
    expected = np.column_stack([refiner.refine(image, keypoints), np.ones(5)]) @ turn.T
    assert off(refiner.refine(turned, there), expected.astype(np.float32)) < 0.06


def test_where_no_face_is_seen_again_the_first_look_stands(refiner: Refiner) -> None:
    keypoints = np.array(upright(160), np.float32) + np.float32(40)
    assert refiner.refine(np.full((240, 240, 3), 90, np.uint8), keypoints) is keypoints


def test_keypoints_that_show_no_face_are_a_bad_image(refiner: Refiner) -> None:
    with pytest.raises(BadImage):
        refiner.refine(np.zeros((100, 100, 3), np.uint8), np.zeros((5, 2), np.float32))


def test_the_surest_face_near_the_middle_is_taken_and_a_neighbour_never() -> None:
    def candidate(confidence: float, x: float, y: float, mark: float) -> list[float]:
        return [confidence, x - 20, y - 20, x + 20, y + 20, *[mark] * 10]

    neighbour, middle, other = (
        candidate(0.9, 150, 80, 1),
        candidate(0.8, 90, 80, 2),
        candidate(0.7, 80, 80, 3),
    )
    found = surest_in_the_middle(np.array([neighbour, middle, other], np.float32), 160)
    assert found is not None
    assert (found == 2).all()
    assert surest_in_the_middle(np.array([neighbour], np.float32), 160) is None
    assert surest_in_the_middle(np.zeros((0, 15), np.float32), 160) is None


def test_mirroring_twice_changes_nothing_and_exchanges_left_and_right_once() -> None:
    points = np.random.default_rng(1).uniform(0, 160, (5, 2)).astype(np.float32)
    once = mirrored(points, 160)
    assert once is not None
    assert once[0] == pytest.approx([159 - points[1, 0], points[1, 1]])
    assert mirrored(once, 160) == pytest.approx(points, abs=1e-4)
    assert sorted(MIRRORED) == [0, 1, 2, 3, 4]


def test_an_upright_face_keeps_its_proportions() -> None:
    transform = similarity_transform(np.array(upright(160), np.float32), upright(320))
    assert transform[:, :2] == pytest.approx(np.eye(2), abs=1e-5)


def test_an_input_that_is_not_square_is_refused() -> None:
    with pytest.raises(ModelError, match="320x256; a second look needs a square input"):
        Refiner(MANIFEST.model("yunet_256x320"), MANIFEST.folder)
    broken = dataclasses.replace(SPEC, sha256="0" * 64)
    with pytest.raises(ModelError, match="is damaged or of another version"):
        Refiner(broken, MANIFEST.folder)
