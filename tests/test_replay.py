"""A recording looked at: what became of everybody, told in lines and drawn into the pictures."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.boards import make_fleet
from edge.__main__ import main
from edge.annotate import Look, Mark, Rectangle, _Pen, annotate, enlargement, place
from edge.assembly import Eyes
from edge.camera.replay import ReplayCamera, claimed_frames
from edge.clip import CODECS, ClipWriter, frames_per_s, new_clip
from edge.config import Config, QualityConfig, load_config
from edge.errors import InputError
from edge.recognition.quality import unfit
from edge.records import (
    Box,
    Face,
    Frame,
    Image,
    Judgement,
    Match,
    NoAttendance,
    Quality,
    Sighting,
    Standing,
    Unclear,
    Vector,
    Verdict,
)
from edge.replay import (
    Drawing,
    Glimpse,
    Replay,
    TrackReport,
    Viewer,
    _progress,
    frames_of,
    open_viewer,
    replay,
    text_line,
)
from edge.replay_words import live_lines, measured
from edge.uplink.outbox import Outbox
from provisioning.fleet import Fleet
from tests.conftest import People
from tests.doors import nobody, save_clip, set_up_board, templates, walk
from tests.test_pipeline import make_road

NOBODY_LISTENS = "mqtt://127.0.0.1:1"


def tell() -> None:
    """Nobody waits for progress here."""


@pytest.fixture(scope="module")
def enrolled(eyes: Eyes, people: People) -> dict[str, Vector]:
    return templates(eyes, {"P44": people["P44"][:2]})


@pytest.fixture(scope="module")
def clip(eyes: Eyes, people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The enrolled person walks past, then a stranger."""
    path = tmp_path_factory.mktemp("clips") / "door.avi"
    first, second = walk(eyes, people["P44"][2], seed=1), walk(eyes, people["P46"][0], seed=2)
    return save_clip(path, first, nobody(), second, nobody(0.5))


@pytest.fixture(scope="module")
def board(
    eyes: Eyes, enrolled: dict[str, Vector], clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The configuration of a board at which the person is enrolled; its broker does not exist."""
    fleet: Fleet = make_fleet(tmp_path_factory.mktemp("replay") / "fleet", site="hq", devices=["door-01"])
    return set_up_board(fleet, eyes, enrolled, broker_url=NOBODY_LISTENS, clip=clip)


@pytest.fixture(scope="module")
def looked_at(board: Path, clip: Path) -> tuple[Viewer, Replay]:
    """The clip, gone through once; drawing does not change it."""
    viewer = open_viewer(load_config(board))
    return viewer, replay(viewer, str(clip), tell, keep_glimpses=True)


def pictures(path: Path) -> list[Image]:
    with ReplayCamera((str(path),), live=False) as camera:
        return [frame.image for frame in iter(camera.read, None)]


def in_order(viewer: Viewer, seen: Replay, clip: Path) -> Iterator[tuple[int, Frame, list[Mark]]]:
    drawing = Drawing(viewer, seen)
    for number, frame in enumerate(frames_of(viewer.camera, str(clip))):
        yield number, frame, drawing.marks(frame.image, number)


def test_each_track_is_a_line_that_says_what_became_of_it(
    board: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(clip), "--config", str(board)]) == 0
    out, err = capsys.readouterr()
    heading, *lines, summary = out.splitlines()
    assert heading.split() == ["track", "frames", "good", "time", "in", "clip", "outcome"]
    assert any("attendance of P44 at" in line and "similarity 0." in line for line in lines)
    assert any("nobody else enrolled)" in line for line in lines)
    assert any("no match (nearest P44, similarity" in line for line in lines)
    assert summary.startswith(f"{len(pictures(clip))} frames, ")
    assert "1 attendance" in summary
    assert "(median)" in summary
    assert "(95th percentile)" in summary
    assert err == "", "quiet where nobody watches a terminal"


def test_with_json_every_line_of_standard_output_is_a_track(
    board: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(clip), "--config", str(board), "--json"]) == 0
    out, err = capsys.readouterr()
    tracks = [json.loads(line) for line in out.splitlines()]
    assert [track["track"] for track in tracks] == sorted(track["track"] for track in tracks)
    (came,) = [track for track in tracks if track["outcome"] == "attendance"]
    assert (came["person"], came["nearest"]) == ("P44", "P44")
    assert came["from_s"] < came["attendance_s"] <= came["to_s"] < 4.0
    (stranger,) = [track for track in tracks if track["outcome"] == "no-match"]
    assert stranger["person"] is None
    assert stranger["nearest"] == "P44"
    assert stranger["similarity"] < came["similarity"]
    assert came["margin"] is None, "there is no runner-up where one person is enrolled"
    assert "(median)" in err


def test_the_same_is_decided_as_on_the_daemons_road(
    eyes: Eyes, enrolled: dict[str, Vector], clip: Path, looked_at: tuple[Viewer, Replay], tmp_path: Path
) -> None:
    with Outbox(tmp_path / "outbox.db") as outbox, ReplayCamera((str(clip),), live=False) as camera:
        road = make_road(eyes, outbox, enrolled)
        passages = [road.walk(frame) for frame in iter(camera.read, None)]
        ended = [end for passage in passages for end in passage.ended] + list(road.finish())
        came = [a for passage in passages for a in passage.attendances]
        assert outbox.waiting_count() == len(came) == 1
    _, seen = looked_at
    assert [(t.track, t.frames, t.good_frames, t.outcome) for t in seen.tracks] == [
        (end.track, end.frames, end.good_frames, end.outcome or "attendance") for end in ended
    ]
    (told,) = [track for track in seen.tracks if track.person is not None]
    assert told.match is not None
    assert (told.track, told.person) == (came[0].track, came[0].person)
    assert (told.match.similarity, told.match.margin) == (came[0].similarity, came[0].margin)


def test_nothing_is_kept_and_nobody_is_called(
    board: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker of the configuration does not exist, and the private key is not needed."""
    monkeypatch.chdir(tmp_path)
    key = load_config(board).device.key_file
    hidden = key.rename(key.with_suffix(".away"))
    before = sorted(board.parent.iterdir())
    try:
        assert main(["replay", str(clip), "--config", str(board)]) == 0
    finally:
        hidden.rename(key)
    assert sorted(path for path in board.parent.iterdir() if path != key) == [
        p for p in before if p != hidden
    ]
    assert not load_config(board).device.state_dir.exists()
    assert list(tmp_path.iterdir()) == []


def test_without_a_configuration_faces_are_followed_but_nobody_is_known(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(clip), "--json"]) == 0
    out, err = capsys.readouterr()
    outcomes = [json.loads(line)["outcome"] for line in out.splitlines()]
    assert outcomes.count("no-gallery") == 2
    assert "--config" in err


@pytest.mark.parametrize("name", ["seen.avi", "seen.mp4"])
def test_the_annotated_clip_has_every_frame_and_shows_boxes_where_the_faces_are(
    name: str, board: Path, clip: Path, looked_at: tuple[Viewer, Replay], tmp_path: Path
) -> None:
    out = tmp_path / name
    assert main(["replay", str(clip), "--config", str(board), "--annotate", str(out)]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [out], "nothing unfinished is left"
    before, after = pictures(clip), pictures(out)
    assert len(after) == len(before)
    _, seen = looked_at
    checked = 0
    for image, drawn, glimpses in zip(before, after, seen.glimpses, strict=True):
        changed = np.abs(image.astype(int) - drawn).max(axis=2)
        for glimpse in glimpses:
            box = glimpse.sighting.face.box
            x1, y1, x2, y2 = round(box.x1), round(box.y1), round(box.x2), round(box.y2)
            if x1 > 2 and y1 > 2 and x2 < 637 and y2 < 477:
                assert changed[y1 - 2 : y1 + 3, x1 : x1 + 4].max() > 40, "a corner of the frame"
                inside = changed[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6]
                assert np.median(inside) < 25, "and the face itself can be seen"
                checked += 1
    assert checked > 50


def test_while_a_track_runs_it_shows_what_is_missing_and_at_its_end_what_became_of_it(
    looked_at: tuple[Viewer, Replay], clip: Path
) -> None:
    viewer, seen = looked_at
    (came,) = [track for track in seen.tracks if track.person is not None]
    (stranger,) = [track for track in seen.tracks if track.outcome == NoAttendance.NO_MATCH]
    shown: dict[int, list[tuple[int, Mark]]] = {came.track: [], stranger.track: []}
    for number, _, marks in in_order(viewer, seen, clip):
        for mark in marks:
            track = int(mark.lines[0].split()[0].removeprefix("#"))
            if track in shown:
                shown[track].append((seen.times_ms[number], mark))
    first = shown[came.track][0][1]
    assert first.look is Look.UNDECIDED
    assert "too small: " in first.lines[0]
    assert "px (needs 40)" in first.lines[0]
    for at_ms, mark in shown[came.track]:
        assert (mark.look is Look.ATTENDANCE) == (at_ms >= (came.attendance_ms or 0))
    assert shown[came.track][-1][1].lines[0] == f"#{came.track} attendance: P44"
    at_ms, last = shown[stranger.track][-1]
    assert last.look is Look.NO_ATTENDANCE
    assert last.lines[:2] == (f"#{stranger.track} no attendance: no match", "nearest P44")
    assert stranger.to_ms <= at_ms <= stranger.to_ms + viewer.lost_after_ms
    assert {mark.look for at_ms, mark in shown[stranger.track] if at_ms <= stranger.to_ms - 1000} == {
        Look.UNDECIDED
    }, "not earlier: what was missing is shown until then"


def test_where_a_face_was_a_moment_ago_there_is_no_frame(
    looked_at: tuple[Viewer, Replay], clip: Path
) -> None:
    viewer, seen = looked_at
    held = 0
    for number, _, marks in in_order(viewer, seen, clip):
        assert sum(mark.seen for mark in marks) == len(seen.glimpses[number])
        held += sum(not mark.seen for mark in marks)
    assert held > 0


def bad_outputs(clip: Path) -> dict[str, str]:
    return {
        "another suffix": f"{clip.parent / 'seen.mkv'}",
        "the clip itself": f"{clip}",
        "no such folder": f"{clip.parent / 'missing' / 'seen.avi'}",
        "a folder": f"{clip.parent / 'folder.avi'}",
    }


@pytest.mark.parametrize("case", ["another suffix", "the clip itself", "no such folder", "a folder"])
def test_an_output_that_cannot_be_is_refused_by_name_before_anything_is_looked_at(
    case: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip.parent / "folder.avi").mkdir(exist_ok=True)
    before = clip.read_bytes()
    out = bad_outputs(clip)[case]
    assert main(["replay", str(clip), "--annotate", out]) == InputError.exit_code
    printed = capsys.readouterr()
    assert printed.err.startswith(f"hadir-edge: {out}: ")
    assert printed.out == ""
    assert clip.read_bytes() == before


def test_the_clip_under_another_name_and_a_place_inside_a_played_folder_are_refused(tmp_path: Path) -> None:
    played = tmp_path / "played"
    played.mkdir()
    clip = save_clip(played / "a.avi", nobody(0.3))
    again = tmp_path / "again.avi"
    os.link(clip, again)
    with pytest.raises(InputError, match="is what is played"), new_clip(again, str(clip)):
        pass
    with pytest.raises(InputError, match="lies in it"), new_clip(played / "b.avi", str(played)):
        pass


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("noise.avi", b"not a video at all", "cannot be played as a video"),
        ("empty.mp4", b"", "the file is empty"),
        ("missing.avi", None, "there is no such file"),
    ],
)
def test_a_clip_that_cannot_be_read_is_named_and_leaves_an_earlier_output_as_it_was(
    name: str, content: bytes | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / name, tmp_path / "seen.avi"
    if content is not None:
        source.write_bytes(content)
    out.write_bytes(b"from yesterday")
    assert main(["replay", str(source), "--annotate", str(out)]) == InputError.exit_code
    err = capsys.readouterr().err
    assert str(source) in err
    assert told in err
    assert out.read_bytes() == b"from yesterday"
    assert {path.name for path in tmp_path.iterdir()} <= {name, "seen.avi"}


def test_a_stream_is_refused_without_repeating_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "rtsp://admin:secret@127.0.0.1/door"]) == InputError.exit_code
    err = capsys.readouterr().err
    assert "record the stream" in err
    assert "secret" not in err


def write_on_a_full_disk(unfinished: Path) -> None:
    """A clip that is stopped after 100 kB by the limit on the size of files, which stands in for the disk."""
    writer = ClipWriter(unfinished, 12.0)
    rng = np.random.default_rng(1)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
    try:
        for _ in range(20):
            writer.write(rng.integers(0, 255, (240, 320, 3)).astype(np.uint8))
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    writer.check()


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_disk_that_fills_up_is_told_and_leaves_no_half_clip(suffix: str, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="is the disk full"),
        new_clip(tmp_path / f"seen{suffix}", "clip.avi") as unfinished,
    ):
        write_on_a_full_disk(unfinished)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_any_size_in_a_folder_become_one_clip(tmp_path: Path) -> None:
    out = tmp_path / "seen.avi"
    writer = ClipWriter(out, 10.0)
    for shape in ((241, 321, 3), (480, 640, 3), (100, 400, 3)):
        writer.write(np.full(shape, 200, np.uint8))
    writer.close()
    writer.check()
    assert [image.shape for image in pictures(out)] == [(242, 322, 3)] * 3
    flat = pictures(out)[2]
    assert flat[40, 160].min() > 150
    assert flat[200, 160].max() < 50, "black beside what has another shape"


def test_a_clip_keeps_its_pace_whatever_gap_lies_between_two_recordings() -> None:
    assert frames_per_s([0, 80, 160, 250, 2250, 2330]) == pytest.approx(12.1, abs=0.1)
    assert frames_per_s([0]) == 10.0


def test_the_number_of_frames_is_known_beforehand(clip: Path, tmp_path: Path) -> None:
    frames = len(pictures(clip))
    assert claimed_frames((str(clip),), 0) == frames
    assert claimed_frames((str(clip),), 6) == pytest.approx(frames / 2, abs=1)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((32, 32, 3), np.uint8))
    assert claimed_frames((str(tmp_path),), 0) == 3


rectangles = st.tuples(
    st.integers(0, 560), st.integers(0, 400), st.integers(10, 80), st.integers(10, 80)
).map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3]))


@given(st.lists(rectangles, min_size=1, max_size=4), st.integers(40, 200), st.integers(15, 70))
def test_words_are_on_the_picture_and_on_no_face_while_there_is_room(
    faces: list[Rectangle], width: int, height: int
) -> None:
    x1, y1, x2, y2 = place((width, height), faces[0], faces, (480, 640))
    assert (x2 - x1, y2 - y1) == (width, height)
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= 640
    assert y2 <= 480
    if len(faces) == 1:
        fx1, fy1, fx2, fy2 = faces[0]
        assert x2 <= fx1 or x1 >= fx2 or y2 <= fy1 or y1 >= fy2


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_words_and_frames_can_be_read_on_any_picture(grey: int) -> None:
    picture = np.full((480, 640, 3), grey, np.uint8)
    for look in Look:
        drawn = annotate(picture, [Mark(Box(300, 200, 360, 270), look, ("#1 first", "second"))], "0.00 s")
        words = cv2.cvtColor(drawn[178:192, 308:340], cv2.COLOR_BGR2GRAY)
        assert int(words.max()) - int(np.median(words)) > 120, look
        corner = drawn[197:204, 298:310].astype(int)
        assert corner.max() - corner.min() > 120, look
    assert (picture == grey).all(), "the picture that was given is not touched"


def test_states_can_be_told_apart_without_colour() -> None:
    picture = np.full((480, 640, 3), 128, np.uint8)
    box = Box(200, 200, 300, 300)
    drawn = {look: annotate(picture, [Mark(box, look, ("",))], "") for look in Look}
    top = {look: (image[200, 200:300].max(axis=1) != 128).mean() for look, image in drawn.items()}
    assert top[Look.ATTENDANCE] > 0.95
    assert 0.55 < top[Look.NO_ATTENDANCE] < 0.85
    assert 0.45 < top[Look.UNDECIDED] < 0.6
    middle = {look: (image[200, 230:270].max(axis=1) != 128).mean() for look, image in drawn.items()}
    assert middle[Look.UNDECIDED] < 0.05 < middle[Look.NO_ATTENDANCE]


def test_small_pictures_are_enlarged_so_that_words_fit_but_never_without_bound() -> None:
    assert enlargement(np.zeros((480, 640, 3), np.uint8)) == 1
    assert enlargement(np.zeros((270, 480, 3), np.uint8)) == 2
    assert enlargement(np.zeros((3, 9000, 3), np.uint8)) == 4


@pytest.mark.parametrize(
    ("quality", "told"),
    [
        (Quality(24.4, 50, 100, 0, 0), "too-small: 24 px (needs 40)"),
        (Quality(60, 6.04, 100, 0, 0), "too-blurred: 6.0 (needs 10)"),
        (Quality(60, 50, 11, 0, 0), "bad-light: 11 (30 to 235)"),
        (Quality(60, 50, 100, -0.9, 0), "turned-away: yaw 0.90 (at most 0.6)"),
        (Quality(60, 50, 100, 0, 0, 0.1), "cut-off: 0.10 above the eyes (needs 0.35)"),
        (Quality(60, 50, 100, 0.1, -50), "turned-away: tilt 50 deg (at most 35)"),
    ],
)
def test_what_was_measured_stands_beside_what_is_needed(quality: Quality, told: str) -> None:
    reason = unfit(quality, QualityConfig())
    assert reason is not None
    assert f"{reason}{measured(quality, QualityConfig(), reason)}" == told


def test_on_a_real_corridor_nobody_is_near_enough_and_each_walker_is_one_track(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip, out = data / "video/walking.gif", tmp_path / "seen.avi"
    assert main(["replay", str(clip), "--json", "--annotate", str(out)]) == 0
    tracks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(track["outcome"], track["frames"] > 30) for track in tracks] == [("too-small", True)] * 2
    drawn = pictures(out)
    assert len(drawn) == 35
    assert drawn[0].shape == (540, 960, 3)


def test_the_rate_limit_of_a_board_holds_for_a_recording_too(board: Path, clip: Path) -> None:
    config: Config = load_config(board)
    slow = board.with_name("slow.toml")
    slow.write_text(board.read_text().replace("[camera]", "[camera]\nframes_per_s = 6", 1))
    every = sum(1 for _ in frames_of(config.camera, str(clip)))
    assert sum(1 for _ in frames_of(load_config(slow).camera, str(clip))) == pytest.approx(every / 2, abs=1)


def test_on_a_terminal_a_bar_shows_how_far_looking_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = save_clip(tmp_path / "empty.avi", nobody(0.5))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["replay", str(clip), "--annotate", str(tmp_path / "seen.avi")]) == 0
    told = capsys.readouterr()
    frames = claimed_frames((str(clip),), 0)
    for task in ("looking", "drawing"):
        assert f"{task} [{'#' * 30}] {frames} of {frames}" in told.err
    assert "#" not in told.out


def test_a_clip_with_more_frames_than_its_header_claims_leaves_the_bar_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _progress("looking", 2) as step:
        for _ in range(5):
            step()
    assert capsys.readouterr().err.endswith("2 of 2, 0 s left\x1b[K\n")


def test_what_is_no_picture_for_the_road_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One pixel can be read from a file, and the road takes it for no picture."""
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((1, 1, 3), np.uint8))
    assert main(["replay", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told == "1 frames, 0.0 s; tracks: none; 1 frames were not pictures and were left out\n"


def test_nobody_reading_what_it_prints_is_no_traceback(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((64, 64, 3), np.uint8))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "edge", "replay", str(tmp_path)]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert done.returncode == os.EX_IOERR
    assert done.stderr.splitlines()[-1] == "hadir-edge: nobody reads what is printed any more"
    assert "Traceback" not in done.stderr


def test_a_clip_that_this_opencv_cannot_write_says_which_kind_may_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODECS, ".avi", "????")
    writer = ClipWriter(tmp_path / "seen.avi", 12.0)
    with pytest.raises(InputError, match=r"cannot write \.avi \(\?\?\?\?, 64 x 48\); name \*\.mp4"):
        writer.write(np.zeros((48, 64, 3), np.uint8))


def test_words_far_from_their_face_are_tied_to_it_by_a_line() -> None:
    """Where a crowd leaves no room near it, one could take them for another's."""
    picture = np.full((480, 640, 3), 128, np.uint8)
    pen = _Pen(picture)
    near, far, frame = (10, 160, 110, 190), (10, 10, 110, 40), (10, 200, 60, 260)
    pen.leader(near, frame, Look.ATTENDANCE)
    assert (picture == 128).all(), "beside its face nobody needs a line"
    pen.leader(far, frame, Look.ATTENDANCE)
    between = picture[60:180]
    assert (between == Look.ATTENDANCE.value).all(axis=2).any(axis=1).all(), "from the words down to the face"
    for x, frame in ((200, (400, 300, 450, 360)), (550, (460, 380, 500, 420))):
        pen.leader((x, 300, x + 60, 420), frame, Look.UNDECIDED)
    for left, right in ((262, 398), (502, 548)):
        between = picture[300:420, left:right]
        assert (between == Look.UNDECIDED.value).all(axis=2).any(axis=0).all(), "and to either side"


def test_a_small_picture_is_drawn_on_enlarged_and_its_boxes_with_it() -> None:
    picture = np.full((120, 160, 3), 128, np.uint8)
    drawn = annotate(picture, [Mark(Box(60, 50, 100, 90), Look.ATTENDANCE, ("",))], "")
    assert drawn.shape == (480, 640, 3)
    assert (drawn[200, 240:400] != 128).any(axis=1).mean() > 0.95


# Words for what one clip of two people does not show.


def report(outcome: str, match: Match | None, attendance_ms: int | None = None) -> TrackReport:
    return TrackReport(7, 30, 5, outcome, match, from_ms=0, to_ms=3000, attendance_ms=attendance_ms)


AMONG_OTHERS = Match("P44", 0.61, 0.42)
ALONE = Match("P44", 0.61, -1.0)


def test_a_track_of_which_nothing_was_compared_is_told_without_a_similarity() -> None:
    assert text_line(report(NoAttendance.TOO_SHORT, None)).endswith("0.0 to 3.0 s      too short")
    assert text_line(report(NoAttendance.NO_MATCH, AMONG_OTHERS)).endswith(
        "no match (nearest P44, similarity 0.61, margin 0.19)"
    )
    assert text_line(report("attendance", ALONE, 900)).endswith(
        "attendance of P44 at 0.9 s (similarity 0.61, nobody else enrolled)"
    )


def drawing_of(viewer: Viewer, track: TrackReport, standing: Standing, *, face: Face) -> Drawing:
    """One frame a second with this face in the first; afterwards nobody."""
    glimpse = Glimpse(Sighting(track.track, face, 0), standing)
    times_ms = [0, 400, 800]
    return Drawing(viewer, Replay(tracks=[track], glimpses=[(glimpse,), (), ()], times_ms=times_ms))


FRONT = Face(
    Box(40, 40, 100, 120), np.array([(55, 65), (85, 65), (70, 80), (58, 98), (82, 98)], np.float32), 0.9
)
BLANK = np.full((160, 160, 3), 128, np.uint8)


def test_somebody_who_comes_again_is_told_from_a_stranger(looked_at: tuple[Viewer, Replay]) -> None:
    viewer = looked_at[0]
    track = report(NoAttendance.COOLDOWN, AMONG_OTHERS)
    standing = Standing(5, None, AMONG_OTHERS, NoAttendance.COOLDOWN, open=False)
    (mark,) = drawing_of(viewer, track, standing, face=FRONT).marks(BLANK, 0)
    assert mark.look is Look.NO_ATTENDANCE
    assert mark.lines == (
        "#7 no attendance: cooldown",
        f"P44 again within {viewer.decide.cooldown_s:g} s",
        f"similarity 0.61 (needs {viewer.threshold:.2f})",
        f"margin 0.19 (needs {viewer.decide.min_margin:.2f})",
    )


def test_an_attendance_of_which_no_comparison_is_kept_names_the_person_alone(
    looked_at: tuple[Viewer, Replay],
) -> None:
    track = report("attendance", None, 0)
    standing = Standing(5, None, None, None, open=False)
    (mark,) = drawing_of(looked_at[0], track, standing, face=FRONT).marks(BLANK, 0)
    assert (mark.look, len(mark.lines)) == (Look.ATTENDANCE, 1)


def test_a_face_without_a_shape_is_told_without_a_measure(looked_at: tuple[Viewer, Replay]) -> None:
    """Its keypoints are all in one place, so there is nothing to measure."""
    shapeless = replace(FRONT, keypoints=np.full((5, 2), 70, np.float32))
    standing = Standing(0, NoAttendance.TURNED_AWAY, None, NoAttendance.TURNED_AWAY, open=True)
    track = replace(report(NoAttendance.TURNED_AWAY, None), to_ms=9000)
    (mark,) = drawing_of(looked_at[0], track, standing, face=shapeless).marks(BLANK, 0)
    assert mark.lines == ("#7 turned away",)


def test_a_face_that_is_gone_for_good_says_so_while_its_last_place_is_shown(
    looked_at: tuple[Viewer, Replay],
) -> None:
    """It was last seen while it was still open, more than a second before its track ended."""
    track = replace(report(NoAttendance.TOO_SHORT, None), to_ms=1300)
    standing = Standing(1, None, None, NoAttendance.TOO_SHORT, open=True)
    drawing = drawing_of(looked_at[0], track, standing, face=FRONT)
    (first,), (second,) = drawing.marks(BLANK, 0), drawing.marks(BLANK, 1)
    assert (first.look, first.seen) == (Look.UNDECIDED, True)
    assert (second.look, second.seen, second.lines) == (
        Look.NO_ATTENDANCE,
        False,
        ("#7 no attendance: too short",),
    )


def test_a_reason_without_a_measure_is_told_alone() -> None:
    good = Quality(60, 50, 100, 0, 0)
    assert measured(good, QualityConfig(), NoAttendance.TOO_SHORT) == ""


def test_what_is_known_of_liveness_is_drawn_and_why_not_more() -> None:
    judged = Judgement(Verdict.UNDECIDED, liveness=0.812, frames=4, unclear=None)
    assert live_lines(judged) == ("liveness 0.81 in 4 frames",)
    small = dataclasses.replace(judged, liveness=None, unclear=Unclear.TOO_SMALL)
    assert live_lines(small) == ("liveness: too small",)
    assert live_lines(dataclasses.replace(judged, unclear=Unclear.AT_EDGE)) == (
        "liveness 0.81 in 4 frames: at edge",
    )
    assert live_lines(None) == live_lines(dataclasses.replace(judged, liveness=None)) == ()


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_a_clip_of_pictures_of_all_shapes_can_be_written(suffix: str, tmp_path: Path) -> None:
    """Regression: a strip among them ended in a traceback, and 4x4 pixels as AVI in a crash of OpenCV's writer, so
    that this runs in a process of its own."""
    program = (
        "import sys, numpy as np; from pathlib import Path; from edge.clip import ClipWriter\n"
        "for sizes in ([(4, 4)], [(1, 1), (480, 640)], [(480, 640), (20, 20000), (20000, 20), (1, 1)]):\n"
        "    clip = ClipWriter(Path(sys.argv[1]), 10.0)\n"
        "    for height, width in sizes:\n"
        "        clip.write(np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8))\n"
        "    clip.close()\n"
        "    clip.check()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / f"seen{suffix}")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
