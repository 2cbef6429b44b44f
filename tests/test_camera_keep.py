"""A camera that hangs, goes dark, freezes, is unplugged and comes back, on a clock that the test turns."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from edge.camera import Camera, Origin
from edge.camera.keep import HANG_MS, RETRY_MAX_S, Backoff, CameraKeeper, CameraState
from edge.errors import CameraUnavailable, InputError
from edge.records import Frame, Image
from edge.service import STALL_S

INTERVAL_MS = 100
RNG = np.random.default_rng(3)
BLACK: Image = np.zeros((48, 64, 3), np.uint8)
STILL: Image = RNG.integers(0, 255, (48, 64, 3), np.uint8)


def lively() -> Image:
    return RNG.integers(0, 255, (48, 64, 3), np.uint8)


class Time:
    """Goes on when a camera gives a picture, or when somebody waits; and is the stop sign."""

    def __init__(self) -> None:
        self.now_ms = 9_000_000
        self.waits: list[float] = []
        self.over = False

    def clock(self) -> int:
        return self.now_ms

    def is_set(self) -> bool:
        return self.over

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        self.now_ms += round(timeout * 1000)
        return self.over


Step = Image | Exception | Callable[[], Image | None] | None
"""What a read brings: a picture, an error, whatever a function does, or the end."""


class ScriptedCamera(Camera):
    """Follows a script from one opening to the next: each opening has steps, or an error, of its own."""

    live = True

    def __init__(
        self, time: Time, openings: Iterator[Sequence[Step] | Exception], origin: Origin = Origin.SENSOR
    ) -> None:
        self._time = time
        self._openings = openings
        self._origin = origin
        self._steps: Iterator[Step] = iter(())
        self.opened = 0
        self.closed = 0
        self._number = 0

    @property
    def origin(self) -> Origin:
        return self._origin

    def open(self) -> None:
        steps = next(self._openings)
        if isinstance(steps, Exception):
            raise steps
        self.opened += 1
        self._steps = iter(steps)

    def read(self) -> Frame | None:
        self._time.now_ms += INTERVAL_MS
        step = next(self._steps)
        step = step() if callable(step) else step
        if isinstance(step, Exception):
            raise step
        self._number += 1
        return None if step is None else Frame(step, self._time.now_ms, self._number)

    def close(self) -> None:
        self.closed += 1


class Door:
    """A keeper with a scripted camera, and what came of it."""

    def __init__(self, *openings: Sequence[Step] | Exception, origin: Origin = Origin.SENSOR) -> None:
        self.time = Time()
        self.frames: list[Frame] = []
        self.states: list[tuple[CameraState, int]] = []
        self.turns = 0
        self.camera = ScriptedCamera(self.time, self._script(openings), origin)
        self.keeper = CameraKeeper(lambda: self.camera, self._put, self.time, self.time.clock)

    def run(self) -> None:
        self.keeper.run(self._turned)
        self._turned()

    def _script(self, openings: Sequence[Sequence[Step] | Exception]) -> Iterator[Sequence[Step] | Exception]:
        yield from openings
        self.time.over = True
        yield CameraUnavailable("the script is over")

    def _put(self, frame: Frame, may_drop: bool) -> None:
        assert may_drop
        self.frames.append(frame)

    def _turned(self) -> None:
        self.turns += 1
        health = self.keeper.health
        if not self.states or self.states[-1][0] is not health.state:
            self.states.append((health.state, self.time.now_ms))

    def named(self) -> list[CameraState]:
        return [state for state, _ in self.states]

    def since(self, state: CameraState) -> int:
        return next(at_ms for named, at_ms in self.states if named is state)


UNPLUGGED = CameraUnavailable("/dev/video0: was it unplugged?")


def good(seconds: float) -> list[Step]:
    return [lively() for _ in range(round(seconds * 1000 / INTERVAL_MS))]


def test_an_unplugged_camera_is_opened_again_and_its_frames_go_on(caplog: pytest.LogCaptureFixture) -> None:
    door = Door([*good(1), UNPLUGGED], UNPLUGGED, UNPLUGGED, [*good(1), UNPLUGGED])
    caplog.set_level(logging.INFO)
    door.run()
    assert door.named()[:3] == [CameraState.OPENING, CameraState.GOOD, CameraState.UNAVAILABLE]
    assert CameraState.GOOD in door.named()[3:]
    assert len(door.frames) == 2 * 9, "of each opening, the first alone may be an old one"
    assert caplog.text.count("was it unplugged?; opening it again in 1 s") == 1
    assert "good again" in caplog.text
    assert door.keeper.health.reopened == 5


def test_every_opening_ends_with_a_close_whatever_happened() -> None:
    door = Door([*good(0.5), UNPLUGGED], UNPLUGGED, [OSError("no such thing")])
    with pytest.raises(OSError, match="no such thing"):
        door.run()
    assert (door.camera.opened, door.camera.closed) == (2, 3), "also one that failed to open"


@pytest.mark.parametrize(
    ("picture", "state", "said"),
    [(BLACK, CameraState.BLACK, "lens covered"), (STILL, CameraState.FROZEN, "frozen")],
)
def test_black_and_frozen_pictures_are_reported_within_five_seconds_and_the_camera_opened_again(
    picture: Image, state: CameraState, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door([*good(1), *[picture] * 100], [*good(1), UNPLUGGED])
    began_ms = door.time.now_ms + 1000
    door.run()
    assert door.since(state) - began_ms <= 5000
    assert said in caplog.text
    assert door.camera.opened == 2
    assert door.named()[-2:] == [CameraState.GOOD, CameraState.UNAVAILABLE]


def test_while_it_stays_black_it_stays_black_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    night: list[Step] = [BLACK] * 60
    door = Door([*good(1), *night], night, night, night, [*good(1), UNPLUGGED])
    door.run()
    assert door.named()[1:4] == [CameraState.GOOD, CameraState.BLACK, CameraState.GOOD]
    assert caplog.text.count("the picture is black") == 1


def test_nothing_of_a_frozen_picture_reaches_the_road_after_its_first_repetition() -> None:
    """Somebody who was just before the door when it froze must not be seen there for hours."""
    door = Door([*good(1), *[STILL] * 100], [STILL] * 100, [STILL] * 100)
    door.run()
    assert len([frame for frame in door.frames if (frame.image == STILL).all()]) == 1


def test_a_quiet_stream_goes_to_the_road_as_it_is() -> None:
    door = Door([*[STILL] * 100, UNPLUGGED], origin=Origin.STREAM)
    door.run()
    assert len(door.frames) == 100
    assert CameraState.FROZEN not in door.named()


def test_pauses_double_up_to_half_a_minute_and_show_that_the_loop_is_alive() -> None:
    door = Door(*[UNPLUGGED] * 7)
    turned_at: list[int] = []
    door.keeper.run(lambda: turned_at.append(door.time.now_ms))
    waited_s = sum(door.time.waits)
    assert waited_s == pytest.approx(1 + 2 + 4 + 8 + 16 + 30 + 30)
    gaps_ms = [later - earlier for earlier, later in pairwise(turned_at)]
    assert max(gaps_ms) < STALL_S * 1000 / 2


def test_a_good_period_makes_the_next_pause_short_again() -> None:
    backoff = Backoff()
    assert [backoff.pause_s(0) for _ in range(7)] == [1, 2, 4, 8, 16, RETRY_MAX_S, RETRY_MAX_S]
    assert backoff.pause_s(29_000) == RETRY_MAX_S
    assert [backoff.pause_s(30_000), backoff.pause_s(0)] == [1, 2]


def test_good_pictures_for_half_a_minute_are_a_good_period() -> None:
    door = Door(*[UNPLUGGED] * 4, [*good(40), UNPLUGGED], [UNPLUGGED])
    door.run()
    pauses = "".join("|" if wait < 1 else "." for wait in door.time.waits)
    assert pauses == "." * (1 + 2 + 4 + 8 + 1 + 2), "after 8 s comes 1 s, not 16"


def test_a_stop_ends_the_pause() -> None:
    door = Door(*[UNPLUGGED] * 20)

    def stop_at_ten() -> None:
        door.time.over = door.time.now_ms >= 9_000_000 + 10_000

    door.keeper.run(stop_at_ten)
    assert sum(door.time.waits) <= 11


def looked(door: Door) -> CameraState:
    door.keeper.look()
    return door.keeper.health.state


def test_a_call_that_does_not_come_back_is_seen_from_another_thread_within_five_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inside, on = threading.Event(), threading.Event()

    def hang() -> Image:
        inside.set()
        assert on.wait(20)
        return lively()

    door = Door([*good(1), hang, *good(0.5), UNPLUGGED])
    thread = threading.Thread(target=door.run)
    thread.start()
    assert inside.wait(20)
    door.time.now_ms += HANG_MS - INTERVAL_MS - 1
    assert looked(door) is CameraState.GOOD
    door.time.now_ms += INTERVAL_MS + 1
    assert looked(door) is CameraState.HANGING
    assert looked(door) is CameraState.HANGING
    assert caplog.text.count("the camera has not answered for 5 s") == 1
    on.set()
    thread.join(20)
    assert door.named() == [
        CameraState.OPENING,
        CameraState.GOOD,
        CameraState.HANGING,
        CameraState.GOOD,
        CameraState.UNAVAILABLE,
    ]
    assert len(door.frames) == 9 + 1 + 5, "what came after it was let go was taken again"


def test_a_recording_may_wait_long_for_its_next_frame_and_end() -> None:
    states: list[CameraState] = []

    def slow() -> Image:
        door.time.now_ms += 60_000
        door.keeper.look()
        states.append(door.keeper.health.state)
        return STILL

    door = Door([STILL, slow, slow, None], origin=Origin.RECORDING)
    door.run()
    assert states == [CameraState.GOOD] * 2
    assert door.keeper.health.state is CameraState.OVER
    assert len(door.frames) == 3


def test_between_two_calls_nothing_hangs_however_long_the_road_takes() -> None:
    door = Door([*good(1), UNPLUGGED])

    def slow_road(frame: Frame, may_drop: bool) -> None:
        door.time.now_ms += 60_000
        keeper.look()
        assert keeper.health.state is CameraState.GOOD

    keeper = CameraKeeper(lambda: door.camera, slow_road, door.time, door.time.clock)
    keeper.run(lambda: None)


def test_a_file_that_cannot_be_played_ends_it() -> None:
    door = Door([STILL, InputError("clip.mp4: cannot be played")], origin=Origin.RECORDING)
    with pytest.raises(InputError):
        door.run()
    assert door.camera.closed == 1
