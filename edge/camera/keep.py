"""Keeps a camera going: opens it, reads it, watches its pictures, and opens it again when something is wrong.

What goes wrong has four shapes. It does not open or breaks off: the device says so. It
gives black or frozen pictures: `watch` sees it. It gives nothing: every device's read has
a timeout below five seconds, and raises. Its library hangs in spite of that: the thread
that reads is stuck, so another one has to notice, and calls `look`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from edge.board.clock import boottime_ms
from edge.camera import Camera, Origin
from edge.camera.watch import PictureWatch, Verdict
from edge.errors import CameraUnavailable
from edge.records import Frame

log = logging.getLogger(__name__)

T = TypeVar("T")

HANG_MS = 5000
"""A call into a camera that takes longer hangs. Reads give up after four seconds by themselves."""

RETRY_MIN_S = 1.0
RETRY_MAX_S = 30.0
"""Between two attempts to open the camera: doubled from the first to the second while it stays away."""

PROVEN_MS = 30_000
"""After good pictures for so long, the next trouble is a new one, and is met quickly again."""

PAUSE_STEP_S = 1.0
"""A pause shows in such steps that the loop is alive, since it may be as long as the watchdog's patience."""


class CameraState(StrEnum):
    """How the camera is. The values are stable: they are logged and reported."""

    OPENING = "opening"
    GOOD = "good"
    BLACK = "black"
    FROZEN = "frozen"
    HANGING = "hanging"
    """A call into the camera does not come back."""
    UNAVAILABLE = "unavailable"
    """It does not open, or broke off, and will be opened again."""
    OVER = "over"
    """A recording has ended."""


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """How the camera is, since when, and what was said about it."""

    state: CameraState
    since_mono_ms: int
    detail: str = ""
    reopened: int = 0
    """How often it had to be opened again since the start."""


class StopSign(Protocol):
    """As much of `threading.Event` as is needed to end in time."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


class Backoff:
    """How long to wait before the next attempt."""

    def __init__(self) -> None:
        self._next_s = RETRY_MIN_S

    def pause_s(self, good_ms: int) -> float:
        """After an attempt that gave good pictures for so long (0: none)."""
        if good_ms >= PROVEN_MS:
            self._next_s = RETRY_MIN_S
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, RETRY_MAX_S)
        return pause_s


class CameraKeeper:
    """Owns the camera on the thread that calls `run`; `health` and `look` are for others.

    Args:
        make: builds the camera, anew for each attempt, so that nothing of a failed one remains.
        put: takes each frame; the second argument says whether it may be dropped.
        stop: ends `run` soon.
        now_ms: CLOCK_BOOTTIME in milliseconds.
    """

    def __init__(
        self,
        make: Callable[[], Camera],
        put: Callable[[Frame, bool], None],
        stop: StopSign,
        now_ms: Callable[[], int] = boottime_ms,
    ) -> None:
        self._make = make
        self._put = put
        self._stop = stop
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._health = CameraHealth(CameraState.OPENING, now_ms())
        self._called_ms: int | None = None
        """When the call into the camera began that has not come back; None while there is none."""
        self._good_since_ms: int | None = None
        """Of the present opening."""

    @property
    def health(self) -> CameraHealth:
        """How the camera is now."""
        with self._lock:
            return self._health

    def run(self, turned: Callable[[], None]) -> None:
        """Frames into `put` until a stop is asked for or a recording is over.

        `turned` is called whenever the loop shows progress.

        Raises:
            InputError: a file that a person named cannot be played.
        """
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                self._keep_open(turned)
            except CameraUnavailable as error:
                pause_s = backoff.pause_s(self._good_ms())
                state = error.state if isinstance(error, _BadPictures) else CameraState.UNAVAILABLE
                # Once is enough: a dark night would write two lines a minute.
                level = logging.DEBUG if self.health.state is state else logging.WARNING
                log.log(level, "%s; opening it again in %.0f s", error, pause_s)
                self._become(state, str(error), reopened=1)
                self._pause(pause_s, turned)
            else:
                return

    def look(self) -> None:
        """Notice a call into the camera that does not come back: another thread asks, every second or so."""
        called_ms = self._called_ms
        if called_ms is None or self._now_ms() - called_ms < HANG_MS:
            return
        if self.health.state is not CameraState.HANGING:
            detail = f"the camera has not answered for {HANG_MS / 1000:.0f} s"
            log.error("camera: %s", detail)
            self._become(CameraState.HANGING, detail)

    def _keep_open(self, turned: Callable[[], None]) -> None:
        """Open the camera and read it until it is over or a stop is asked for; always close it."""
        self._good_since_ms = None
        camera = self._make()
        try:
            self._call(camera, camera.open)
            log.info("camera: open")
            watch = PictureWatch(camera.origin)
            while not self._stop.is_set():
                frame = self._call(camera, camera.read)
                turned()
                if frame is None:
                    self._end()
                    return
                self._take(frame, watch, camera)
        finally:
            self._call(camera, camera.close)

    def _call(self, camera: Camera, method: Callable[[], T]) -> T:
        """Call into the camera, for `look` to see. To wait for a recording's next frame is not to hang."""
        if camera.origin is not Origin.RECORDING:
            self._called_ms = self._now_ms()
        try:
            return method()
        finally:
            self._called_ms = None

    def _take(self, frame: Frame, watch: PictureWatch, camera: Camera) -> None:
        """Hand on a picture in which somebody could be seen; raise where there was none for too long."""
        verdict = watch.judge(frame.image, frame.captured_mono_ms)
        if verdict is Verdict.BLACK:
            detail = "the picture is black; is the lens covered, or all light off?"
            raise _BadPictures(CameraState.BLACK, detail)
        if verdict is Verdict.FROZEN:
            raise _BadPictures(
                CameraState.FROZEN, "the picture is frozen, although the camera still gives it"
            )
        if verdict is Verdict.GOOD:
            self._good_since_ms = self._good_since_ms or frame.captured_mono_ms
            self._become(CameraState.GOOD)
        # A sensor's doubtful picture is an old one again: whoever is in it may have left long ago.
        if verdict is Verdict.GOOD or camera.origin is Origin.STREAM:
            self._put(frame, camera.live)

    def _end(self) -> None:
        if not self._stop.is_set():
            log.info("camera: its pictures are over")
            self._become(CameraState.OVER)

    def _good_ms(self) -> int:
        return 0 if self._good_since_ms is None else self._now_ms() - self._good_since_ms

    def _pause(self, seconds: float, turned: Callable[[], None]) -> None:
        """Wait, in steps that show that the loop is alive."""
        while seconds > 0 and not self._stop.is_set():
            turned()
            self._stop.wait(min(seconds, PAUSE_STEP_S))
            seconds -= PAUSE_STEP_S

    def _become(self, state: CameraState, detail: str = "", *, reopened: int = 0) -> None:
        with self._lock:
            old = self._health
            if state is old.state and not reopened:
                return
            since_ms = old.since_mono_ms if state is old.state else self._now_ms()
            self._health = CameraHealth(state, since_ms, detail, old.reopened + reopened)
        if state is CameraState.GOOD and old.state is not CameraState.OPENING:
            log.info("camera: good again after %.1f s", (since_ms - old.since_mono_ms) / 1000)


class _BadPictures(CameraUnavailable):
    """The camera gives pictures that are of no use, so it is opened again."""

    def __init__(self, state: CameraState, detail: str) -> None:
        super().__init__(f"camera: {detail}")
        self.state = state
