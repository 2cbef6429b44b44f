"""Black and frozen pictures are noticed, and nothing else is taken for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera import Origin
from edge.camera.replay import video
from edge.camera.watch import BLACK_MS, FROZEN_MS, PictureWatch, Verdict
from edge.records import Image

INTERVAL_MS = 100
NOTICED_MS = 5000
"""What was promised: from the beginning of the trouble to its name."""

RNG = np.random.default_rng(11)


def scene(brightness: float = 1.0, size: tuple[int, int] = (640, 480)) -> Image:
    """A corridor of sorts: light falling off, a door, a floor."""
    width, height = size
    image = np.tile(np.linspace(180, 90, width), (height, 1))
    image[height // 4 :, width // 2 : width // 2 + width // 6] = 60
    image[height * 3 // 4 :] *= 0.7
    return np.repeat((image * brightness)[..., None], 3, 2).astype(np.uint8)


def noisy(image: Image, levels: float = 1.0) -> Image:
    """As a sensor sees it."""
    return np.clip(np.round(image + RNG.normal(0, levels, image.shape)), 0, 255).astype(np.uint8)


def verdicts(origin: Origin, images: Iterable[Image]) -> list[Verdict]:
    watch = PictureWatch(origin)
    return [watch.judge(image, number * INTERVAL_MS) for number, image in enumerate(images)]


def first(verdict: Verdict, origin: Origin, image: Callable[[int], Image], limit: int = 1000) -> int | None:
    """Milliseconds until a verdict on these pictures; None where it never comes."""
    watch = PictureWatch(origin)
    for number in range(limit):
        if watch.judge(image(number), number * INTERVAL_MS) is verdict:
            return number * INTERVAL_MS
    return None


def test_a_noisy_quiet_corridor_is_good() -> None:
    said = verdicts(Origin.SENSOR, (noisy(scene()) for _ in range(60)))
    assert said[0] is Verdict.DOUBTFUL, "one picture alone may be an old one"
    assert set(said[1:]) == {Verdict.GOOD}


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_a_webcams_jpegs_of_a_quiet_wall_are_good(quality: int) -> None:
    """Compression takes most of the noise of an even wall away, but not all of it."""
    wall = np.repeat(np.tile(np.linspace(180, 210, 640), (480, 1))[..., None], 3, 2)
    for _ in range(5):
        watch = PictureWatch(Origin.SENSOR)
        for number in range(5):
            jpeg = cv2.imencode(
                ".jpg", noisy(wall.astype(np.uint8), 0.5), [cv2.IMWRITE_JPEG_QUALITY, quality]
            )[1]
            decoded = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
            verdict = watch.judge(decoded, number * INTERVAL_MS)
        assert verdict is Verdict.GOOD


@pytest.mark.parametrize("origin", [Origin.SENSOR, Origin.STREAM])
@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("level", [0, 16])
def test_black_pictures_are_noticed_with_and_without_noise(origin: Origin, noise: float, level: int) -> None:
    black = np.full((480, 640, 3), level, np.uint8)
    pictures = [noisy(black, noise) for _ in range(4)]
    noticed_ms = first(Verdict.BLACK, origin, lambda number: pictures[number % 4])
    assert noticed_ms == BLACK_MS < NOTICED_MS


def test_a_dark_corridor_in_which_something_can_still_be_seen_is_not_black() -> None:
    said = verdicts(Origin.SENSOR, (noisy(scene(0.1), 2.0) for _ in range(60)))
    assert set(said[1:]) == {Verdict.GOOD}


def test_a_hand_before_the_lens_is_no_trouble_once_it_is_gone() -> None:
    covered = [noisy(np.zeros((480, 640, 3), np.uint8)) for _ in range(20)]
    said = verdicts(Origin.SENSOR, [*covered, noisy(scene()), *covered, noisy(scene())])
    assert Verdict.BLACK not in said
    assert said[20] is said[-1] is Verdict.GOOD


def test_a_frozen_sensor_is_noticed_although_a_clock_goes_on_in_its_pictures() -> None:
    still = noisy(scene())

    def frozen(number: int) -> Image:
        image = still.copy()
        image[8:24, 8 : 8 + 8 * (number % 10)] = 255
        return image

    noticed_ms = first(Verdict.FROZEN, Origin.SENSOR, frozen)
    assert noticed_ms == FROZEN_MS[Origin.SENSOR] < NOTICED_MS


def test_what_a_frozen_sensor_shows_is_doubted_from_the_first_repetition() -> None:
    still = noisy(scene())
    said = verdicts(Origin.SENSOR, [noisy(scene()), noisy(scene()), still, still, still])
    assert said[1:] == [Verdict.GOOD, Verdict.GOOD, Verdict.DOUBTFUL, Verdict.DOUBTFUL]


def test_a_stream_that_repeats_itself_for_half_a_minute_is_a_quiet_scene() -> None:
    still = noisy(scene())
    said = verdicts(Origin.STREAM, [noisy(scene()), *[still] * 300, noisy(scene())])
    assert set(said[1:]) == {Verdict.GOOD}


def test_a_stream_that_repeats_itself_for_longer_than_any_key_frame_is_away_is_frozen() -> None:
    still = noisy(scene())
    assert first(Verdict.FROZEN, Origin.STREAM, lambda number: still) == FROZEN_MS[Origin.STREAM]


@pytest.mark.parametrize("level", [0, 128])
def test_a_recording_may_be_still_or_dark_because_somebody_made_it_so(level: int) -> None:
    still = np.full((480, 640, 3), level, np.uint8)
    assert set(verdicts(Origin.RECORDING, [still] * 1000)) == {Verdict.GOOD}


def test_a_change_of_size_is_a_new_beginning() -> None:
    still, larger = noisy(scene()), noisy(scene(size=(800, 600)))
    said = verdicts(Origin.SENSOR, [*[still] * 25, *[larger] * 25])
    assert Verdict.FROZEN not in said


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8)])
def test_tiny_pictures_are_judged_too(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert first(Verdict.BLACK, Origin.SENSOR, lambda number: image) == BLACK_MS


@pytest.mark.parametrize("shape", [(0, 0, 3), (48, 0, 3), (48, 64)])
def test_what_is_no_picture_is_left_for_the_road_to_refuse(shape: tuple[int, ...]) -> None:
    assert verdicts(Origin.SENSOR, [np.zeros(shape, np.uint8)]) == [Verdict.GOOD]


@pytest.mark.parametrize("name", ["distant-pedestrians.avi", "stage.mp4", "several-people-00.mp4"])
def test_real_clips_as_streams_are_never_in_trouble(name: str, data: Path) -> None:
    watch = PictureWatch(Origin.STREAM)
    pictures = islice(video(data / "video" / name), 300)
    said = {watch.judge(picture.image, round(picture.at_ms)) for picture in pictures}
    assert said <= {Verdict.GOOD, Verdict.DOUBTFUL}


def test_the_watch_costs_next_to_nothing() -> None:
    """Well under 0.2 ms a frame in good light; the bound leaves room for a busy machine."""
    pictures = [noisy(scene()) for _ in range(4)]
    watch = PictureWatch(Origin.SENSOR)
    costs = []
    for number in islice(count(), 200):
        began = time.perf_counter()
        watch.judge(pictures[number % 4], number * INTERVAL_MS)
        costs.append(time.perf_counter() - began)
    assert sorted(costs)[len(costs) // 2] < 0.2e-3
