"""A rendered walk-past looks like somebody who comes to a door, and follows from its seed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.people import sample_people
from demo.walkpast import (
    APPROACH_SHARE,
    Pose,
    Walk,
    cut_out,
    empty_corridor,
    horizon_px,
    render_walkpast,
    write_clip,
)
from edge.camera.pictures import read_picture
from edge.camera.replay import ReplayCamera
from edge.errors import InputError, RetryLater
from edge.recognition.detect import Detector
from edge.recognition.manifest import load_manifest
from edge.records import Box, Face, Image

FACE = Box(200, 120, 320, 280)
"""Of the drawn portrait."""

SIZE = (640, 480)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """Somebody drawn: a head with hair, a body, and a background of another colour."""
    image = np.full((640, 520, 3), (200, 120, 40), np.uint8)
    cv2.ellipse(image, (260, 190), (66, 100), 0, 0, 360, (30, 40, 50), -1)
    cv2.ellipse(image, (260, 200), (58, 82), 0, 0, 360, (130, 160, 220), -1)
    cv2.rectangle(image, (232, 260), (288, 330), (130, 160, 220), -1)
    cv2.ellipse(image, (260, 470), (190, 170), 0, 180, 360, (60, 50, 50), -1)
    cv2.rectangle(image, (70, 470), (450, 640), (60, 50, 50), -1)
    for x in (236, 284):
        cv2.circle(image, (x, 185), 7, (0, 0, 0), -1)
    path = tmp_path / "portrait.png"
    cv2.imwrite(str(path), image)
    return path


def test_the_same_seed_gives_the_same_clip(portrait: Path) -> None:
    first = list(render_walkpast(portrait, FACE, seed=5, frames=6))
    again = list(render_walkpast(portrait, FACE, seed=5, frames=6))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_another_seed_gives_another_clip(portrait: Path) -> None:
    first = list(render_walkpast(portrait, FACE, seed=5, frames=6))
    other = list(render_walkpast(portrait, FACE, seed=6, frames=6))
    assert all(np.abs(a.astype(int) - b).mean() > 3 for a, b in zip(first, other, strict=True))


def test_frames_are_8_bit_bgr_of_the_size_and_number_asked_for(portrait: Path) -> None:
    images = list(render_walkpast(portrait, FACE, seed=1, frames=5, size=(320, 240)))
    assert [image.shape for image in images] == [(240, 320, 3)] * 5
    assert {image.dtype for image in images} == {np.dtype(np.uint8)}


def test_a_large_frame_shows_the_same_walk_larger(portrait: Path) -> None:
    small, large = (
        next(iter(render_walkpast(portrait, FACE, seed=1, frames=5, size=size)))
        for size in ((320, 240), (640, 480))
    )
    shrunk = cv2.resize(large, (320, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 12


def poses(seed: int, frames: int = 48, frames_per_s: float = 12.0) -> list[Pose]:
    walk = Walk.by_chance(np.random.default_rng(seed), frames / frames_per_s, SIZE)
    return [walk.pose(index / frames_per_s) for index in range(frames)]


@pytest.mark.parametrize("seed", range(12))
def test_the_face_grows_from_30_to_150_pixels_and_then_leaves_the_frame(seed: int) -> None:
    way = poses(seed)
    coming = way[: round(APPROACH_SHARE * len(way))]
    assert coming[0].face_px == pytest.approx(30)
    assert 120 < coming[-1].face_px <= 150
    assert all(later.face_px > earlier.face_px for earlier, later in pairwise(coming))
    for pose in coming:
        assert pose.face_px / 2 < pose.x_px < SIZE[0] - pose.face_px / 2
        assert pose.face_px / 2 < pose.y_px < SIZE[1] - pose.face_px / 2
    gone = way[-1]
    assert not -gone.face_px < gone.x_px < SIZE[0] + gone.face_px


def test_people_leave_to_either_side_and_bob_as_they_walk() -> None:
    assert {poses(seed)[-1].x_px < 0 for seed in range(12)} == {True, False}
    heights = np.array([(pose.y_px - horizon_px(SIZE[1])) * pose.depth_m for pose in poses(3)[:36]])
    assert (np.diff(np.sign(np.diff(heights))) != 0).sum() >= 6


def test_the_empty_corridor_is_that_of_the_walk_with_the_same_seed(portrait: Path) -> None:
    walked = list(render_walkpast(portrait, FACE, seed=9, frames=24))
    empty = list(empty_corridor(seed=9, frames=24))
    differences = [
        cv2.blur(np.abs(one.astype(np.float32) - other), (25, 25)).max()
        for one, other in zip(walked, empty, strict=True)
    ]
    assert differences[18] > 60
    assert differences[-1] < 30


def test_head_and_hair_stay_whole_and_the_background_stays_behind(portrait: Path) -> None:
    layer = cut_out(read_picture(portrait), FACE).layers[0]
    x, y = (round(value) for value in layer.centre)
    height = layer.face_px * FACE.height_px / FACE.width_px
    assert layer.pixels[y, x, 3] > 0.99
    assert layer.pixels[round(y - 0.6 * height), x, 3] > 0.9  # hair, above the box
    assert layer.pixels[round(y - 1.0 * height), x, 3] < 0.05
    assert layer.pixels[y, round(x - layer.face_px), 3] < 0.05
    assert layer.pixels[-1, round(x + 0.6 * layer.face_px), 3] > 0.9  # a leg, down to the floor


def test_a_photograph_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nobody\.png: there is no such file"):
        next(render_walkpast(tmp_path / "nobody.png", FACE, seed=1))


def test_a_written_clip_plays_back_with_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    images = list(empty_corridor(seed=2, frames=4, size=(160, 120)))
    write_clip(path, images, frames_per_s=12.5)
    with ReplayCamera([path], live=False, now_ms=lambda: 0) as camera:
        frames = [frame for frame in iter(camera.read, None) if frame is not None]
    assert [frame.captured_mono_ms for frame in frames] == [0, 80, 160, 240]
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 4


def test_a_clip_without_images_or_without_a_folder_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        write_clip(tmp_path / "clip.avi", [], 12)
    with pytest.raises(OSError, match="cannot be written"):
        write_clip(tmp_path / "missing" / "clip.avi", empty_corridor(1, 1), 12)


# With real faces.


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(load_manifest(None), "yunet_480x640")


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    try:
        return [photo for photos in sample_people().values() for photo in photos]
    except RetryLater as error:
        pytest.skip(str(error))


def only_face(detector: Detector, image: Image) -> Face:
    (face,) = detector.detect(image)
    return face


def test_every_sample_portrait_shows_one_face(detector: Detector, photos: list[Path]) -> None:
    for photo in photos:
        assert 230 < only_face(detector, read_picture(photo)).box.width_px < 300


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_detector_follows_the_walker_all_the_way(detector: Detector, photos: list[Path], seed: int) -> None:
    photo = photos[seed]
    face = only_face(detector, read_picture(photo)).box
    images = list(render_walkpast(photo, face, seed))
    coming = images[: round(APPROACH_SHARE * len(images))]
    widths = [only_face(detector, image).box.width_px for image in coming]
    assert widths[0] == pytest.approx(30, abs=5)
    assert max(widths) > 115
    assert all(later > 0.93 * earlier for earlier, later in pairwise(widths))
    assert detector.detect(images[-1]) == ()
