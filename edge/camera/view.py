"""How a camera's pictures are turned, mirrored and cut, and how many of them are taken: for every camera alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge.camera import Camera, Origin
from edge.config import CameraConfig
from edge.records import Frame, Image

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class View:
    """What of a camera's picture is looked at, and which way up."""

    rotation: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    mirror: bool = False
    """Exchanges left and right, after the rotation."""
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """x, y, width, height as shares of the upright picture, which is what a person sees who aims the camera."""

    @classmethod
    def of(cls, settings: CameraConfig) -> View:
        region = (settings.region_x, settings.region_y, settings.region_width, settings.region_height)
        return cls(settings.rotation, settings.mirror, region)

    def apply(self, image: Image) -> Image:
        """The picture as it is looked at: contiguous, at least one pixel; `image` itself where nothing changes.

        The part is cut first, as a view, so that turning costs only what is kept. numpy
        could turn without copying, but making such a view contiguous takes 1.0 ms at
        640x480 where OpenCV's rotate takes 0.08; so the cut is taken back into the
        camera's own orientation, where it is an ordinary slice.
        """
        part = self._cut(image)
        if self.rotation:
            part = cv2.rotate(part, _TURNS[self.rotation])  # type: ignore[assignment]
        if self.mirror:
            part = cv2.flip(part, 1)  # type: ignore[assignment]
        return np.ascontiguousarray(part, np.uint8)

    def _cut(self, image: Image) -> Image:
        """The part that is kept, as a view of `image` and not yet turned."""
        quarters = self.rotation // 90
        upright = np.rot90(image, -quarters)
        upright = upright[:, ::-1] if self.mirror else upright
        x, y, width, height = self.region
        part = upright[_span(y, height, upright.shape[0]), _span(x, width, upright.shape[1])]
        part = part[:, ::-1] if self.mirror else part
        return np.rot90(part, quarters)


def _span(begin: float, length: float, pixels: int) -> slice:
    first = min(round(begin * pixels), pixels - 1)
    return slice(first, max(round((begin + length) * pixels), first + 1))


class ViewedCamera(Camera):
    """A camera seen through a View."""

    def __init__(self, camera: Camera, view: View) -> None:
        self._camera = camera
        self._view = view

    @property
    def live(self) -> bool:
        return self._camera.live

    @property
    def origin(self) -> Origin:
        return self._camera.origin

    def open(self) -> None:
        self._camera.open()

    def read(self) -> Frame | None:
        frame = self._camera.read()
        return None if frame is None else replace(frame, image=self._view.apply(frame.image))

    def close(self) -> None:
        self._camera.close()


class RateLimit:
    """Leaves out what comes sooner than a rate allows, evenly; 0 leaves out nothing."""

    def __init__(self, frames_per_s: float) -> None:
        self._interval_ms = 1000 / frames_per_s if frames_per_s else 0.0
        self._due_ms = 0.0

    def admits(self, at_ms: float) -> bool:
        """Whether a picture of this time is taken; times do not go back."""
        # A tenth of slack, because times jitter, and files round theirs, to centiseconds in a GIF.
        if at_ms < self._due_ms - 0.1 * self._interval_ms:
            return False
        # Counted on from when it was due, so that the rate is kept; after a pause from now, or a burst would follow.
        late = at_ms - self._due_ms > self._interval_ms
        self._due_ms = (at_ms if late else self._due_ms) + self._interval_ms
        return True
