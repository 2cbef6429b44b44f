"""Detection: what may become a face, and where it then lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from demo.people import sample_people
from edge.errors import BadImage, ModelError
from edge.recognition import detect as detect_module
from edge.recognition.detect import (
    COLUMNS,
    CONFIRMED,
    MAX_CLOSER_LOOKS,
    MAX_FACES,
    STRIDES,
    Detector,
    decode,
    fit_into,
    suppress,
    to_faces,
)
from edge.recognition.detect import (
    overlap as box_overlap,
)
from edge.recognition.manifest import load_manifest
from edge.records import Box, Face, Image

SIDE = 64
CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)


def quiet_rows() -> np.ndarray:
    """A model output in which no cell sees a face."""
    return np.zeros((CELLS, COLUMNS), np.float32)


def face_row(
    confidence: float, offset: tuple[float, float] = (0, 0), log_size: tuple[float, float] = (1, 1)
) -> list[float]:
    return [confidence, confidence, *offset, *log_size, *[0.5, 0.5] * 5]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(load_manifest())


@pytest.fixture(scope="module")
def portrait() -> Image:
    """A portrait, shrunk to 320 px high, with its one face about 90 px high."""
    image = cv2.imread(str(sample_people()["P44"][0]))
    assert image is not None
    return np.asarray(cv2.resize(image, (256, 320), interpolation=cv2.INTER_AREA), np.uint8)


def on_canvas(picture: Image, width: int, height: int, x: int, y: int) -> Image:
    canvas = np.full((height, width, 3), 90, np.uint8)
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def test_a_cell_speaks_in_its_own_stride() -> None:
    rows = quiet_rows()
    rows[8 + 3] = face_row(
        0.9, offset=(0.25, 0.5), log_size=(np.log(2), np.log(4))
    )  # stride 8, row 1, column 3
    rows[64 + 5] = face_row(0.8, log_size=(0, 0))  # stride 16, row 1, column 1
    first, second = decode(rows, SIDE, SIDE, 0.6)
    assert first[1:5] == pytest.approx([26 - 8, 12 - 16, 26 + 8, 12 + 16])
    assert first[5:7] == pytest.approx([28, 12])
    assert first[0] == pytest.approx(0.9)
    assert second[1:5] == pytest.approx([8, 8, 24, 24])


def test_confidence_is_the_geometric_mean_of_the_two_outputs() -> None:
    rows = quiet_rows()
    rows[0] = face_row(0)
    rows[0, :2] = (0.9, 0.4)
    assert decode(rows, SIDE, SIDE, 0.5)[0, 0] == pytest.approx(0.6)
    assert len(decode(rows, SIDE, SIDE, 0.61)) == 0


@pytest.mark.parametrize("column", range(COLUMNS))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_a_value_that_no_healthy_model_gives_is_no_face_and_spoils_no_other(
    column: int, value: float
) -> None:
    rows = quiet_rows()
    rows[10], rows[40] = face_row(0.9), face_row(0.7)
    rows[10, column] = value
    found = decode(rows, SIDE, SIDE, 0.6)
    assert np.isfinite(found).all()
    assert pytest.approx(0.7) in found[:, 0]


@given(
    arrays(np.float32, (CELLS, COLUMNS), elements=st.floats(width=32), fill=st.just(0)),
    st.floats(0.05, 1),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_model_gives_faces_are_finite_ordered_bounded_and_apart(
    rows: np.ndarray, min_confidence: float
) -> None:
    found = suppress(decode(rows, SIDE, SIDE, min_confidence))
    faces = to_faces(found, fit_into(640, 480, SIDE, SIDE), 640, 480)
    assert len(faces) <= MAX_FACES
    confidences = [face.confidence for face in faces]
    assert confidences == sorted(confidences, reverse=True)
    assert all(min_confidence - 1e-3 <= confidence <= 1 for confidence in confidences)
    for face in faces:
        box = face.box
        assert np.isfinite([box.x1, box.y1, box.x2, box.y2, *face.keypoints.ravel()]).all()
        assert box.width_px > 0
        assert box.height_px > 0
        assert box.x1 < 640
        assert box.y1 < 480
        assert box.x2 > 0
        assert box.y2 > 0


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_of_overlapping_boxes_the_surest_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (40, 2))
    candidates = np.concatenate(
        [np.sort(rng.uniform(0, 1, (40, 1)), axis=0)[::-1], corner, corner + rng.uniform(5, 50, (40, 2))],
        axis=1,
    ).astype(np.float32)
    kept = suppress(candidates, most=len(candidates))
    assert kept[0, 0] == candidates[0, 0]
    for one in range(len(kept)):
        for other in range(one):
            assert overlap(kept[one, 1:5], kept[other, 1:5]) <= 0.3 + 1e-6
    for lost in candidates:
        assert any(np.array_equal(lost, row) for row in kept) or any(
            row[0] >= lost[0] and overlap(row[1:5], lost[1:5]) > 0.3 - 1e-6 for row in kept
        )


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, written down plainly."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, float(width)) * max(0.0, float(height))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_more_candidates_than_anyone_needs_are_cut_to_the_surest() -> None:
    rows = np.tile(np.array(face_row(0.9, (0.5, 0.5), (-3, -3)), np.float32), (CELLS, 1))
    rows[77, :2] = 0.99
    faces = suppress(decode(rows, SIDE, SIDE, 0.6))
    assert len(faces) == MAX_FACES
    assert faces[0, 0] == pytest.approx(0.99)


def test_keypoints_far_from_their_box_are_no_face() -> None:
    rows = quiet_rows()
    rows[0] = face_row(0.9)
    rows[0, 6:] = 40
    assert len(decode(rows, SIDE, SIDE, 0.6)) == 0


def test_a_face_in_the_padding_is_none() -> None:
    rows = quiet_rows()
    rows[7 * 8 + 3] = face_row(0.9, log_size=(0, 0))  # at the bottom, where a wide frame has no pixels
    assert to_faces(suppress(decode(rows, SIDE, SIDE, 0.6)), fit_into(640, 320, SIDE, SIDE), 640, 320) == ()


@given(st.integers(16, 9000), st.integers(16, 9000))
def test_a_picture_fits_into_the_input_undistorted_and_never_enlarged(width: int, height: int) -> None:
    fit = fit_into(width, height, 320, 256)
    assert 1 <= fit.width <= 320
    assert 1 <= fit.height <= 256
    assert fit.scale_x <= 1
    assert fit.scale_y <= 1
    # Within half an input pixel of the same scale on both axes (one pixel where a side would vanish).
    assert abs(fit.width - width * min(1, 320 / width, 256 / height)) <= 1
    assert abs(fit.height - height * min(1, 320 / width, 256 / height)) <= 1


def test_the_subjects_right_eye_comes_first(detector: Detector, portrait: Image) -> None:
    (face,) = detector.detect(portrait)
    right_eye, left_eye, nose, right_mouth, left_mouth = face.keypoints
    assert right_eye[0] < nose[0] < left_eye[0]  # the subject's right is the picture's left
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    assert face.confidence > 0.8


@pytest.mark.parametrize(
    ("width", "height", "x", "y"),
    [(320, 320, 10, 0), (640, 480, 300, 100), (1280, 720, 900, 300), (480, 640, 50, 250), (257, 999, 1, 600)],
)
def test_a_face_is_found_where_it_is_in_a_frame_of_any_shape(
    detector: Detector, portrait: Image, width: int, height: int, x: int, y: int
) -> None:
    (expected,) = detector.detect(portrait)
    (found,) = detector.detect(on_canvas(portrait, width, height, x, y))
    input_px = 1 / fit_into(width, height, 320, 256).scale_x  # one pixel of the model's input
    assert np.abs(found.keypoints - expected.keypoints - (x, y)).max() < 3 * input_px
    assert found.box.width_px == pytest.approx(expected.box.width_px, abs=4 * input_px)


@pytest.mark.parametrize("key", ["yunet_160x160", "yunet_256x320", "yunet_480x640"])
def test_every_input_size_finds_the_same_face(key: str, portrait: Image) -> None:
    (face,) = Detector(load_manifest(), key).detect(portrait)
    assert face.keypoints[2] == pytest.approx(
        Detector(load_manifest()).detect(portrait)[0].keypoints[2], abs=4
    )


def test_two_faces_come_surest_first(detector: Detector, portrait: Image) -> None:
    frame = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    faces = detector.detect(np.ascontiguousarray(frame))
    assert len(faces) == 2
    assert faces[0].confidence >= faces[1].confidence


def test_a_picture_without_a_face_gives_none(detector: Detector) -> None:
    assert detector.detect(np.full((480, 640, 3), 128, np.uint8)) == ()
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    assert detector.detect(noise) == ()


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.zeros((480, 640), np.uint8), "uint8 .480, 640.; expected uint8"),
        (np.zeros((480, 640, 4), np.uint8), "expected uint8 .height, width, 3., BGR"),
        (np.zeros((480, 640, 3), np.float32), "float32"),
        (None, "NoneType"),
        (np.zeros((0, 640, 3), np.uint8), "640x0"),
        (np.zeros((8, 640, 3), np.uint8), "at least 16 a side"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (10_000, 10_000, 3)), "at most 50000000"),
    ],
    ids=["grey", "alpha", "float", "nothing", "empty", "sliver", "gigantic"],
)
def test_what_is_not_a_bearable_picture_is_refused(detector: Detector, image: Image, complaint: str) -> None:
    with pytest.raises(BadImage, match=complaint):
        detector.detect(image)


def test_a_view_with_strides_is_a_picture_too(detector: Detector, portrait: Image) -> None:
    (mirrored,) = detector.detect(portrait[:, ::-1])
    assert mirrored.confidence > 0.8


def test_an_embedding_model_is_no_detector() -> None:
    with pytest.raises(ModelError, match='model "sface" is not a detector'):
        Detector(load_manifest(), "sface")


def test_a_model_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ModelError, match=r'no model "blazeface"; there are: .*yunet_256x320'):
        Detector(load_manifest(), "blazeface")


def lfw_pictures() -> list[Path]:
    folder = Path(os.environ.get("HADIR_DATA", "")) / "lfw" / "images"
    return sorted(folder.glob("*/*_0001.jpg"))[::200] if os.environ.get("HADIR_DATA") else []


@pytest.mark.skipif(not lfw_pictures(), reason="HADIR_DATA names no folder with lfw/images")
def test_every_sampled_lfw_picture_has_a_face_near_its_centre(detector: Detector) -> None:
    for path in lfw_pictures():
        image = cv2.imread(str(path))
        faces = detector.detect(np.asarray(image, np.uint8))
        distances = [np.hypot(face.box.centre[0] - 125, face.box.centre[1] - 125) for face in faces]
        assert min(distances, default=np.inf) < 40, path.name


# A closer look where the detector is unsure


class Doubt:
    """A detector whose first look is replaced: unsure of a face at this place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, box: Box, confidence: float = 0.3) -> None:
        manifest = load_manifest()
        self.detector = Detector(manifest, closer_key="yunet_160x160")
        doubtful = Face(box, np.zeros((5, 2), np.float32), confidence)
        monkeypatch.setattr(detect_module, "to_faces", lambda *_: (doubtful,))

    def __call__(self, image: Image) -> tuple[Face, ...]:
        return self.detector.detect(image)


def test_a_doubtful_face_is_found_by_a_closer_look(portrait: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    (face,) = Detector(load_manifest()).detect(portrait)
    (found,) = Doubt(monkeypatch, face.box)(portrait)
    assert found.confidence >= CONFIRMED
    assert box_overlap(found.box, face.box) > 0.7
    assert np.abs(found.keypoints - face.keypoints).max() < 0.1 * face.box.width_px


def test_a_doubtful_wall_stays_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = np.random.default_rng(3).integers(90, 130, (480, 640, 3)).astype(np.uint8)
    assert Doubt(monkeypatch, Box(200, 200, 280, 300))(wall) == ()


@pytest.mark.parametrize(
    "move", [lambda box: Box(box.x1, box.y1, box.x1 + 20, box.y1 + 24), lambda box: replace(box, x1=-3.0)]
)
def test_what_is_too_small_or_cut_off_by_the_edge_is_not_looked_at_again(
    portrait: Image, monkeypatch: pytest.MonkeyPatch, move: Callable[[Box], Box]
) -> None:
    (face,) = Detector(load_manifest()).detect(portrait)
    monkeypatch.setattr(detect_module.Closer, "look", lambda *_: pytest.fail("looked again"))
    assert Doubt(monkeypatch, move(face.box))(portrait) == ()


def test_without_a_closer_look_a_doubtful_face_is_none(
    portrait: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (face,) = Detector(load_manifest()).detect(portrait)
    plain = Detector(load_manifest())
    monkeypatch.setattr(detect_module, "to_faces", lambda *_: (replace(face, confidence=0.3),))
    assert plain.detect(portrait) == ()


def test_a_face_that_is_known_already_is_not_found_twice(
    portrait: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (face,) = Detector(load_manifest()).detect(portrait)
    beside = replace(
        face, box=Box(face.box.x1 + 3, face.box.y1, face.box.x2 + 3, face.box.y2), confidence=0.4
    )
    monkeypatch.setattr(detect_module, "to_faces", lambda *_: (face, beside))
    detector = Detector(load_manifest(), closer_key="yunet_160x160")
    assert detector.detect(portrait) == (face,)


def test_many_doubtful_places_cost_a_bounded_time(portrait: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    (face,) = Detector(load_manifest()).detect(portrait)
    monkeypatch.setattr(detect_module, "to_faces", lambda *_: (replace(face, confidence=0.3),) * 30)
    monkeypatch.setattr(detect_module.Closer, "look", lambda *arguments: looked.append(arguments))
    assert Detector(load_manifest(), closer_key="yunet_160x160").detect(portrait) == ()
    assert len(looked) == MAX_CLOSER_LOOKS
