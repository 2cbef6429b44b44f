"""Reading a line of text that somebody holds up to the camera as a QR code."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
from cv2.typing import MatLike

from edge.camera import Camera, open_camera
from edge.config import CameraConfig
from edge.errors import CameraUnavailable
from edge.records import Image

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_SIDE_PX = 1280
"""Of a larger picture every second or third pixel is looked at: the detector needs no more of them."""

RETRY_S = 2.0


def read_qr(image: Image) -> str:
    """The text of the one QR code in a picture; empty where none can be read."""
    step = -(-max(image.shape[:2]) // MAX_SIDE_PX)
    grey = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_BGR2GRAY)
    # Smoothed and doubled it reads small and slanted codes through noise; as it is, some that are large.
    smooth = cv2.resize(cv2.GaussianBlur(grey, (3, 3), 0), None, fx=2, fy=2)
    return _decoded(grey) or _decoded(smooth)


def _decoded(grey: MatLike) -> str:
    try:
        return cv2.QRCodeDetector().detectAndDecode(grey)[0]
    except (cv2.error, UnicodeDecodeError):  # a damaged code: the next frame may be better
        return ""


def watch_for(config: CameraConfig, understand: Callable[[str], T | None], stop: threading.Event) -> T | None:
    """Look through a camera until `understand` makes something of a code; None once stopped or the clip is over.

    A camera that does not open or breaks off is tried again.

    Raises:
        InputError: a recording cannot be played.
    """
    while not stop.is_set():
        try:
            with open_camera(config, stop) as camera:
                return _watch(camera, understand, stop)
        except CameraUnavailable as error:
            log.warning("camera: %s. Trying again", error)
            stop.wait(RETRY_S)
    return None


def _watch(camera: Camera, understand: Callable[[str], T | None], stop: threading.Event) -> T | None:
    while not stop.is_set():
        frame = camera.read()
        if frame is None:
            return None
        understood = understand(read_qr(frame.image))
        if understood is not None:
            return understood
    return None
