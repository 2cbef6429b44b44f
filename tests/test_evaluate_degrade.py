"""Degraded photographs: the same at every run, plausible where they change, untouched where they do not."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from edge.errors import BadImage
from edge.evaluate import coverings
from edge.evaluate.conditions import CONDITIONS, NAMES, Condition, measure
from edge.evaluate.degrade import CHANGES, DOOR_FACE_PX, FRAME_PX, JITTER_PX, degrade
from edge.recognition.align import ARCFACE_POINTS
from edge.records import Box, Face, Image, Points

COVERINGS = ("scarf", "mask", "glasses")

KEYPOINTS: Points = np.array(ARCFACE_POINTS, np.float32) * np.float32(1.5) + np.array([66, 60], np.float32)
"""A face that looks straight at the camera, its eyes 53 px apart: 0.83 px a millimetre."""

FACE = Face(Box(90, 80, 220, 250), KEYPOINTS, 0.9)


def portrait(light: float = 1.0) -> Image:
    """A grey face before a darker wall, with a pattern that shows every change."""
    generator = np.random.default_rng(5)
    image = generator.integers(60, 100, (360, 320, 3)).astype(np.float32)
    cv2.ellipse(image, (155, 165), (62, 88), 0, 0, 360, (150, 165, 180), -1)
    return np.asarray(np.clip(image * light, 0, 255), np.uint8)


def at(mm: tuple[float, float, float], face: Face = FACE) -> tuple[int, int]:
    """Row and column of a place on the head."""
    x, y = coverings.pose_of(face.keypoints).project([mm])[0]
    return round(float(y)), round(float(x))


def changed(image: Image, other: Image, mm: tuple[float, float, float]) -> bool:
    row, column = at(mm)
    window = slice(row - 2, row + 3), slice(column - 2, column + 3)
    return not np.array_equal(image[window], other[window])


@pytest.mark.parametrize("name", CHANGES)
def test_a_photograph_is_degraded_alike_at_every_run_and_by_its_own_name(name: str) -> None:
    image = portrait()
    before = image.copy()
    once, again = (degrade(image, FACE, "Ann/1.jpg", name) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.array_equal(image, before), "the photograph itself stays as it is"
    other = degrade(image, FACE, "Ann/2.jpg", name)
    assert once.shape != other.shape or not np.array_equal(once, other)


@pytest.mark.parametrize("name", CHANGES)
def test_a_face_without_extent_is_refused(name: str) -> None:
    nothing = Face(Box(5, 5, 5, 5), np.full((5, 2), 5, np.float32), 0.9)
    with pytest.raises(BadImage):
        degrade(portrait(), nothing, "Ann/1.jpg", name)


def test_keypoints_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(BadImage, match="not finite"):
        coverings.pose_of(np.full((5, 2), np.nan, np.float32))


@pytest.mark.parametrize("name", COVERINGS)
def test_a_covering_outside_the_picture_changes_nothing(name: str) -> None:
    image = portrait()
    far = Face(FACE.box, KEYPOINTS + np.float32(5000), 0.9)
    assert np.array_equal(degrade(image, far, "Ann/1.jpg", name), image)


UNCOVERED = {
    "scarf": [(-32, 0, 0), (32, 0, 0), (0, 37, 25), (-26, 73, 4), (26, 73, 4), (0, -40, 0), (0, 105, 0)],
    "mask": [(-32, -4, 0), (32, -4, 0), (0, -40, 0), (0, -90, -60)],
    "glasses": [(0, 45, 20), (-26, 73, 4), (26, 73, 4), (0, -45, 0), (0, 110, 0)],
}
COVERED = {
    "scarf": [(0, -95, -30), (-84, 20, -60), (84, 20, -60), (0, 160, -30)],
    "mask": [(0, 40, 25), (-26, 73, 4), (26, 73, 4), (0, 110, 0)],
    "glasses": [(0, -6, 20)],
}


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("name", COVERINGS)
def test_a_covering_covers_what_it_should_and_leaves_the_rest_untouched(name: str, number: int) -> None:
    image = portrait()
    covered = degrade(image, FACE, f"Ann/{number}.jpg", name)
    assert covered.shape == image.shape
    for place in UNCOVERED[name]:
        assert not changed(image, covered, place), place
    for place in COVERED[name]:
        assert changed(image, covered, place), place
    assert np.array_equal(covered[:12], image[:12]), "nothing above the head"
    assert np.array_equal(covered[:150, :20], image[:150, :20]), "nothing beside it"


@pytest.mark.parametrize("name", COVERINGS)
def test_a_covering_lies_alike_on_the_same_face_in_a_larger_picture(name: str) -> None:
    image = portrait()
    wide = cv2.copyMakeBorder(image, 40, 60, 30, 90, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    moved = Face(FACE.box, KEYPOINTS + np.array([30, 40], np.float32), 0.9)
    part = degrade(np.asarray(wide, np.uint8), moved, "Ann/1.jpg", name)[40:400, 30:350]
    row, column = at((0, -6, 20) if name == "glasses" else (0, 150, 0) if name == "scarf" else (0, 60, 20))
    around = slice(row - 4, row + 5), slice(column - 4, column + 5)
    assert np.abs(part[around].astype(int) - degrade(image, FACE, "Ann/1.jpg", name)[around]).mean() < 12


@pytest.mark.parametrize("name", COVERINGS)
def test_the_light_on_a_covering_follows_that_on_the_face(name: str) -> None:
    """The same covering in half the light."""
    row, column = at({"scarf": (0, -95, -30), "mask": (0, 60, 20), "glasses": (0, -6, 20)}[name])
    bright, dim = (
        degrade(portrait(light), FACE, "Ann/4.jpg", name)[row, column].mean() for light in (1, 0.5)
    )
    assert dim < 0.8 * bright


def test_the_cloth_of_two_photographs_differs() -> None:
    row, column = at((0, -95, -30))
    seen = {tuple(degrade(portrait(), FACE, f"Ann/{n}.jpg", "scarf")[row, column] // 32) for n in range(20)}
    assert len(seen) >= 5


@pytest.mark.parametrize(("sign", "side"), [(1, "right"), (-1, "left")])
def test_a_nose_to_one_side_turns_the_head_there(sign: int, side: str) -> None:
    turned = KEYPOINTS.copy()
    turned[2, 0] += sign * 12
    assert abs(coverings.pose_of(KEYPOINTS).turn) < 0.05
    assert sign * coverings.pose_of(turned).turn > 0.2, side


def test_the_pose_finds_the_size_of_the_head_whichever_way_it_is_rolled() -> None:
    for degrees in (0, 25, -40):
        turn = np.array(cv2.getRotationMatrix2D((155, 165), degrees, 1.0))
        points = (KEYPOINTS @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
        assert coverings.pose_of(points).px_per_mm == pytest.approx(53 / 64, rel=0.05)


# The door


@pytest.mark.parametrize("number", range(12))
def test_a_face_made_small_is_of_the_sizes_that_a_door_camera_sees(number: int) -> None:
    image = portrait()
    seen = degrade(image, FACE, f"Ann/{number}.jpg", "small")
    scale = seen.shape[1] / image.shape[1]
    least, most = DOOR_FACE_PX
    assert least - 1 <= FACE.box.width_px * scale <= most + 1
    assert seen.shape[0] / image.shape[0] == pytest.approx(scale, abs=0.01)


def test_a_small_face_is_not_enlarged() -> None:
    small = Face(Box(90, 80, 120, 120), KEYPOINTS, 0.9)
    assert degrade(portrait(), small, "Ann/1.jpg", "small").shape == portrait().shape


def test_a_tight_crop_is_not_made_too_small_to_look_at() -> None:
    tight: Image = np.full((40, 200, 3), 120, np.uint8)
    wide = Face(Box(0, 0, 200, 40), KEYPOINTS, 0.9)
    assert min(degrade(tight, wide, "Ann/1.jpg", "small").shape[:2]) >= 32


@pytest.mark.parametrize("number", range(12))
def test_a_door_camera_sees_a_whole_frame_with_the_photograph_in_its_middle(number: int) -> None:
    bright = np.full((700, 700, 3), 20, np.uint8)
    bright[300:400, 300:400] = 250
    seen = degrade(bright, Face(Box(300, 300, 400, 400), KEYPOINTS, 0.9), f"Ann/{number}.jpg", "door")
    assert seen.shape == (FRAME_PX[1], FRAME_PX[0], 3)
    rows, columns = np.nonzero(seen[160:320, 240:400].mean(axis=2) > 0.6 * seen.max())
    least, most = DOOR_FACE_PX
    assert least - 6 <= np.ptp(columns) <= most + 6, "the face is as wide as at a door"
    assert abs(columns.mean() + 240 - 320) < JITTER_PX + 4
    assert abs(rows.mean() + 160 - 240) < JITTER_PX + 4


@pytest.mark.parametrize("corner", [(0, 0), (3700, 2700)])
def test_a_face_in_the_corner_of_a_large_picture_lies_whole_in_the_frame(corner: tuple[int, int]) -> None:
    large = np.full((3000, 4000, 3), 20, np.uint8)
    x, y = corner
    large[y : y + 300, x : x + 300] = 250
    seen = degrade(large, Face(Box(x, y, x + 300, y + 300), KEYPOINTS, 0.9), "Ann/1.jpg", "door")
    rows, columns = np.nonzero(seen.mean(axis=2) > 0.6 * seen.max())
    least, most = DOOR_FACE_PX
    assert least - 6 <= np.ptp(columns) <= most + 6
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=6)


def test_around_the_photograph_nothing_changes_from_top_to_bottom_that_could_be_a_face() -> None:
    seen = degrade(portrait(), FACE, "Ann/1.jpg", "door").astype(float)
    above, below = (seen[rows].mean(axis=0) for rows in (slice(0, 40), slice(-40, None)))
    assert np.abs(above - below).max() < 6, "but for the noise"


def test_a_door_camera_is_noisy_and_no_two_exposures_are_alike() -> None:
    plain: Image = np.full((300, 300, 3), 128, np.uint8)
    door = [degrade(plain, FACE, f"Ann/{n}.jpg", "door")[200:280, 280:360] for n in range(20)]
    seen = [picture.astype(float) for picture in door]
    assert all(picture.std(axis=(0, 1)).min() > 0.5 for picture in seen)
    means = sorted(picture.mean() for picture in seen)
    assert means[0] < 95
    assert means[-1] > 135


# Conditions


def test_conditions_are_measured_as_their_names_say() -> None:
    image = portrait()
    seen = dict(zip(NAMES, measure(image, FACE), strict=True))
    assert seen["face_px"] == 130
    assert seen["yaw"] < 0.05
    assert seen["roll_deg"] < 1
    assert 120 < seen["brightness"] < 180
    dim = dict(zip(NAMES, measure(portrait(0.5), FACE), strict=True))
    assert dim["brightness"] == pytest.approx(seen["brightness"] / 2, rel=0.05)
    assert dim["contrast"] < seen["contrast"]
    image[:, :155] //= 2
    one_sided = dict(zip(NAMES, measure(image, FACE), strict=True))
    assert seen["side_light"] < 0.03
    assert one_sided["side_light"] == pytest.approx(1 / 3, abs=0.06)
    soft = dict(
        zip(NAMES, measure(np.asarray(cv2.GaussianBlur(portrait(), (0, 0), 4), np.uint8), FACE), strict=True)
    )
    assert soft["sharpness"] < 0.1 * seen["sharpness"]


def test_a_value_on_an_edge_belongs_to_the_bin_above_it() -> None:
    condition = Condition("yaw", "yaw", (0.125, 0.25))
    assert condition.bins() == ("below 0.125", "0.125 to 0.25", "0.25 and more")
    assert list(condition.place(np.array([0, 0.125, 0.15, 0.25, 9], np.float32))) == [0, 1, 1, 2, 2]


def test_the_bins_of_every_condition_rise() -> None:
    assert len(set(NAMES)) == len(CONDITIONS)
    for condition in CONDITIONS:
        assert all(low < high for low, high in pairwise(condition.edges))
        assert len(condition.bins()) == len(condition.edges) + 1
