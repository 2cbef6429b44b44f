"""Photographs that somebody chose: small faces in large ones, pictures that lie on their side, nobody at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.people import sample_people
from edge.assembly import Eyes, largest_detector
from edge.camera.pictures import read_picture
from edge.errors import BadImage, NotEnrollable
from edge.recognition.detect import Detector, overlap
from edge.recognition.manifest import load_manifest
from edge.recognition.still import StillDetector
from edge.records import Image
from provisioning.enrol import embed_portraits


@pytest.fixture(scope="module")
def portrait() -> Image:
    """A face of about 150 px in 480x600."""
    return np.asarray(cv2.resize(read_picture(sample_people()["P44"][0]), (480, 600)), np.uint8)


def test_the_largest_input_is_taken_for_large_pictures() -> None:
    assert largest_detector(load_manifest()) == "yunet_480x640"


def test_a_picture_of_a_frames_size_is_seen_as_a_frame_and_loads_nothing_more(
    eyes: Eyes, portrait: Image
) -> None:
    def never() -> Detector:
        raise AssertionError("the larger detector is not needed")

    found = StillDetector(eyes.detector, never).detect(portrait)
    assert [face.box for face in found] == [face.box for face in eyes.detector.detect(portrait)]


def test_a_small_face_in_a_large_picture_is_found(eyes: Eyes, portrait: Image) -> None:
    small = np.asarray(cv2.resize(portrait, (160, 200), interpolation=cv2.INTER_AREA), np.uint8)
    large = np.full((1500, 2000, 3), 120, np.uint8)
    large[750:950, 1000:1160] = small
    assert eyes.detector.detect(large) == ()
    (face,) = eyes.stills.detect(large)
    assert 1050 < face.box.centre[0] < 1110
    assert 790 < face.box.centre[1] < 890


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("enlarged", [1, 2])
def test_a_face_in_a_picture_that_was_turned_is_found_where_it_is(
    eyes: Eyes, portrait: Image, quarters: int, enlarged: int
) -> None:
    upright = np.asarray(cv2.resize(portrait, None, fx=enlarged, fy=enlarged), np.uint8)
    (known,) = eyes.stills.detect(upright)
    turned = np.ascontiguousarray(np.rot90(upright, quarters))
    (face,) = eyes.stills.detect(turned)
    x, y = face.box.centre
    patch = turned[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
    x, y = known.box.centre
    expected = np.rot90(upright[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5], quarters)
    assert np.abs(patch.mean() - expected.mean()) < 12
    one = eyes.embedder.embed(eyes.embedder.crops(turned, face))
    other = eyes.embedder.embed(eyes.embedder.crops(upright, known))
    assert float(one @ other) > 0.98, "the same crop, so nearly the same vector"


def test_where_nobody_is_nobody_is_found_however_it_is_turned(eyes: Eyes) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (700, 900, 3)).astype(np.uint8)
    assert eyes.stills.detect(noise) == ()
    assert eyes.stills.detect(noise[:300, :300]) == ()


def test_what_is_no_picture_is_refused(eyes: Eyes) -> None:
    with pytest.raises(BadImage):
        eyes.stills.detect(np.zeros((4, 4), np.uint8))


def test_somebody_is_not_enrolled_from_a_picture_on_its_side(
    eyes: Eyes, portrait: Image, tmp_path: Path
) -> None:
    photo = tmp_path / "side.png"
    cv2.imwrite(str(photo), np.rot90(portrait))
    with pytest.raises(NotEnrollable, match="lies on its side or its head; turn it upright"):
        embed_portraits(eyes, [photo])


def test_group_pictures_lose_no_face_to_the_larger_input(eyes: Eyes, data: Path) -> None:
    for file in sorted((data / "detection" / "compreface").glob("*.jpg")):
        image = read_picture(file)
        frames, stills = eyes.detector.detect(image), eyes.stills.detect(image)
        assert len(stills) >= len(frames) - 1, file.name
        if file.name.startswith("017"):
            assert stills == (), "nobody is on it"
        surest = frames[:1]
        assert all(any(overlap(face.box, still.box) > 0.4 for still in stills) for face in surest), file.name
