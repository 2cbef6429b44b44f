"""The whole daemon, when its camera dies and comes back: nobody who passes afterwards is missed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from demo.broker import embedded_broker
from demo.consumer import listening
from edge.assembly import Eyes
from edge.records import Image
from provisioning.fleet import Fleet
from tests.conftest import People
from tests.doors import daemon, nobody, save_clip, set_up_board, templates, walk
from tests.fakes.streams import need_gst_launch, need_rtsp_server, rtsp_stream


def upside_down(images: Iterable[Image]) -> Iterator[Image]:
    """As a camera sees it that hangs from the ceiling."""
    return (np.ascontiguousarray(image[::-1, ::-1]) for image in images)


def served(clip: Path) -> str:
    """A pipeline that sends a clip at its own rate."""
    return (
        f"( filesrc location={clip} ! avidemux ! jpegdec ! videoconvert ! video/x-raw,format=I420 "
        "! jpegenc quality=95 ! rtpjpegpay name=pay0 )"
    )


def board_at(fleet: Fleet, eyes: Eyes, people: People, broker: str, port: int) -> Path:
    """A board that watches the stream on this port, from a camera that hangs upside down."""
    enrolled = templates(eyes, {"P44": people["P44"][:2]})
    stream = Path("STREAM")
    config = set_up_board(
        fleet, eyes, enrolled, broker_url=broker, clip=stream, camera="rotation = 180\nframes_per_s = 12\n"
    )
    config.write_text(config.read_text().replace('"STREAM"', f'"rtsp://127.0.0.1:{port}/door"'))
    return config


def test_a_stream_dies_and_comes_back_and_whoever_walks_past_then_is_recorded(
    fleet: Fleet, eyes: Eyes, people: People, tmp_path: Path
) -> None:
    need_rtsp_server()
    empty = save_clip(tmp_path / "empty.avi", upside_down(nobody(30)))
    busy = save_clip(tmp_path / "busy.avi", upside_down(walk(eyes, people["P44"][2])), upside_down(nobody()))
    with (
        embedded_broker() as broker,
        listening(broker, fleet.folder / "devices.jwks") as central,
        ExitStack() as dying,
    ):
        port = dying.enter_context(rtsp_stream(served(empty)))
        with daemon(board_at(fleet, eyes, people, broker, port)) as board:
            assert board.said("first frame processed"), board.log()
            dying.close()
            assert board.said("the stream stopped; opening it again in 1 s"), board.log()
            with rtsp_stream(served(busy), port):
                assert board.said("camera: good again"), board.log()
                assert board.said("attendance: track="), board.log()
                assert central.wait_for(2)
    assert [(event["event"], event["person"]) for event in central.events] == [
        ("start", None),
        ("attendance", "P44"),
    ]


def test_a_covered_lens_is_told_and_does_not_stop_the_daemon(fleet: Fleet, eyes: Eyes) -> None:
    need_gst_launch()
    config = set_up_board(fleet, eyes, {}, broker_url="mqtt://127.0.0.1:1", clip=Path("NONE"))
    black = 'kind = "gstreamer"\npipeline = "videotestsrc is-live=true pattern=black"\n'
    config.write_text(re.sub(r'kind = "replay"\nsources = .*\n', black, config.read_text()))
    with daemon(config) as board:
        assert board.said("the picture is black; is the lens covered, or all light off?"), board.log()
        board.process.send_signal(signal.SIGTERM)
        assert board.ended() == 0
