"""What is peculiar to the Pi's camera, to USB and to GStreamer, and what each says when it fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera import Camera, Origin
from edge.camera.gstreamer import GstreamerCamera, _Child, command, csi_source, origin_of
from edge.camera.picamera import BUFFERS, PiCamera
from edge.camera.rtsp import FFMPEG_OPTIONS, RtspCamera
from edge.camera.v4l2 import MAX_UNREADABLE, V4l2Camera
from edge.errors import CameraUnavailable
from edge.records import Image
from tests.fakes import picamera2
from tests.fakes.streams import need_gst_launch, rtsp_stream
from tests.fakes.v4l2 import UsbCamera

WIDTH, HEIGHT = 98, 64
"""A width that neither the Pi's hardware nor GStreamer likes: both pad its rows."""

BLUE_IN_BGR = (200, 60, 10)


def picture(colour: tuple[int, int, int] = BLUE_IN_BGR) -> Image:
    """One colour, brighter towards the right, so that a shifted row shows."""
    image = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    image[..., 1] += np.arange(WIDTH, dtype=np.uint8)
    return image


def ticking(step_ms: int) -> Callable[[], int]:
    times = iter(range(1_000_000, 2_000_000, step_ms))
    return lambda: next(times)


def read_on(camera: Camera) -> None:
    """Until it raises; what was already on its way still comes."""
    while True:
        camera.read()


# The Pi's camera.


@pytest.fixture
def sensor(monkeypatch: pytest.MonkeyPatch) -> picamera2.Sensor:
    """A Pi with one camera, which sees twenty pictures."""
    monkeypatch.setitem(sys.modules, "picamera2", picamera2)
    monkeypatch.setattr(picamera2, "sensor", picamera2.Sensor([picture()] * 20))
    return picamera2.sensor


def pi_camera(number: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT), **options: float) -> PiCamera:
    return PiCamera(number, size=size, read_timeout_s=0.05, frames_per_s=options.get("frames_per_s", 0.0))


def test_the_pis_colours_are_the_right_way_round_and_its_padding_is_gone(sensor: picamera2.Sensor) -> None:
    with pi_camera() as camera:
        frame = camera.read()
    assert frame is not None
    assert (frame.image == picture()).all()


def test_an_odd_size_is_read_as_libcamera_adjusted_it(sensor: picamera2.Sensor) -> None:
    with pi_camera(size=(WIDTH - 1, HEIGHT - 1)) as camera:
        frame = camera.read()
    assert frame is not None
    assert (frame.image == picture()[: HEIGHT - 2, : WIDTH - 2]).all()


def test_the_pis_queue_never_starves_because_every_request_is_given_back(sensor: picamera2.Sensor) -> None:
    with pi_camera() as camera:
        for _ in range(5 * BUFFERS):
            assert camera.read() is not None
            assert sensor.held == 0


def test_the_fake_starves_when_requests_are_kept_so_that_the_test_above_means_something(
    sensor: picamera2.Sensor,
) -> None:
    camera = picamera2.Picamera2(0)
    camera.configure(camera.create_video_configuration({"format": "RGB888", "size": (8, 8)}, buffer_count=2))
    camera.start()
    kept: list[picamera2.Request] = []
    for _ in range(3):
        camera.capture_request(signal_function=lambda job: kept.append(job.get_result()))
    assert len(kept) == 2
    with pytest.raises(AssertionError, match="waits in line"):
        camera.stop()


def test_a_rate_limit_gives_back_what_it_leaves_out(sensor: picamera2.Sensor) -> None:
    with PiCamera(0, size=(WIDTH, HEIGHT), frames_per_s=10, now_ms=ticking(33)) as camera:
        numbers = [frame.number for frame in (camera.read() for _ in range(4)) if frame]
    assert numbers == [1, 2, 3, 4]
    assert sensor.held == 0


def test_a_pi_camera_that_hangs_is_noticed_and_can_be_opened_again(sensor: picamera2.Sensor) -> None:
    sensor.scenes = [picture()]
    camera = pi_camera()
    camera.open()
    assert camera.read() is not None
    with pytest.raises(CameraUnavailable, match=r"camera 0 gave no picture for 0\.05 s"):
        camera.read()
    assert not sensor.opened, "closed at once, because the late request would be nobody's"
    camera.open()
    assert camera.read() is not None
    camera.close()


def test_an_error_inside_picamera2_gives_the_request_back_too(sensor: picamera2.Sensor) -> None:
    sensor.fail_at_frame = 1
    with pi_camera() as camera:
        assert camera.read() is not None
        with pytest.raises(CameraUnavailable, match=r"broke off .*Cannot allocate memory"):
            camera.read()
        assert sensor.held == 0


def test_a_pi_without_a_camera_says_where_to_look(sensor: picamera2.Sensor) -> None:
    sensor.cameras = 0
    with pytest.raises(CameraUnavailable, match=r"camera 0 does not open .*ribbon cable.*--list-cameras"):
        pi_camera().open()


def test_a_camera_in_use_by_another_is_unavailable_and_nothing_of_the_other_is_closed(
    sensor: picamera2.Sensor,
) -> None:
    with pi_camera():
        with pytest.raises(CameraUnavailable, match="busy"):
            pi_camera().open()
        assert sensor.opened


def test_a_camera_that_does_not_close_well_is_only_a_warning(
    sensor: picamera2.Sensor, caplog: pytest.LogCaptureFixture
) -> None:
    sensor.closing_fails = True
    with pi_camera():
        pass
    assert "did not close well" in caplog.text


def test_without_picamera2_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraUnavailable, match=r"apt install python3-picamera2.*--system-site-packages"):
        pi_camera().open()


# USB.


def usb_camera(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    scenes: list[Image | None],
    size: tuple[int, int] | None = None,
) -> UsbCamera:
    usb = UsbCamera(scenes, size or (WIDTH, HEIGHT))
    monkeypatch.setattr(cv2, "VideoCapture", usb.capture)
    (folder / "video0").touch()
    return usb


def test_a_usb_camera_is_asked_for_mjpg_at_size_and_rate_and_read_within_four_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", raising=False)
    usb = usb_camera(monkeypatch, tmp_path, [picture()])
    with V4l2Camera("0", size=(WIDTH, HEIGHT), frames_per_s=10, folder=tmp_path) as camera:
        assert camera.read() is not None
    assert usb.opened == [str(tmp_path / "video0")]
    assert next(iter(usb.asked)) == cv2.CAP_PROP_FOURCC, "the sizes on offer depend on the format"
    assert usb.asked == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT,
        cv2.CAP_PROP_FPS: 10,
    }
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "4"


def test_a_usb_camera_can_be_named_by_a_path_that_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usb = usb_camera(monkeypatch, tmp_path, [picture()])
    stable = tmp_path / "usb-door-index0"
    stable.symlink_to(tmp_path / "video0")
    with V4l2Camera(str(stable), size=(WIDTH, HEIGHT), folder=tmp_path) as camera:
        assert camera.read() is not None
    assert usb.opened == [str(stable)]


def test_a_missing_usb_camera_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(
        CameraUnavailable, match=rf"video3: there is no such camera; no {tmp_path}/video\* is"
    ):
        V4l2Camera("3", size=(640, 480), folder=tmp_path).open()
    (tmp_path / "video0").touch()
    (tmp_path / "video1").touch()
    with pytest.raises(CameraUnavailable, match=rf"are there: {tmp_path}/video0, {tmp_path}/video1"):
        V4l2Camera("/dev/v4l/by-id/usb-gone", size=(640, 480), folder=tmp_path).open()


def test_a_device_that_is_no_camera_does_not_open_for_real(tmp_path: Path) -> None:
    """OpenCV itself, with a plain file in the place of a device."""
    (tmp_path / "video0").touch()
    with pytest.raises(CameraUnavailable, match=r"video0: the camera does not open; is another program"):
        V4l2Camera("0", size=(640, 480), folder=tmp_path).open()


def test_a_usb_camera_in_use_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usb = usb_camera(monkeypatch, tmp_path, [])
    usb.busy = True
    with pytest.raises(CameraUnavailable, match="another program using it"):
        V4l2Camera("0", size=(WIDTH, HEIGHT), folder=tmp_path).open()


def test_an_unplugged_usb_camera_is_unavailable_and_let_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usb = usb_camera(monkeypatch, tmp_path, [picture()])
    with V4l2Camera("0", size=(WIDTH, HEIGHT), folder=tmp_path) as camera:
        assert camera.read() is not None
        with pytest.raises(CameraUnavailable, match=r"video0: .* was it unplugged\?"):
            camera.read()
    assert usb.in_use == 0


def test_a_few_broken_jpegs_are_passed_over_and_many_are_a_broken_camera(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usb_camera(monkeypatch, tmp_path, [None, None, picture(), *[None] * MAX_UNREADABLE])
    with V4l2Camera("0", size=(WIDTH, HEIGHT), folder=tmp_path) as camera:
        frame = camera.read()
        assert frame is not None
        assert frame.number == 1
        with pytest.raises(CameraUnavailable, match="30 pictures in a row could not be decoded"):
            camera.read()


def test_what_is_beyond_the_rate_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usb = usb_camera(monkeypatch, tmp_path, [picture()] * 30)
    camera = V4l2Camera("0", size=(WIDTH, HEIGHT), frames_per_s=10, folder=tmp_path, now_ms=ticking(33))
    with camera:
        for _ in range(5):
            camera.read()
    assert usb.decoded == 5


def test_another_size_than_was_asked_for_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    usb_camera(monkeypatch, tmp_path, [picture()], size=(1280, 720))
    with V4l2Camera("0", size=(640, 480), folder=tmp_path):
        pass
    assert "asked for 640x480, the camera gives 1280x720" in caplog.text


# GStreamer, for real.


@pytest.fixture
def gst() -> None:
    need_gst_launch()


def test_a_jetsons_preset_takes_the_sensor_and_the_size() -> None:
    arguments = command(csi_source(1, (1280, 720)), (1280, 720))
    assert arguments[:4] == ["gst-launch-1.0", "-q", "nvarguscamerasrc", "sensor-id=1"]
    assert "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1" in arguments
    assert arguments[-2:] == ["fdsink", "fd=1"]


def test_a_configured_pipeline_is_split_as_a_shell_would_but_nothing_in_it_is_run() -> None:
    arguments = command("videotestsrc ! 'video/x-raw, width=64' ! identity name=$(reboot);reboot", (64, 48))
    assert arguments[2:8] == [
        "videotestsrc",
        "!",
        "video/x-raw, width=64",
        "!",
        "identity",
        "name=$(reboot);reboot",
    ]


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        (csi_source(0, (640, 480)), Origin.SENSOR),
        ("v4l2src device=/dev/video0 ! image/jpeg ! jpegdec", Origin.SENSOR),
        ("rtspsrc location=rtsp://camera.local/door ! decodebin", Origin.STREAM),
        ("udpsrc port=5000 ! rtph264depay ! h264parse ! nvv4l2decoder ! nvvidconv", Origin.STREAM),
    ],
)
def test_a_pipeline_that_decodes_a_stream_may_repeat_itself_for_as_long_as_a_stream(
    source: str, origin: Origin
) -> None:
    assert GstreamerCamera(source, size=(640, 480)).origin is origin_of(source) is origin


def test_padded_rows_and_colours_of_gstreamer_come_out_right(gst: None) -> None:
    """Red, green and blue as a test source draws them; a row of 98 pixels is 294 bytes, padded to 296."""
    for colour, bgr in ((0xFFC80A0A, (10, 10, 200)), (0xFF0A0AC8, (200, 10, 10))):
        source = f"videotestsrc num-buffers=1 pattern=solid-color foreground-color={colour}"
        with GstreamerCamera(source, size=(WIDTH, HEIGHT)) as camera:
            frame = camera.read()
        assert frame is not None
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(frame.image.astype(int) - bgr).max() <= 4


def test_large_frames_come_whole(gst: None) -> None:
    source = "videotestsrc num-buffers=3 pattern=gradient ! video/x-raw,framerate=30/1"
    with GstreamerCamera(source, size=(1920, 1080)) as camera:
        frame = camera.read()
    assert frame is not None
    means = frame.image.mean(axis=(1, 2))
    assert (np.diff(means) >= -1).all(), "a gradient from top to bottom, without a seam"


def test_a_pipeline_that_hangs_is_noticed_and_its_process_is_gone(gst: None) -> None:
    camera = GstreamerCamera("videotestsrc is-live=true", size=(WIDTH, HEIGHT), read_timeout_s=0.2)
    camera.open()
    child = children()[0]
    assert camera.read() is not None
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(CameraUnavailable, match=r"no picture for 0\.2 s"):
        read_on(camera)
    os.kill(child, signal.SIGCONT)
    camera.close()
    assert child not in children()


def test_a_stopped_process_that_does_not_end_when_asked_is_killed(
    gst: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.camera.gstreamer.END_TIMEOUT_S", 0.1)
    with GstreamerCamera("videotestsrc is-live=true", size=(WIDTH, HEIGHT)):
        child = children()[0]
        os.kill(child, signal.SIGSTOP)
    assert child not in children()


def test_a_pipeline_that_dies_says_so_and_can_be_opened_again(gst: None) -> None:
    camera = GstreamerCamera("videotestsrc is-live=true", size=(WIDTH, HEIGHT))
    camera.open()
    os.kill(children()[0], signal.SIGKILL)
    with pytest.raises(CameraUnavailable, match="the pipeline ended"):
        read_on(camera)
    camera.close()
    with camera:
        assert camera.read() is not None
    assert not children()


def test_what_the_child_said_is_in_the_error(gst: None) -> None:
    with pytest.raises(CameraUnavailable, match=r"it said: .*[Nn]o such file"):
        GstreamerCamera("v4l2src device=/dev/video99", size=(WIDTH, HEIGHT)).open()
    assert not children()


def test_of_a_child_that_says_much_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why it ends last, and the pipe of pictures may be at its end before all of that was read."""
    monkeypatch.setattr("edge.camera.gstreamer.CHUNK_BYTES", 1000)
    child = _Child(["/bin/sh", "-c", "yes nonsense | head -c 5000 >&2; echo the sensor is gone >&2"])
    child._process.wait(20)
    with pytest.raises(CameraUnavailable, match=r"it said: .*the sensor is gone$") as ended:
        child.read(10, timeout_s=20)
    assert len(str(ended.value)) < 2200
    child.end()


def test_an_element_that_does_not_exist_is_named(gst: None) -> None:
    with pytest.raises(CameraUnavailable, match=r'the pipeline ended; it said: .*no element "nosuchsrc"'):
        GstreamerCamera("nosuchsrc", size=(WIDTH, HEIGHT)).open()


def test_a_pipelines_rate_is_limited_by_the_clock(gst: None) -> None:
    now = iter(range(0, 10**6, 50))
    source = "videotestsrc is-live=true ! video/x-raw,framerate=100/1"
    with GstreamerCamera(source, size=(WIDTH, HEIGHT), frames_per_s=5, now_ms=lambda: next(now)) as camera:
        frames = [frame for frame in (camera.read() for _ in range(4)) if frame]
    assert [frame.number for frame in frames] == [1, 2, 3, 4]
    assert [frame.captured_mono_ms for frame in frames] == [0, 200, 400, 600]


def test_without_gstreamer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.camera.gstreamer.PROGRAM", "gst-launch-that-is-not-there")
    with pytest.raises(CameraUnavailable, match=r"install gstreamer1\.0-tools"):
        GstreamerCamera("videotestsrc", size=(WIDTH, HEIGHT)).open()


def children() -> list[int]:
    """Processes that this one has started and not yet reaped."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


# RTSP, for real.

BALL = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=96,height=64,framerate=25/1"


def test_a_stream_that_dies_without_a_word_is_noticed_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
    launch = f"( {BALL} ! jpegenc ! rtpjpegpay name=pay0 )"
    with rtsp_stream(launch) as port:
        camera = RtspCamera(f"rtsp://127.0.0.1:{port}/door", read_timeout_s=1)
        camera.open()
        assert camera.read() is not None
    with pytest.raises(CameraUnavailable, match="the stream stopped"):
        read_on(camera)
    camera.close()
    with pytest.raises(CameraUnavailable, match="does not open"):
        camera.open()
    with rtsp_stream(launch, port), camera:
        assert camera.read() is not None
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == FFMPEG_OPTIONS


def test_a_stream_whose_server_stands_still_is_given_up_in_time() -> None:
    with rtsp_stream(f"( {BALL} ! jpegenc ! rtpjpegpay name=pay0 )") as port:
        server = children()[0]
        with RtspCamera(f"rtsp://127.0.0.1:{port}/door", read_timeout_s=0.5) as camera:
            assert camera.read() is not None
            os.kill(server, signal.SIGSTOP)
            began_s = time.monotonic()
            with pytest.raises(CameraUnavailable, match="the stream stopped"):
                read_on(camera)
            assert time.monotonic() - began_s < 5
