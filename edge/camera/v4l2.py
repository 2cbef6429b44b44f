"""A USB camera, through OpenCV and the kernel's V4L2."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge.board.clock import boottime_ms
from edge.camera import Camera, Origin
from edge.camera.view import RateLimit
from edge.errors import CameraUnavailable
from edge.records import Frame

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 4
"""A camera that hangs has to be noticed within five seconds. Whole seconds, because OpenCV takes only those."""

_TIMEOUT_VARIABLE = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
"""How long OpenCV's V4L2 part waits for a picture, 10 s unless told; read when the first camera of the
process opens. Of OpenCV's properties CAP_PROP_READ_TIMEOUT_MSEC works for FFMPEG and GStreamer only
(videoio.hpp, 4.10 to 5.0)."""

MAX_UNREADABLE = 30
"""So many broken JPEGs in a row are a broken camera. The first few after opening are often cut off."""


class V4l2Camera(Camera):
    """Reads /dev/video`device`, or the camera at the path `device`.

    Args:
        device: a number, or a path; /dev/v4l/by-id/… stays the same when cameras are plugged in another order.
        size: width and height to ask for; a camera gives the nearest that it has.
        frames_per_s: asked of the camera, and an upper limit; 0 takes what it gives. What is
            beyond it is taken from the driver but not decoded.
        folder: where device files are.
        now_ms: CLOCK_BOOTTIME in milliseconds.
    """

    live = True
    origin = Origin.SENSOR

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int],
        frames_per_s: float = 0.0,
        folder: Path = Path("/dev"),
        now_ms: Callable[[], int] = boottime_ms,
    ) -> None:
        self._path = folder / f"video{device}" if device.isdecimal() else Path(device)
        self._size = size
        self._frames_per_s = frames_per_s
        self._folder = folder
        self._now_ms = now_ms
        self._capture: cv2.VideoCapture | None = None
        self._limit = RateLimit(frames_per_s)
        self._number = 0

    def open(self) -> None:
        if not self._path.exists():
            raise CameraUnavailable(f"{self._path}: there is no such camera; {self._others()}")
        os.environ.setdefault(_TIMEOUT_VARIABLE, str(READ_TIMEOUT_S))
        # By path also for a number: OpenCV counts only the devices that it likes.
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self.close()
            raise CameraUnavailable(
                f"{self._path}: the camera does not open; is another program using it, and may this user "
                f"read it (group video)? {self._others()}"
            )
        self._ask(self._capture)
        self._limit = RateLimit(self._frames_per_s)
        self._number = 0

    def read(self) -> Frame | None:
        if self._capture is None:
            raise CameraUnavailable(f"{self._path}: the camera is not open")
        unreadable = 0
        while unreadable < MAX_UNREADABLE:
            if not self._capture.grab():
                raise CameraUnavailable(
                    f"{self._path}: the camera gives no more pictures; was it unplugged? {self._others()}"
                )
            now_ms = self._now_ms()
            if not self._limit.admits(now_ms):
                continue
            read, image = self._capture.retrieve()
            if read:
                self._number += 1
                # retrieve gives a new array each time: nothing overwrites it.
                return Frame(np.ascontiguousarray(image, np.uint8), now_ms, self._number)
            unreadable += 1
        raise CameraUnavailable(f"{self._path}: {unreadable} pictures in a row could not be decoded")

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _ask(self, capture: cv2.VideoCapture) -> None:
        """MJPG first: raw pictures of 640x480 at 30 a second fill most of USB 2, larger ones do not fit."""
        width, height = self._size
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        if self._frames_per_s:
            capture.set(cv2.CAP_PROP_FPS, self._frames_per_s)
        given = tuple(
            round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if given != self._size:
            log.warning("camera: asked for %dx%d, the camera gives %dx%d", width, height, *given)

    def _others(self) -> str:
        names = sorted(path.name for path in self._folder.glob("video*"))
        there = ", ".join(str(self._folder / name) for name in names)
        return f"cameras that are there: {there}" if there else f"no {self._folder}/video* is there"
