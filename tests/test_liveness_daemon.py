"""The daemon before a phone with somebody's picture on it: no attendance, one attack, nobody named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.broker import embedded_broker
from demo.consumer import listening
from edge.assembly import Eyes
from edge.evaluate.replays import FRAME_PX, draw_held, fill_screen, hold_up
from edge.records import Image
from provisioning.fleet import Fleet
from tests.conftest import People
from tests.doors import daemon, nobody, save_clip, set_up_board, templates

FRAMES = 40
PHONE_SEED = 4
"""A phone on which the face is found and recognised in every frame."""


def held_up(eyes: Eyes, photo: Path) -> Iterator[Image]:
    """Somebody's portrait on a phone, for three seconds."""
    image = cv2.imread(str(photo))
    assert image is not None
    scale = 900 / max(image.shape[:2])
    picture = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    face = max(eyes.detector.detect(picture), key=lambda face: face.box.width_px)
    screen = fill_screen(picture, face.box.centre, face.box.width_px, 2.2)
    wall = np.full((FRAME_PX[1], FRAME_PX[0], 3), 140, np.uint8)
    held = draw_held(np.random.default_rng(PHONE_SEED))
    rng = np.random.default_rng(0)
    return (hold_up(screen, wall, held, number / 12, rng) for number in range(FRAMES))


@pytest.fixture
def clip(eyes: Eyes, people: People, tmp_path: Path) -> Path:
    return save_clip(tmp_path / "phone.avi", nobody(), held_up(eyes, people["P44"][0]), nobody())


@dataclass(frozen=True, slots=True)
class Told:
    """What the consumer received, and what the daemon logged, until the clip was over."""

    events: list[tuple[str, str | None]]
    log: str


def watch(fleet: Fleet, eyes: Eyes, people: People, clip: Path, settings: str, events: int) -> Told:
    """The daemon on this clip, until its end, with a consumer that waits for so many events."""
    with embedded_broker() as url:
        config = board_with(fleet, eyes, people, clip, url, settings)
        with listening(url, fleet.folder / "devices.jwks") as central, daemon(config) as board:
            assert board.ended() == 0, board.log()
            assert central.wait_for(events)
    return Told([(event["event"], event["person"]) for event in central.events], board.log())


def board_with(fleet: Fleet, eyes: Eyes, people: People, clip: Path, url: str, settings: str) -> Path:
    enrolled = templates(eyes, {"P44": people["P44"]})
    return set_up_board(fleet, eyes, enrolled, broker_url=url, clip=clip, extra=settings)


def test_a_phone_with_somebodys_picture_is_an_attack_and_no_attendance(
    fleet: Fleet, eyes: Eyes, people: People, clip: Path, live_models: Path
) -> None:
    settings = (
        f'[recognition]\nmodels_dir = "{live_models}"\n[liveness]\nrequired = true\nattack_events = true\n'
    )
    told = watch(fleet, eyes, people, clip, settings, events=2)
    assert told.events == [("start", None), ("attack", None)]
    assert "liveness=on" in told.log
    assert "attack: track=" in told.log
    assert "outcome=attack" in told.log
    assert "outcome=attendance" not in told.log
    assert "P44" not in told.log


def test_without_liveness_the_same_phone_is_an_attendance_and_the_log_warns_of_that(
    fleet: Fleet, eyes: Eyes, people: People, clip: Path, models_without_liveness: Path
) -> None:
    settings = f'[recognition]\nmodels_dir = "{models_without_liveness}"\n[liveness]\nenabled = true\n'
    told = watch(fleet, eyes, people, clip, settings, events=2)
    assert told.events == [("start", None), ("attendance", "P44")]
    assert "liveness is off: a photograph of somebody enrolled passes" in told.log


def test_a_board_that_must_have_liveness_does_not_start_without_its_models(
    fleet: Fleet, eyes: Eyes, people: People, clip: Path, models_without_liveness: Path
) -> None:
    settings = f'[recognition]\nmodels_dir = "{models_without_liveness}"\n[liveness]\nrequired = true\n'
    config = board_with(fleet, eyes, people, clip, "mqtt://127.0.0.1:1", settings)
    with daemon(config) as board:
        assert board.ended() == 78  # EX_CONFIG
    assert "liveness.toml is not there; run `make liveness`" in board.log()


def test_who_is_recognised_and_cannot_be_judged_is_asked_to_come_closer_and_nothing_is_recorded(
    fleet: Fleet, eyes: Eyes, people: People, clip: Path, live_models: Path
) -> None:
    settings = f'[recognition]\nmodels_dir = "{live_models}"\n[liveness]\nmin_face_px = 500\n'
    told = watch(fleet, eyes, people, clip, settings, events=1)
    assert told.events == [("start", None)]
    assert told.log.count("feedback: come-closer") == 1
    assert "outcome=not-surely-live" in told.log
    assert "unclear-too-small=" in told.log
