"""`hadir-edge evaluate liveness`: how errors are counted, what is rendered, and what the command says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.walkpast import write_clip
from edge.config import LivenessConfig
from edge.errors import InputError
from edge.evaluate.attack_rates import Rate
from edge.evaluate.cues import Pictures, cues_report, moves_with_surround, size_jumps, stillness, try_cues
from edge.evaluate.figures import Figure
from edge.evaluate.liveness import decisions, figures, frames, measure, parts, report, windows
from edge.evaluate.liveness_cli import open_observer
from edge.evaluate.liveness_report import liveness_report
from edge.evaluate.liveness_stress import CHANGES, stress, stress_report
from edge.evaluate.looks import Look, Observer, Seen, Track, observe, together
from edge.evaluate.presentations import Presentation, open_presentations
from edge.evaluate.replay_attacks import LENGTH, rendered_replays
from edge.evaluate.replays import FRAME_PX, draw_held, fill_screen, hold_up
from edge.records import Box, Image, Unclear
from tests.conftest import People

LIMITS = LivenessConfig()
BOX = Box(100, 100, 200, 230)


def no_frames() -> Iterator[tuple[float, Image]]:
    return iter(())


def presentation(name: str, kind: str = "live", group: str = "") -> Presentation:
    return Presentation(name, kind, group or name, no_frames, photographs=False)


def track(values: Sequence[float | None], name: str = "a", kind: str = "live") -> Track:
    """A track with this liveness in each frame; None is undecided."""
    looks = (
        Look(number, BOX, value, None if value is not None else Unclear.TOO_SMALL)
        for number, value in enumerate(values)
    )
    return Track(presentation(name, kind), tuple(looks))


def seen(*tracks: Track) -> Seen:
    return Seen(tuple(track.presentation for track in tracks), tracks, Counter(), ())


def test_a_window_needs_as_many_judged_frames_as_a_decision() -> None:
    some: list[float | None] = [0.5, None, 0.7, 0.6, None, 0.9, 0.8]
    assert [item.liveness for item in windows([track(some)], length=7, least=5)] == [pytest.approx(0.7)]
    assert [item.liveness for item in windows([track(some)], length=7, least=6)] == [None]
    assert [item.first for item in windows([track([0.5] * 11)], length=5, least=5)] == [0, 5]


def test_a_track_is_decided_as_the_daemon_decides_it() -> None:
    tracks = [
        track([0.9] * 5),
        track([0.1] * 9),
        track([0.1] * 10),
        track([0.1, 0.1, 0.1] + [0.9] * 10),
        track([None] * 20),
        track([0.9] * 4),  # too short to be decided at all
    ]
    found = [item.liveness for item in decisions(tracks, 0.5, LIMITS)]
    assert found == [1.0, None, 0.0, 1.0, None]


def test_errors_are_counted_by_kind_of_attack_and_with_their_bounds() -> None:
    result = measure(
        seen(
            track([0.9] * 10, "a"),
            track([0.3] * 5 + [None] * 5, "b"),
            track([0.1] * 10, "c", "print"),
            track([0.8] * 10, "d", "phone"),
        ),
        0.5,
        LIMITS,
    )
    assert result.frame.by_kind == {"phone": Rate(10, 10), "print": Rate(0, 10)}
    assert result.frame.bpcer == Rate(10, 20)
    assert result.frame.undecided_live == Rate(5, 20)
    assert result.frame.acer_percent == pytest.approx((100 + 50) / 2)
    ten = result.windows[-1]
    assert (ten.apcer, ten.bpcer, ten.undecided_live) == (Rate(1, 2), Rate(1, 2), Rate(0, 2))


def value(found: dict[str, Figure], key: str) -> float:
    return found[key].value


def test_the_figures_have_the_keys_that_documents_name() -> None:
    result = measure(seen(track([0.9] * 10, "a"), track([0.1] * 10, "c", "print")), 0.5, LIMITS)
    found = figures(result)
    assert {"apcer", "apcer_upper", "bpcer", "bpcer_upper", "eer", "eer_upper"} <= set(found)
    assert (value(found, "apcer"), value(found, "bpcer"), value(found, "eer")) == (0, 0, 0)
    assert value(found, "apcer_upper") == pytest.approx(100 * (1 - 0.05 ** (1 / 10)))
    assert value(found, "apcer_print_window10_upper") == pytest.approx(95)


def test_with_one_label_only_there_is_no_eer_and_nothing_to_choose() -> None:
    result = measure(seen(track([0.9] * 10)), 0.5, LIMITS)
    assert result.eer is None
    assert result.checked == ()
    assert "eer" not in figures(result)
    assert "BPCER: 0.0 % (0 of 10, below 25.9 %)" in report(seen(track([0.9] * 10)), result)


def test_nobody_is_in_the_half_that_chooses_and_in_the_half_that_reports() -> None:
    tracks = [
        Track(presentation(f"{kind}/{number}", kind, group=f"S{number}"), ())
        for kind in ("live", "print")
        for number in range(7)
    ]
    choosing, reporting = parts(tracks)
    assert {t.presentation.group for t in choosing} & {t.presentation.group for t in reporting} == set()
    assert {t.presentation.kind for t in choosing} == {t.presentation.kind for t in reporting}
    assert len(choosing) + len(reporting) == len(tracks)


def portrait(people: People) -> Image:
    image = cv2.imread(str(people["P44"][0]))
    assert image is not None
    scale = 900 / max(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.fixture(scope="module")
def observer(live_models: Path) -> Observer:
    return open_observer(live_models)


def test_a_rendered_phone_shows_the_face_in_its_rim_and_moves(people: People, observer: Observer) -> None:
    picture = portrait(people)
    face = max(observer.detector.detect(picture), key=lambda face: face.box.width_px)
    screen = fill_screen(picture, face.box.centre, face.box.width_px, 2.0)
    wall = np.full((FRAME_PX[1], FRAME_PX[0], 3), 150, np.uint8)
    held = draw_held(np.random.default_rng(3))
    first = hold_up(screen, wall, held, 0.0, np.random.default_rng(0))
    later = hold_up(screen, wall, held, 0.4, np.random.default_rng(0))
    again = hold_up(screen, wall, held, 0.0, np.random.default_rng(0))
    assert first.shape == (FRAME_PX[1], FRAME_PX[0], 3)
    assert np.array_equal(first, again), "the same seed gives the same replay"
    boxes = [observer.detector.detect(image)[0].box for image in (first, later)]
    assert boxes[0].width_px == pytest.approx(held.share * FRAME_PX[1] / (1 + 2 * held.rim) / 2, rel=0.25)
    assert np.hypot(*np.subtract(boxes[0].centre, boxes[1].centre)) > 1
    assert abs(int(first[5, 5, 0]) - 150) < 20, "the scene around it"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, people: People, observer: Observer) -> Path:
    """A still of a person as the live clip, and a phone with it as the attack: not true, but a folder."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "live").mkdir()
    (folder / "attack" / "phone").mkdir(parents=True)
    picture = portrait(people)
    face = max(observer.detector.detect(picture), key=lambda face: face.box.width_px)
    scale = 110 / face.box.width_px
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    scene = np.full((480, 640, 3), 140, np.uint8)
    height, width = min(480, small.shape[0]), min(600, small.shape[1])
    images = []
    for step in range(LENGTH + 2):
        frame = scene.copy()
        frame[480 - height :, step : step + width] = small[:height, :width]
        images.append(frame)
    write_clip(folder / "live" / "p44.avi", images, 10.0)
    screen = fill_screen(picture, face.box.centre, face.box.width_px, 2.0)
    held = draw_held(np.random.default_rng(4))
    rng = np.random.default_rng(5)
    shown = [hold_up(screen, scene, held, 0.1 * step, rng) for step in range(LENGTH)]
    write_clip(folder / "attack" / "phone" / "p44.avi", shown, 10.0)
    return folder


def test_replays_are_rendered_from_live_videos_and_count_as_attacks(
    labelled: Path, observer: Observer
) -> None:
    found = observe(open_presentations(labelled), observer)
    replays = rendered_replays(found, 2, observer.detector)
    assert [(replay.kind, replay.live) for replay in replays] == [("rendered-replay", False)] * 2
    first = [image for _, image in replays[0].frames()]
    assert len(first) == LENGTH
    assert all(np.array_equal(a, b) for a, (_, b) in zip(first, replays[0].frames(), strict=True))
    both = together(found, observe(replays, observer))
    assert len(both.presentations) == len(found.presentations) + 2
    assert rendered_replays(seen(track([0.9] * 20, kind="print")), 2, observer.detector) == []


def test_stress_makes_undecided_of_what_is_too_noisy_too_blurred_or_too_small(
    labelled: Path, observer: Observer
) -> None:
    found = observe(open_presentations(labelled), observer)
    stressed = {one.name: one for one in stress(found, observer, 0.5, most=5)}
    assert set(stressed) == set(CHANGES)
    assert stressed["as they are"].undecided_live.errors == 0
    for name in (
        "noise, 20 grey levels",
        "blur, 0.12 face widths",
        "face of 36 px",
        "cut to 1.8 face widths",
    ):
        one = stressed[name]
        assert one.undecided_live.errors == one.undecided_live.trials > 0, name
        assert one.apcer.errors == 0, "what cannot be judged is never live"
    assert "noise, 20 grey levels" in stress_report(list(stressed.values()))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", "evaluate", "liveness", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_tells_writes_and_shows(labelled: Path, live_models: Path, tmp_path: Path) -> None:
    result = run(
        str(labelled), "--models-dir", str(live_models), "--live-from", "0.5", "--replays", "1", "--cues",
        "--json", str(tmp_path / "out.json"), "--html", str(tmp_path / "out.html"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "APCER phone: " in result.stdout
    assert "APCER rendered-replay: " in result.stdout
    assert "tracks as the daemon decides" in result.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["name"] == "evaluate liveness"
    assert written["figures"]["live_from"]["value"] == 0.5
    page = (tmp_path / "out.html").read_text()
    assert "Attacks that looked most alive" in page
    assert "data:image/jpeg;base64," in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page), "it needs nothing but itself"
    assert (tmp_path / "out.html").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--live-from", "2"], "must be a number from 0 to 1"),
        (["--replays", "-1"], "must be a whole number from 0"),
        (["--crop-widths", "0.5,4"], "must be numbers from 1 to 10"),
        (["--crop-widths", "wide"], "must be numbers from 1 to 10"),
        (["--live-from", "much"], "must be a number from 0 to 1"),
        (["--json", "no/such/folder/x.json"], "cannot be written"),
        (["--html", "no/such/folder/x.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_looked_at(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    result = run(str(tmp_path), *arguments)
    assert result.returncode != 0
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_without_the_models_it_says_how_to_make_them(tmp_path: Path, models_without_liveness: Path) -> None:
    result = run(str(tmp_path), "--models-dir", str(models_without_liveness))
    assert result.returncode == 78
    assert "make liveness" in result.stderr


def test_a_report_of_nothing_says_so() -> None:
    result = measure(seen(track([None] * 10)), 0.5, LIMITS)
    page = liveness_report("command", "folder", seen(track([None] * 10)), result)
    assert page.count("None.") == 2
    assert "Too few presentations to divide" in page


def moving(step: float, carried: bool) -> Pictures:
    """A face that moves by `step` pixels a frame; what is around it is carried along, or stays."""
    rng = np.random.default_rng(9)
    coarse = rng.integers(0, 256, (60, 80)).astype(np.float32)
    scene = np.asarray(cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_LINEAR), np.float32)
    pictures = []
    for number in range(10):
        shift = round(step * number)
        picture = np.roll(scene, shift, axis=1) if carried else scene
        pictures.append((Look(number, Box(200 + shift, 180, 280 + shift, 290), 0.5, None), picture))
    return pictures


def test_what_moves_with_its_surround_is_told_from_what_moves_before_it() -> None:
    assert moves_with_surround(moving(8, carried=True)) > 1
    assert moves_with_surround(moving(8, carried=False)) < -1
    assert moves_with_surround(moving(0, carried=True)) == 0, "who stands still tells nothing"


def test_jumps_and_stillness_are_measured() -> None:
    still = moving(0, carried=False)
    assert size_jumps(still) == 0
    larger = (Look(10, Box(200, 180, 320, 345), 0.5, None), still[0][1])
    assert size_jumps([*still, larger]) == pytest.approx(np.log(1.5))
    assert stillness(still) == 0
    assert stillness(moving(8, carried=False)) < -1


def test_cues_need_both_labels_in_both_halves() -> None:
    assert try_cues(seen(track([0.9] * 10), track([0.1] * 10, "c", "print")), 10, 5) == []


def test_a_cue_is_tried_with_weights_that_one_half_chooses() -> None:
    """Four clips of still scenes, in which the models take both attacks for live."""

    def still() -> Iterator[tuple[float, Image]]:
        picture = np.full((480, 640, 3), 128, np.uint8)
        return ((100.0 * number, picture) for number in range(10))

    tracks = []
    for number, kind in enumerate(["live", "live", "print", "print"]):
        shown = Presentation(f"{kind}/{number}", kind, str(number), still, photographs=False)
        tracks.append(Track(shown, track([0.6 if kind == "live" else 0.7] * 10).looks))
    tried = try_cues(seen(*tracks), 10, 5)
    assert {one.weight for one in tried} == {0}, "a scene in which nothing moves tells nothing"
    assert {one.alone for one in tried} == {0.5}
    assert tried[0].reporting == (Rate(1, 1), Rate(1, 1))
    assert "alone right in 50 % of pairs" in cues_report(tried)


def test_frames_are_counted_one_by_one() -> None:
    assert len(list(frames([track([0.5, None, 0.5])]))) == 3


def four_clips() -> Seen:
    """Two live people and two prints, which one threshold divides."""
    return seen(
        track([0.9] * 10, "a"),
        track([0.8] * 10, "b"),
        track([0.1] * 10, "c", "print"),
        track([0.2] * 9 + [None], "d", "print"),
    )


def test_a_threshold_that_one_half_chose_is_reported_on_the_other() -> None:
    result = measure(four_clips(), 0.5, LIMITS)
    assert [checked.level.name for checked in result.checked] == [
        "single frames",
        "windows of 5 frames",
        "windows of 10 frames",
    ]
    assert [round(checked.chosen.live_from, 2) for checked in result.checked] == [0.5] * 3
    text = report(four_clips(), result)
    assert "Threshold 0.500, chosen on one half, on the other:" in text
    assert "attacks undecided: 5.0 % (1 of 20, below 21.6 %)" in text
    assert value(figures(result), "chosen_live_from") == pytest.approx(0.5)
    page = liveness_report("command", "folder", four_clips(), result)
    assert "<td>0.500</td>" in page


def test_the_report_names_what_had_no_face_and_counts_what_was_not_looked_at() -> None:
    found = Seen((presentation("empty"),), (), Counter({"too-small": 3}), ("empty",))
    result = measure(found, 0.5, LIMITS)
    text = report(found, result)
    assert "no usable face: empty" in text
    assert "would not have looked at: 3 too-small" in text
    assert "single frames: none" in text
    page = liveness_report("command", "folder", found, result)
    assert "Without a face that could be looked at: empty" in page


def test_crops_of_other_widths_can_be_tried(live_models: Path) -> None:
    assert [m.crop_widths for m in open_observer(live_models, (2.7, 4.4)).models.spec.models] == [2.7, 4.4]
    with pytest.raises(InputError, match="1 widths for 2 models"):
        open_observer(live_models, (2.7,))


def test_replays_need_a_live_video_with_a_face(tmp_path: Path, live_models: Path) -> None:
    (tmp_path / "live").mkdir()
    write_clip(tmp_path / "live" / "wall.avi", [np.full((480, 640, 3), 128, np.uint8)] * 3, 10.0)
    result = run(str(tmp_path), "--models-dir", str(live_models), "--replays", "1")
    assert result.returncode == 65
    assert "no live video here shows a face" in result.stderr
    assert "Traceback" not in result.stderr


def test_stress_is_told_by_the_command(tmp_path: Path, live_models: Path, people: People) -> None:
    (tmp_path / "live").mkdir()
    assert cv2.imwrite(str(tmp_path / "live" / "p44.png"), portrait(people))
    result = run(str(tmp_path), "--models-dir", str(live_models), "--stress")
    assert result.returncode == 0, result.stderr
    assert "JPEG of quality 15" in result.stdout
    assert "(0 frames of attacks, 1 of live people)" in result.stdout
