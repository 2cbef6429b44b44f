"""Every camera behaves alike; and what a recording or a stream does that goes wrong."""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.camera import Camera, Origin, open_camera, pictures, replay
from edge.camera.gstreamer import GstreamerCamera
from edge.camera.picamera import PiCamera
from edge.camera.pictures import picture_size, read_picture
from edge.camera.replay import GAP_MS, PAUSE_MS, ReplayCamera, TimedImage, thin
from edge.camera.rtsp import RtspCamera
from edge.camera.v4l2 import V4l2Camera
from edge.camera.view import View, ViewedCamera
from edge.config import CameraConfig
from edge.errors import CameraUnavailable, InputError
from edge.records import Frame, Image
from tests.conftest import unprivileged
from tests.fakes import picamera2
from tests.fakes.streams import need_gst_launch, pictures_pipeline, rtsp_stream
from tests.fakes.v4l2 import UsbCamera

LEVELS = (20, 60, 100, 140, 180, 220)
"""Grey level of each frame of a sample, so that a test sees which one it got."""

WIDTH, HEIGHT = 96, 64
INTERVAL_MS = 100
DATA = os.environ.get("HADIR_DATA")


class FakeTime:
    """A clock that goes on only when somebody waits."""

    def __init__(self) -> None:
        self.now_ms = 5_000_000
        self.waits: list[float] = []
        self.stop = False

    def clock(self) -> int:
        return self.now_ms

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now_ms += round(seconds * 1000)
        return self.stop


def grey(level: int) -> Image:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def level_of(frame: Frame) -> int:
    """The sample's level that is nearest, since JPEG is not exact."""
    mean = float(frame.image.mean())
    return min(LEVELS, key=lambda level: abs(level - mean))


def make_video(folder: Path) -> list[Path]:
    path = folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 1000 / INTERVAL_MS, (WIDTH, HEIGHT))
    for level in LEVELS:
        writer.write(grey(level))
    writer.release()
    return [path]


def make_gif(folder: Path, delays_ms: tuple[int, ...] = (INTERVAL_MS,) * len(LEVELS)) -> list[Path]:
    """Written by hand: OpenCV writes GIFs only from 4.11 on. LZW that never grows its table is nearly raw."""
    path = folder / "clip.gif"
    palette = b"".join(bytes((level, level, level)) for level in range(256))
    out = [b"GIF89a", struct.pack("<HHBBB", WIDTH, HEIGHT, 0xF7, 0, 0), palette]
    for level, delay_ms in zip(LEVELS, delays_ms, strict=True):
        out.append(b"\x21\xf9\x04" + struct.pack("<BHB", 0, delay_ms // 10, 0) + b"\0")
        out.append(b"\x2c" + struct.pack("<HHHHB", 0, 0, WIDTH, HEIGHT, 0) + b"\x08")
        codes = []
        for index in range(WIDTH * HEIGHT):
            codes += ([256] if index % 100 == 0 else []) + [level]
        bits = sum(code << 9 * place for place, code in enumerate([*codes, 257]))
        data = bits.to_bytes((9 * (len(codes) + 1) + 7) // 8, "little")
        for begin in range(0, len(data), 255):
            block = data[begin : begin + 255]
            out.append(bytes((len(block),)) + block)
        out.append(b"\0")
    path.write_bytes(b"".join(out) + b";")
    return [path]


def make_pictures(folder: Path) -> list[Path]:
    """Named so that their order by letters is another than that by numbers."""
    paths = [folder / f"frame{number}.png" for number in range(8, 8 + len(LEVELS))]
    for path, level in zip(paths, LEVELS, strict=True):
        cv2.imwrite(str(path), grey(level))
    return paths


def make_folder(folder: Path) -> list[Path]:
    make_pictures(folder)
    (folder / "notes.txt").write_text("not a picture")
    return [folder]


SAMPLES = {"video": make_video, "gif": make_gif, "folder": make_folder, "list": make_pictures}

CameraMaker = Callable[[], Camera]

DEVICES = ("rtsp", "rtsp from GStreamer", "gstreamer", "v4l2", "picamera", "picamera turned twice")


@pytest.fixture(params=[*SAMPLES, "video in real pace", *DEVICES])
def make_camera(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CameraMaker]:
    """Makes a camera that will see LEVELS at ten frames a second; another device is another branch."""
    size = (WIDTH, HEIGHT)
    scenes = [grey(level) for level in LEVELS]
    match request.param:
        case "rtsp":
            with rtsp_server() as url:
                yield lambda: RtspCamera(url)
        case "rtsp from GStreamer":
            pipeline = pictures_pipeline(make_pictures(tmp_path)[0])
            jpeg = "video/x-raw,format=I420 ! jpegenc quality=95 ! rtpjpegpay name=pay0"
            with rtsp_stream(f"( {pipeline} ! {jpeg} )") as port:
                yield lambda: RtspCamera(f"rtsp://127.0.0.1:{port}/door", read_timeout_s=1.5)
        case "gstreamer":
            need_gst_launch()
            # `identity sync=true` makes files come at their own rate, as a camera's pictures do.
            pipeline = f"{pictures_pipeline(make_pictures(tmp_path)[0])} ! identity sync=true"
            yield lambda: GstreamerCamera(pipeline, size=size)
        case "v4l2":
            usb = UsbCamera(scenes, size)
            monkeypatch.setattr(cv2, "VideoCapture", usb.capture)
            (tmp_path / "video0").touch()
            yield lambda: V4l2Camera("0", size=size, folder=tmp_path)
        case "picamera" | "picamera turned twice":
            monkeypatch.setitem(sys.modules, "picamera2", picamera2)
            monkeypatch.setattr(picamera2, "sensor", picamera2.Sensor(scenes))
            views = [View(rotation=180)] * 2 if "twice" in request.param else []
            yield lambda: viewed(PiCamera(0, size=size, read_timeout_s=0.05), views)
        case "video in real pace":
            time = FakeTime()
            sources = make_video(tmp_path)
            yield lambda: ReplayCamera(sources, now_ms=time.clock, wait=time.wait)
        case kind:
            sources = SAMPLES[kind](tmp_path)
            yield lambda: ReplayCamera(sources, live=False)


def viewed(camera: Camera, views: list[View]) -> Camera:
    for view in views:
        camera = ViewedCamera(camera, view)
    return camera


def read_all(camera: Camera) -> list[Frame]:
    """All frames, until the recording is over, or the stream or device breaks off."""
    frames = []
    with camera:
        try:
            while (frame := camera.read()) is not None:
                frames.append(frame)
        except CameraUnavailable:
            assert camera.origin is not Origin.RECORDING
        else:
            assert camera.origin is Origin.RECORDING, "only a recording has an end"
    return frames


def test_every_camera_gives_contiguous_bgr_pictures(make_camera: CameraMaker) -> None:
    for frame in read_all(make_camera()):
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags["C_CONTIGUOUS"]


def test_every_camera_gives_frames_in_order_and_numbers_them_from_one(make_camera: CameraMaker) -> None:
    frames = read_all(make_camera())
    assert [level_of(frame) for frame in frames] == list(LEVELS)
    assert [frame.number for frame in frames] == list(range(1, len(LEVELS) + 1))


def test_every_camera_gives_times_that_do_not_go_back(make_camera: CameraMaker) -> None:
    times = [frame.captured_mono_ms for frame in read_all(make_camera())]
    assert times == sorted(times)


def test_every_camera_can_be_opened_again_and_closed_twice(make_camera: CameraMaker) -> None:
    camera = make_camera()
    first = read_all(camera)
    camera.close()
    assert [level_of(frame) for frame in read_all(camera)] == [level_of(frame) for frame in first]


def test_every_camera_that_is_not_open_says_so_or_gives_nothing(make_camera: CameraMaker) -> None:
    camera = make_camera()
    camera.close()
    if camera.origin is Origin.RECORDING:
        assert camera.read() is None
    else:
        with pytest.raises(CameraUnavailable, match=r"not (open|running)"):
            camera.read()


def test_every_device_and_stream_is_live(make_camera: CameraMaker) -> None:
    camera = make_camera()
    assert camera.live or camera.origin is Origin.RECORDING


def test_every_camera_gives_a_frame_that_later_ones_do_not_overwrite(make_camera: CameraMaker) -> None:
    frames = read_all(make_camera())
    assert not any(np.shares_memory(frames[0].image, later.image) for later in frames[1:])


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_recording_in_fast_pace_has_the_times_of_its_own_rate_and_never_waits(
    kind: str, tmp_path: Path
) -> None:
    time = FakeTime()
    frames = read_all(ReplayCamera(SAMPLES[kind](tmp_path), live=False, now_ms=time.clock, wait=time.wait))
    assert [frame.captured_mono_ms - 5_000_000 for frame in frames] == [0, 100, 200, 300, 400, 500]
    assert time.waits == []


def test_a_recording_that_is_over_stays_over(tmp_path: Path) -> None:
    with ReplayCamera(make_video(tmp_path), live=False) as camera:
        for _ in LEVELS:
            assert camera.read() is not None
        assert camera.read() is None
        assert camera.read() is None


def test_a_gif_keeps_the_delay_of_each_frame(tmp_path: Path) -> None:
    sources = make_gif(tmp_path, (100, 300, 50, 100, 100, 100))
    frames = read_all(ReplayCamera(sources, live=False, now_ms=lambda: 0))
    assert [frame.captured_mono_ms for frame in frames] == [0, 100, 400, 450, 550, 650]


def test_pictures_are_given_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    frames = read_all(ReplayCamera(make_pictures(tmp_path), frames_per_s=4, live=False, now_ms=lambda: 0))
    assert [frame.captured_mono_ms for frame in frames] == [0, 250, 500, 750, 1000, 1250]


def test_a_videos_rate_is_limited_by_leaving_frames_out_without_a_gap_in_the_numbers(tmp_path: Path) -> None:
    frames = read_all(ReplayCamera(make_video(tmp_path), frames_per_s=5, live=False, now_ms=lambda: 0))
    assert [(frame.number, frame.captured_mono_ms) for frame in frames] == [(1, 0), (2, 200), (3, 400)]


@given(source=st.floats(1, 120), limit=st.floats(1, 120))
def test_thinning_never_gives_more_than_the_limit_nor_less_than_it_could(source: float, limit: float) -> None:
    seconds = 20
    images = (TimedImage(index * 1000 / source, grey(0)) for index in range(round(seconds * source)))
    count = len(list(thin(images, limit)))
    assert count <= seconds * limit * 1.12 + 1
    assert count >= min(source, limit) * seconds / 2 - 1


def test_sources_follow_each_other_with_a_gap_so_that_nobody_is_tracked_across(tmp_path: Path) -> None:
    sources = [*make_video(tmp_path), *make_gif(tmp_path)]
    frames = read_all(ReplayCamera(sources, live=False, now_ms=lambda: 0))
    assert [level_of(frame) for frame in frames] == [*LEVELS, *LEVELS]
    assert [frame.number for frame in frames] == list(range(1, 13))
    assert frames[6].captured_mono_ms - frames[5].captured_mono_ms == GAP_MS


def test_a_folder_plays_its_videos_and_pictures(tmp_path: Path) -> None:
    make_video(tmp_path)
    make_folder(tmp_path)
    frames = read_all(ReplayCamera([tmp_path], live=False))
    assert [level_of(frame) for frame in frames] == [*LEVELS, *LEVELS]


def test_repeating_begins_again_and_numbers_on(tmp_path: Path) -> None:
    with ReplayCamera(make_video(tmp_path), live=False, repeat=True, now_ms=lambda: 0) as camera:
        frames = [camera.read() for _ in range(8)]
    assert [level_of(frame) for frame in frames if frame] == [*LEVELS, *LEVELS[:2]]
    last = frames[-1]
    assert last is not None
    assert (last.number, last.captured_mono_ms) == (8, 500 + GAP_MS + 100)


def test_real_pace_waits_until_each_frame_is_due(tmp_path: Path) -> None:
    time = FakeTime()
    frames = read_all(ReplayCamera(make_video(tmp_path), now_ms=time.clock, wait=time.wait))
    assert time.waits == pytest.approx([0.1] * 5)
    assert [frame.captured_mono_ms - 5_000_000 for frame in frames] == [0, 100, 200, 300, 400, 500]


def test_a_slow_reader_in_real_pace_gets_the_newest_due_frame_and_sees_the_gap(tmp_path: Path) -> None:
    time = FakeTime()
    with ReplayCamera(make_video(tmp_path), now_ms=time.clock, wait=time.wait) as camera:
        camera.read()
        time.now_ms += 350
        frame = camera.read()
        following = camera.read()
    assert frame is not None
    assert (frame.number, level_of(frame)) == (4, 140)
    assert frame.captured_mono_ms == 5_000_300
    assert following is not None
    assert following.number == 5


def test_a_reader_that_is_later_than_the_end_still_gets_the_last_frame(tmp_path: Path) -> None:
    time = FakeTime()
    with ReplayCamera(make_video(tmp_path), now_ms=time.clock, wait=time.wait) as camera:
        camera.read()
        time.now_ms += 10_000
        frame = camera.read()
        assert frame is not None
        assert level_of(frame) == LEVELS[-1]
        assert camera.read() is None


def test_after_a_night_of_suspend_a_loop_goes_on_where_it_was(tmp_path: Path) -> None:
    time = FakeTime()
    with ReplayCamera(make_video(tmp_path), repeat=True, now_ms=time.clock, wait=time.wait) as camera:
        camera.read()
        time.now_ms += 8 * 3600 * 1000
        assert time.now_ms - 5_000_000 > PAUSE_MS
        frame = camera.read()
    assert frame is not None
    assert (frame.number, frame.captured_mono_ms) == (2, time.now_ms)


def test_a_stop_ends_the_waiting_for_the_next_frame(tmp_path: Path) -> None:
    time = FakeTime()
    with ReplayCamera(make_video(tmp_path), now_ms=time.clock, wait=time.wait) as camera:
        assert camera.read() is not None
        time.stop = True
        assert camera.read() is None


def test_the_configuration_chooses_the_camera(tmp_path: Path) -> None:
    clip = str(make_video(tmp_path)[0])
    stop = threading.Event()
    recording = open_camera(CameraConfig(sources=(clip,)), stop)
    assert isinstance(recording, ReplayCamera)
    assert recording.live
    assert not open_camera(CameraConfig(sources=(clip,), pace="fast"), stop).live
    assert isinstance(open_camera(CameraConfig(kind="picamera", device="1"), stop), PiCamera)
    assert isinstance(open_camera(CameraConfig(kind="v4l2"), stop), V4l2Camera)
    assert isinstance(open_camera(CameraConfig(kind="gstreamer"), stop), GstreamerCamera)
    assert isinstance(open_camera(CameraConfig(sources=(clip,), mirror=True), stop), ViewedCamera)
    stream = open_camera(CameraConfig(sources=("rtsp://127.0.0.1/door",)), stop)
    assert isinstance(stream, RtspCamera)
    assert stream.live
    stop.set()
    with recording:
        assert recording.read() is not None
        assert recording.read() is None


# What a person may name by mistake. The message has to say which file, and what would work.


def open_replay(*sources: Path) -> None:
    with ReplayCamera(sources, live=False) as camera:
        while camera.read() is not None:
            pass


def test_building_a_camera_opens_nothing(tmp_path: Path) -> None:
    ReplayCamera([tmp_path / "missing.mp4"])
    RtspCamera("rtsp://192.0.2.1/door")
    V4l2Camera("/dev/missing", size=(640, 480))
    PiCamera(7, size=(640, 480))
    GstreamerCamera("missingsrc", size=(640, 480))


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"no source; name videos \(MP4, .*\), pictures or folders"):
        open_replay()


@pytest.mark.parametrize("name", ["missing.mp4", "missing.png", "missing"])
def test_a_missing_source_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name}: there is no such file or folder"):
        open_replay(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.mp4", "empty.gif", "empty.png"])
def test_an_empty_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name}: the file is empty"):
        open_replay(tmp_path / name)


@pytest.mark.parametrize("name", ["text.mp4", "text.gif", "text.jpg", "text"])
def test_a_file_of_another_kind_is_refused_with_what_works(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("This is not a picture. " * 50)
    with pytest.raises(InputError, match=rf"{name}: .*JPEG, PNG, BMP and WebP"):
        open_replay(tmp_path / name)


def test_a_folder_without_pictures_is_refused_with_what_works(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(InputError, match=r"nothing in this folder can be played; pictures may be JPEG"):
        open_replay(tmp_path)


def test_a_stream_among_files_is_refused(tmp_path: Path) -> None:
    sources: list[str | Path] = [*make_video(tmp_path), "rtsp://user:secret@127.0.0.1/door"]
    with pytest.raises(InputError, match=r"rtsp://.* alone") as refused:
        ReplayCamera(sources).open()
    assert "secret" not in str(refused.value)


def test_a_file_that_cannot_be_played_shows_when_its_turn_comes(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("This is not a video. " * 50)
    with ReplayCamera([*make_video(tmp_path), tmp_path / "broken.mp4"], live=False) as camera:
        for _ in LEVELS:
            assert camera.read() is not None
        with pytest.raises(InputError, match=r"broken\.mp4: cannot be played"):
            camera.read()


def test_a_cut_off_video_gives_what_it_has_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = make_video(tmp_path)
    data = path.read_bytes()
    frame_starts = [
        match.start() for match in re.finditer(b"00dc", data) if match.start() > data.find(b"movi")
    ]
    path.write_bytes(data[: frame_starts[4]])
    frames = read_all(ReplayCamera([path], live=False))
    assert [level_of(frame) for frame in frames] == list(LEVELS[:4])
    assert "clip.avi broke off after 4 of 6 frames" in caplog.text


def test_a_whole_video_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_all(ReplayCamera([*make_video(tmp_path), *make_gif(tmp_path)], live=False))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_picture_that_is_cut_off_is_left_out_and_named_and_its_place_stays_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = make_pictures(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-30])
    frames = read_all(ReplayCamera(paths, live=False, now_ms=lambda: 0))
    assert [level_of(frame) for frame in frames] == [20, 100, 140, 180, 220]
    assert frames[1].captured_mono_ms == 2 * INTERVAL_MS
    assert "left out: " in caplog.text
    assert "frame9.png: it is damaged or cut off" in caplog.text


# Pictures.


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_the_header_tells_the_size_that_decoding_finds(suffix: str) -> None:
    for width, height in ((1, 1), (97, 31), (640, 480), (31, 1000)):
        data = cv2.imencode(suffix, np.zeros((height, width, 3), np.uint8))[1].tobytes()
        assert picture_size(data) == (width, height)


def test_a_lossless_and_a_transparent_webp_tell_their_size() -> None:
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    assert picture_size(cv2.imencode(".webp", grey(9), lossless)[1].tobytes()) == (WIDTH, HEIGHT)
    see_through = np.full((HEIGHT, WIDTH, 4), 99, np.uint8)
    assert picture_size(cv2.imencode(".webp", see_through)[1].tobytes()) == (WIDTH, HEIGHT)


def test_the_size_of_a_progressive_jpeg_and_of_a_bitmap_stored_from_the_top_is_told() -> None:
    progressive = cv2.imencode(".jpg", grey(9), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert picture_size(progressive) == (WIDTH, HEIGHT)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<Iii", 40, 30, -20)) == (30, 20)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, 30, 20)) == (30, 20)


def test_the_size_of_a_webp_is_told_for_each_of_its_three_kinds_and_of_no_fourth() -> None:
    """By hand after RFC 9649, since an OpenCV may write but one of them."""
    riff = b"RIFF\0\0\0\0WEBP"
    canvas = b"VP8X" + bytes(8) + (299).to_bytes(3, "little") + (199).to_bytes(3, "little")
    lossless = b"VP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 299 | 199 << 14) + bytes(8)
    lossy = b"VP8 " + bytes(10) + struct.pack("<HH", 300 | 1 << 14, 200)
    for picture in (canvas, lossless, lossy):
        assert picture_size(riff + picture) == (300, 200), picture[:4]
    assert picture_size(riff + b"VP9 " + bytes(30)) is None


def test_a_jpeg_with_fill_bytes_before_its_markers_tells_its_size() -> None:
    """Any marker may be preceded by any number of 0xFF (ITU-T T.81, B.1.1.2)."""
    plain = cv2.imencode(".jpg", grey(9))[1].tobytes()
    assert picture_size(plain[:2] + b"\xff\xff\xff" + plain[2:]) == (WIDTH, HEIGHT)


@given(
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF0000WEBPVP8 "]),
    rest=st.binary(max_size=60),
)
def test_any_bytes_at_all_have_a_size_or_none(start: bytes, rest: bytes) -> None:
    size = picture_size(start + rest)
    assert size is None or all(side >= 0 or start == b"BM" for side in size)


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 9), 200, np.uint8),
        np.full((8, 9, 4), 200, np.uint8),
        np.full((8, 9), 200 * 257, np.uint16),
        np.full((8, 9, 3), 200 * 257, np.uint16),
    ],
    ids=["grey", "transparent", "16 bits grey", "16 bits colour"],
)
def test_other_kinds_of_pixels_become_8_bit_bgr(array: Image, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "other.png"), array)
    image = read_picture(tmp_path / "other.png")
    assert image.shape == (8, 9, 3)
    assert image.dtype == np.uint8
    assert (image == 200).all()


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    sideways = np.zeros((40, 80, 3), np.uint8)
    sideways[:, :40] = 255
    jpeg = cv2.imencode(".jpg", sideways)[1].tobytes()
    # Orientation 6: the first row of the file is the right side of the picture.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "phone.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    image = read_picture(tmp_path / "phone.jpg")
    assert image.shape == (80, 40, 3)
    assert image[:30].mean() > 240
    assert image[50:].mean() < 15


def png_that_claims(width: int, height: int) -> bytes:
    """A whole, valid PNG header with hardly any data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    (tmp_path / "bomb.png").write_bytes(png_that_claims(30_000, 30_000))
    with pytest.raises(InputError, match=r"bomb\.png: the picture has 30000 x 30000 pixels; up to 50 mega"):
        read_picture(tmp_path / "bomb.png")


def test_a_picture_of_no_pixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flat.png").write_bytes(png_that_claims(0, 100))
    with pytest.raises(InputError, match=r"flat\.png: the picture has 0 x 100 pixels"):
        read_picture(tmp_path / "flat.png")


def test_a_gif_with_a_huge_canvas_is_refused(tmp_path: Path) -> None:
    (path,) = make_gif(tmp_path)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 60_000, 60_000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"clip\.gif: "):
        open_replay(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_picture_that_is_cut_off_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(7).integers(0, 255, (120, 160, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"part{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"part\.\w+: it is .*; pictures may be JPEG, PNG, BMP and WebP"):
        read_picture(path)


def test_a_missing_an_empty_and_an_overlong_picture_file_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"gone\.png: there is no such file"):
        read_picture(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png: the file is empty"):
        read_picture(tmp_path / "empty.png")
    monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", 10)
    (tmp_path / "long.png").write_bytes(bytes(11))
    with pytest.raises(InputError, match=r"long\.png: has 11 bytes; up to 10 are taken"):
        read_picture(tmp_path / "long.png")


def test_a_video_with_huge_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(InputError, match=r"clip\.avi: its frames have 96 x 64 pixels"):
        open_replay(*make_video(tmp_path))


def test_a_folder_named_as_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        read_picture(tmp_path)


def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    path = make_pictures(tmp_path)[0]
    path.chmod(0)
    with unprivileged(), pytest.raises(InputError, match=r"frame8\.png: cannot be read: Permission denied"):
        read_picture(path)


def test_a_clip_in_a_folder_that_may_not_be_entered_is_refused_by_name(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o000)
    with unprivileged(), pytest.raises(InputError, match=r"clip\.avi: cannot be read: Permission denied"):
        open_replay(shut / "clip.avi")


# Streams. The server is just enough RTSP (RFC 2326) and RTP for JPEG (RFC 2435), over one connection.


@contextmanager
def rtsp_server() -> Iterator[str]:
    """Plays LEVELS to everyone who connects, then hangs up; yields its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # the listener was closed: the test is over
                    return
                with connection:
                    play_levels(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"rtsp://user:secret@127.0.0.1:{listener.getsockname()[1]}/door"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def play_levels(connection: socket.socket) -> None:
    session = b"v=0\r\ns=door\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"
    extras = {
        b"OPTIONS": b"Public: DESCRIBE, SETUP, PLAY\r\n",
        b"DESCRIBE": b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(session),
        b"SETUP": b"Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
        b"PLAY": b"Session: 1\r\n",
    }
    with connection.makefile("rwb") as wire:
        method = b""
        while method != b"PLAY":
            request = list(iter(lambda: wire.readline().strip(), b""))
            if not request:
                return
            method = request[0].split()[0]
            (sequence,) = (line for line in request if line.startswith(b"CSeq"))
            body = session if method == b"DESCRIBE" else b""
            wire.write(b"RTSP/1.0 200 OK\r\n" + sequence + b"\r\n" + extras[method] + b"\r\n" + body)
            wire.flush()
        for number, level in enumerate(LEVELS):
            tables, scan = jpeg_parts(grey(level))
            rtp = struct.pack(">BBHII", 0x80, 0x80 | 26, number, number * 90 * INTERVAL_MS, 1)
            picture = struct.pack(">IBBBB", 0, 1, 255, WIDTH // 8, HEIGHT // 8)
            packet = rtp + picture + struct.pack(">HH", 0, len(tables)) + tables + scan
            wire.write(b"$\0" + struct.pack(">H", len(packet)) + packet)


def jpeg_parts(image: Image) -> tuple[bytes, bytes]:
    """Quantization tables and scan of a JPEG, which is all of it that RTP carries."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tables, at = b"", 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker == 0xDB:
            tables += b"".join(segment[begin + 1 : begin + 65] for begin in range(0, len(segment), 65))
        at += 2 + length
        if marker == 0xDA:
            return tables, data[at:-2]


def test_a_stream_that_ends_is_an_unavailable_camera_because_a_camera_does_not_end() -> None:
    with rtsp_server() as url, RtspCamera(url) as camera:
        for _ in LEVELS:
            assert camera.read() is not None
        with pytest.raises(CameraUnavailable, match="the stream stopped"):
            camera.read()


@pytest.mark.parametrize("source", ["http://user:secret@127.0.0.1/v.mjpg", "RTMP://user:secret@cam/x"])
def test_an_address_that_is_not_played_is_refused_without_its_password(source: str) -> None:
    """Regression: it was looked for as a file, and named as it stands in the log."""
    with pytest.raises(InputError, match="only rtsp:// and rtsps:// are played") as refused:
        replay.clips_of([source], 0.0)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("password", ["secret", "sec/ret", "s@cret/secret@secret"])
def test_no_password_shows_however_it_is_written(password: str) -> None:
    """Regression: with a stroke in it that is no %2F, it stood in the log, and in what the server was told."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    camera = open_camera(
        CameraConfig(sources=(f"RTSP://user:{password}@127.0.0.1:{port}/door",)), threading.Event()
    )
    with pytest.raises(
        CameraUnavailable, match=f"rtsp://127.0.0.1:{port}/door: the stream does not open"
    ) as refused:
        camera.open()
    assert "ret" not in str(refused.value)


def test_a_stream_that_nobody_serves_is_unavailable_and_the_message_keeps_the_password() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CameraUnavailable) as refused:
        RtspCamera(f"rtsp://user:secret@127.0.0.1:{port}/door").open()
    assert f"rtsp://127.0.0.1:{port}/door: the stream does not open" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_server_that_accepts_and_never_answers_is_given_up() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/door"
        with pytest.raises(CameraUnavailable, match="does not open"):
            RtspCamera(url, open_timeout_s=0.3).open()


def test_a_streams_rate_is_limited_by_the_clock() -> None:
    times = iter(range(0, 600, INTERVAL_MS))
    with rtsp_server() as url, RtspCamera(url, frames_per_s=5, now_ms=lambda: next(times)) as camera:
        frames = [camera.read() for _ in range(3)]
    assert [(frame.number, level_of(frame)) for frame in frames if frame] == [(1, 20), (2, 100), (3, 180)]


def test_reading_a_stream_that_is_not_open_says_so() -> None:
    with pytest.raises(CameraUnavailable, match="not open"):
        RtspCamera("rtsp://127.0.0.1/door").read()


class Undecodable:
    """An OpenCV capture that gets packets and can make no picture of them."""

    def __init__(self, *_: object) -> None:
        self.grabbed = 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def grab(self) -> bool:
        self.grabbed += 1
        return self.grabbed == 1

    def retrieve(self) -> tuple[bool, None]:
        return False, None

    def release(self) -> None:
        """Nothing is held."""


def test_a_stream_of_which_nothing_can_be_decoded_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Undecodable)
    with RtspCamera("rtsp://127.0.0.1/door") as camera, pytest.raises(CameraUnavailable, match="stopped"):
        camera.read()


# Real clips.

needs_data = pytest.mark.skipif(DATA is None, reason="HADIR_DATA does not name the evaluation data")


@needs_data
@pytest.mark.parametrize(
    ("name", "size", "count", "seconds"),
    [
        ("walking.gif", (480, 270), 35, 2.83),
        ("stage.mp4", (640, 360), 275, 9.14),
        ("distant-pedestrians.avi", (640, 480), 835, 33.36),
        ("several-people-00.mp4", (1280, 720), 433, None),
    ],
)
def test_real_clips_play_whole_and_at_their_own_rate(
    name: str, size: tuple[int, int], count: int, seconds: float | None
) -> None:
    times = []
    with ReplayCamera([Path(str(DATA)) / "video" / name], live=False, now_ms=lambda: 0) as camera:
        while (frame := camera.read()) is not None:
            assert frame.image.shape == (size[1], size[0], 3)
            times.append(frame.captured_mono_ms)
    assert len(times) == count
    assert all(later > earlier for earlier, later in pairwise(times))
    if seconds is not None:
        assert times[-1] == pytest.approx(seconds * 1000, abs=50)


@needs_data
def test_a_photograph_of_36_megapixels_is_read() -> None:
    photos = Path(str(DATA)) / "detection" / "compreface"
    largest = max(
        (path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")),
        key=lambda path: path.stat().st_size,
    )
    assert read_picture(largest).ndim == 3
