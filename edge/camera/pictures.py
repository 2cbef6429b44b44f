"""Still pictures from files that a person named: refused before decoding where they are too large.

OpenCV's own bound (OPENCV_IO_MAX_IMAGE_PIXELS) is a gigapixel, three gigabytes, and is
read once when the library loads, which is too early to set it from here. So the size is
taken from the file's header first; formats whose header is not read here are not taken.
TIFF is left out on purpose: its many codecs are the largest attack surface of all.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from edge.errors import InputError
from edge.records import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
PICTURE_FORMATS = "JPEG, PNG, BMP and WebP"

MAX_PIXELS = 50_000_000
"""The largest photographs in the evaluation data have 36 megapixels; decoded, 50 are 150 MB."""

MAX_PICTURE_BYTES = 4 * MAX_PIXELS
"""An uncompressed picture of MAX_PIXELS with 32 bits a pixel."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""ITU-T T.81, table B.1: what carries the size; the three left out are tables and an extension."""


def read_picture(path: Path) -> Image:
    """One picture as BGR, turned upright as its EXIF data says; 16 bits become 8, grey becomes BGR.

    Transparency is ignored: what lies under it counts.

    Raises:
        InputError: missing, empty, not one of PICTURE_FORMATS, damaged, cut off, or too large.
    """
    image = cv2.imdecode(np.frombuffer(looked_at(path), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise _unreadable(path, "it is damaged or cut off")
    return np.ascontiguousarray(image, np.uint8)


def looked_at(path: Path) -> bytes:
    """A picture's file, with everything that can be wrong with it but for what only decoding shows.

    Raises InputError as `read_picture` does.
    """
    data = read_named_file(path, MAX_PICTURE_BYTES)
    size = picture_size(data)
    if size is None:
        raise _unreadable(path, "it is not a picture")
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        allowed = f"up to {MAX_PIXELS // 1_000_000} megapixels are taken"
        raise InputError(f"{path}: the picture has {width} x {height} pixels; {allowed}")
    if data.startswith(_JPEG) and not _jpeg_is_whole(data):
        # OpenCV 4.10 decodes it and leaves the missing part grey.
        raise _unreadable(path, "it is cut off")
    return data


def read_named_file(path: Path, max_bytes: int) -> bytes:
    """The content of a file that a person named.

    Raises:
        InputError: missing, not a file, not permitted, empty, or larger than `max_bytes`.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path}: has {size} bytes; up to {max_bytes} are taken")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise InputError(f"{path}: the file is empty")
    return data


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header claims them, before anything is decoded.

    None where `data` is none of PICTURE_FORMATS, or breaks off inside its header.
    """
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(_JPEG):
            return _jpeg_size(data)
        elif data.startswith(b"BM"):
            return _bmp_size(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_size(data)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    frame = next((at for at, marker in _jpeg_segments(data) if marker in _START_OF_FRAME), None)
    if frame is None:
        return None
    height, width = struct.unpack_from(">HH", data, frame + 5)
    return width, height


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end marker follows the first scan; inside a scan it cannot occur, since 0xFF is stuffed.

    A search through the whole file would find that of the thumbnail in the EXIF segment.
    """
    scan = next((at for at, marker in _jpeg_segments(data) if marker == _START_OF_SCAN), None)
    return scan is not None and data.find(_JPEG_END, scan) != -1


def _jpeg_segments(data: bytes) -> list[tuple[int, int]]:
    """Place and marker of each segment up to the first scan, or as far as they are well-formed."""
    segments = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:  # noqa: PLR2004 - begins every marker
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - padding
            at += 1
            continue
        segments.append((at, marker))
        if marker == _START_OF_SCAN:
            break
        at += 2 if marker in _STANDALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return segments


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    old = header_bytes == 12  # noqa: PLR2004 - BITMAPCOREHEADER
    width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
    return width, abs(height)  # negative: stored from the top


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: the canvas (VP8X), a lossless (VP8L) or a lossy picture (VP8)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(f"{path}: {why}; pictures may be {PICTURE_FORMATS}")
