"""A Raspberry Pi's camera module, through picamera2 and libcamera.

picamera2 comes with Raspberry Pi OS (`apt install python3-picamera2`), not with pip, and
is imported only once such a camera is opened. Three of its habits shape this file:

- The format it calls RGB888 is blue, green, red in memory, which is just what we want;
  its BGR888 would have to be turned.
- Rows are padded to what the hardware likes (32 or 64 bytes), which `stride` tells. So
  the buffer is taken as it is and the padding cut off here. The low-resolution stream,
  whose YUV420 arrays come with the padding inside, is not used: the image processor
  scales the main one to any size.
- A request that is not released is missing from the queue; with the last one the camera
  stops, without a word. So it is released whatever happens.
"""

from __future__ import annotations

import importlib
import logging
import queue
from collections.abc import Callable
from typing import Any

import numpy as np

from edge.board.clock import boottime_ms
from edge.camera import Camera, Origin
from edge.camera.view import RateLimit
from edge.errors import CameraUnavailable
from edge.records import Frame, Image

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 4.0
"""A camera that hangs has to be noticed within five seconds."""

BUFFERS = 4
"""Two would do; picamera2 holds the latest back, and one more hides a late thread. Each is one picture."""


class PiCamera(Camera):
    """Reads the camera module `number`.

    Args:
        number: counts from 0, as `rpicam-hello --list-cameras` does.
        size: width and height to ask for; odd ones are rounded down by libcamera.
        frames_per_s: an upper limit; 0 takes the sensor's own, 30. The sensor goes on at 30
            in any case, since a slower one would be exposed for longer, and blur those who walk.
        read_timeout_s: longest to wait for each picture.
        now_ms: CLOCK_BOOTTIME in milliseconds.
    """

    live = True
    origin = Origin.SENSOR

    def __init__(
        self,
        number: int,
        *,
        size: tuple[int, int],
        frames_per_s: float = 0.0,
        read_timeout_s: float = READ_TIMEOUT_S,
        now_ms: Callable[[], int] = boottime_ms,
    ) -> None:
        self._index = number
        self._size = size
        self._frames_per_s = frames_per_s
        self._read_timeout_s = read_timeout_s
        self._now_ms = now_ms
        self._camera: Any = None
        self._stream: dict[str, Any] = {}
        self._limit = RateLimit(frames_per_s)
        self._number = 0

    def open(self) -> None:
        self._limit = RateLimit(self._frames_per_s)
        self._number = 0
        try:
            self._camera = importlib.import_module("picamera2").Picamera2(self._index)
            self._start(self._camera)
        except ImportError as error:
            raise CameraUnavailable(
                f"picamera: picamera2 cannot be imported ({error}); on Raspberry Pi OS: sudo apt install "
                "python3-picamera2, and a virtual environment made with --system-site-packages"
            ) from error
        except (
            Exception
        ) as error:  # picamera2 and libcamera raise RuntimeError, IndexError, OSError and others
            self.close()
            raise CameraUnavailable(
                f"picamera: camera {self._index} does not open ({error!r}); is its ribbon cable in, and does "
                "`rpicam-hello --list-cameras` show it?"
            ) from error

    def read(self) -> Frame | None:
        if self._camera is None:
            raise CameraUnavailable(f"picamera: camera {self._index} is not open")
        try:
            while (frame := self._frame()) is None:
                pass
        except CameraUnavailable:
            raise
        except Exception as error:
            raise CameraUnavailable(f"picamera: camera {self._index} broke off ({error!r})") from error
        return frame

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            # Not `stop`, which waits in line behind a capture that may never come; `close` ends
            # picamera2's own loop first.
            camera.close()
        except Exception as error:  # noqa: BLE001 - vendor code; nothing is left to be done with it
            log.warning("picamera: camera %d did not close well (%r)", self._index, error)

    def _frame(self) -> Frame | None:
        """The next picture; None where it comes sooner than the limit allows."""
        request = self._request()
        try:
            now_ms = self._now_ms()
            if not self._limit.admits(now_ms):
                return None
            self._number += 1
            return Frame(_picture(request.make_buffer("main"), self._stream), now_ms, self._number)
        finally:
            request.release()

    def _start(self, camera: Any) -> None:
        asked = {"format": "RGB888", "size": self._size}
        camera.configure(camera.create_video_configuration(main=asked, buffer_count=BUFFERS))
        self._stream = camera.camera_configuration()["main"]  # as libcamera adjusted it
        camera.start()

    def _request(self) -> Any:
        """The next completed request, whose release is the caller's."""
        # `wait=False` and a timeout are not in every picamera2; a callback is.
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._camera.capture_request(signal_function=done.put)
        try:
            return done.get(timeout=self._read_timeout_s).get_result()
        except queue.Empty:
            self.close()  # or the request that still comes would be nobody's
            raise CameraUnavailable(
                f"picamera: camera {self._index} gave no picture for {self._read_timeout_s:g} s"
            ) from None


def _picture(buffer: np.ndarray[Any, np.dtype[np.uint8]], stream: dict[str, Any]) -> Image:
    """A buffer of RGB888, as picamera2 calls it, without its padding."""
    width, height = stream["size"]
    rows = buffer.reshape(-1)[: height * stream["stride"]].reshape(height, stream["stride"])
    return np.ascontiguousarray(rows[:, : width * 3]).reshape(height, width, 3)
