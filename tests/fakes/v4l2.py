"""A USB camera at the line of cv2.VideoCapture, as OpenCV's V4L2 part behaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge.records import Image


@dataclass
class UsbCamera:
    """What there is to see for every opening; `capture` takes the place of cv2.VideoCapture."""

    scenes: Sequence[Image | None]
    """One a frame; None is a JPEG that was cut off. After the last, the camera is unplugged."""
    size: tuple[int, int]
    """The only one that the camera has, whatever it is asked for."""
    busy: bool = False
    asked: dict[int, float] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    decoded: int = 0
    in_use: int = 0

    def capture(self, path: str, backend: int) -> Capture:
        assert backend == cv2.CAP_V4L2
        self.opened.append(path)
        return Capture(self)


class Capture:
    """An opened camera."""

    def __init__(self, camera: UsbCamera) -> None:
        self._camera = camera
        self._grabbed = -1
        camera.in_use += not camera.busy

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return not self._camera.busy

    def set(self, key: int, value: float) -> bool:
        self._camera.asked[key] = value
        return True

    def get(self, key: int) -> float:
        width, height = self._camera.size
        return {cv2.CAP_PROP_FRAME_WIDTH: float(width), cv2.CAP_PROP_FRAME_HEIGHT: float(height)}[key]

    def grab(self) -> bool:
        self._grabbed += 1
        return self._grabbed < len(self._camera.scenes)

    def retrieve(self) -> tuple[bool, Image | None]:
        scene = self._camera.scenes[self._grabbed]
        if scene is None:
            return False, None
        self._camera.decoded += 1
        return True, np.array(scene)

    def release(self) -> None:
        self._camera.in_use -= not self._camera.busy
