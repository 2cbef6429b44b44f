"""As much of picamera2 as the Pi's camera needs, with the habits that cost people time.

After the sources of picamera2 0.3 (`picamera2.py`, `request.py`, `job.py`): formats named
against their order in memory, rows padded for the hardware, requests that are missing
from the queue until they are released, `stop` waiting in line behind captures, and one
program at a time. Frames come as soon as somebody asks, and no thread runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.records import Image

ROW_ALIGNMENT = 64
PADDING = 0xEE


@dataclass
class Sensor:
    """What there is to see for every opening: BGR scenes, one a frame, then nothing more."""

    scenes: Sequence[Image] = ()
    cameras: int = 1
    fail_at_frame: int | None = None
    """The buffer of this frame, counted from 0, cannot be mapped."""
    held: int = 0
    """Requests that somebody has and did not release."""
    opened: bool = False
    opening_count: int = 0
    closing_fails: bool = False


sensor = Sensor()
"""Tests put their own in its place."""


@dataclass
class Job:
    """A capture that was asked for."""

    result: Request

    def get_result(self) -> Request:
        return self.result


class Request:
    """A completed request, which has one of the camera's few buffers until it is released."""

    def __init__(self, camera: Picamera2, number: int) -> None:
        self._camera = camera
        self._number = number
        self._released = False
        sensor.held += 1

    def make_buffer(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        assert not self._released
        if self._number == sensor.fail_at_frame:
            raise OSError("Cannot allocate memory")
        stream = self._camera.camera_configuration()[name]
        width, height = stream["size"]
        scene = sensor.scenes[self._number][:height, :width]
        # RGB888 names the bits of a word from the highest down, which in memory is B, G, R.
        in_memory = {"RGB888": scene, "BGR888": scene[..., ::-1]}[stream["format"]]
        rows = np.full((height, stream["stride"]), PADDING, np.uint8)
        rows[:, : width * 3] = in_memory.reshape(height, width * 3)
        return rows.reshape(-1)

    def release(self) -> None:
        if self._released:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        self._released = True
        sensor.held -= 1


class Picamera2:
    """One camera, in use from its building to `close`."""

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num >= sensor.cameras:
            raise IndexError("list index out of range")
        if sensor.opened:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        sensor.opened = True
        sensor.opening_count += 1
        self._configuration: dict[str, Any] = {}
        self._started = False
        self._waiting = 0
        self._given = 0

    def create_video_configuration(self, main: dict[str, Any], buffer_count: int = 6) -> dict[str, Any]:
        width, height = main["size"]
        size = (width - width % 2, height - height % 2)
        return {"main": {"format": main["format"], "size": size}, "buffer_count": buffer_count}

    def configure(self, configuration: dict[str, Any]) -> None:
        main = configuration["main"]
        stride = -(-main["size"][0] * 3 // ROW_ALIGNMENT) * ROW_ALIGNMENT
        self._configuration = {**configuration, "main": {**main, "stride": stride}}

    def camera_configuration(self) -> dict[str, Any]:
        return self._configuration

    def start(self) -> None:
        assert self._configuration, "Camera has not been configured"
        self._started = True

    def capture_request(self, signal_function: Callable[[Job], None]) -> None:
        """Completes at once where there is a buffer and a scene, else never."""
        assert self._started
        buffers = self._configuration["buffer_count"]
        if sensor.held >= buffers or self._given >= len(sensor.scenes):
            self._waiting += 1
            return
        self._given += 1
        signal_function(Job(Request(self, self._given - 1)))

    def stop(self) -> None:
        assert not self._waiting, "stop waits in line behind a capture that never comes"
        self._started = False

    def close(self) -> None:
        self._started = False
        sensor.opened = False
        if sensor.closing_fails:
            raise RuntimeError("Failed to release camera")
