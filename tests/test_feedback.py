"""What people before the camera are shown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge.board.feedback import REPEAT_MS, LedFeedback, Signal, open_feedback, signal_for
from edge.config import FeedbackConfig
from edge.errors import ConfigError
from edge.records import Unclear


def a_light(folder: Path, name: str) -> Path:
    """As the kernel shows one in sysfs once its trigger is `oneshot`."""
    led = folder / name
    led.mkdir()
    for file in ("trigger", "delay_on", "delay_off", "shot"):
        (led / file).write_text("", encoding="ascii")
    return led


def test_a_light_blinks_once_for_its_signal_and_stays_dark_for_others(tmp_path: Path) -> None:
    amber = a_light(tmp_path, "hadir:amber")
    feedback = LedFeedback({Signal.COME_CLOSER: "hadir:amber"}, tmp_path)
    assert (amber / "trigger").read_text() == "oneshot"
    feedback.show(Signal.ATTENDANCE, 0)
    assert (amber / "shot").read_text() == ""
    feedback.show(Signal.COME_CLOSER, 0)
    assert (amber / "shot").read_text() == "1"


def test_a_light_that_is_not_there_stops_the_start_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hadir:amber: cannot be used .*lists the lights"):
        LedFeedback({Signal.COME_CLOSER: "hadir:amber"}, tmp_path)


def test_a_light_that_breaks_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    amber = a_light(tmp_path, "amber")
    feedback = LedFeedback({Signal.COME_CLOSER: "amber"}, tmp_path)
    (amber / "shot").unlink()
    (amber / "shot").mkdir()
    feedback.show(Signal.COME_CLOSER, 0)
    feedback.show(Signal.COME_CLOSER, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_without_a_light_the_log_says_it_and_not_with_every_frame(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    feedback = open_feedback(FeedbackConfig())
    for at_ms in (0, 100, REPEAT_MS - 1, REPEAT_MS):
        feedback.show(Signal.COME_CLOSER, at_ms)
        feedback.show(Signal.ATTENDANCE, at_ms)  # which has a line of its own
    assert [record.message for record in caplog.records] == ["feedback: come-closer"] * 2


def test_lights_are_opened_by_their_configured_names() -> None:
    with pytest.raises(ConfigError, match="no-such-light"):
        open_feedback(FeedbackConfig(kind="led", come_closer_led="no-such-light"))
    open_feedback(FeedbackConfig(kind="led"))


def test_who_is_too_close_is_not_asked_to_come_closer() -> None:
    assert signal_for(Unclear.TOO_CLOSE) is Signal.STEP_BACK
    assert {signal_for(reason) for reason in Unclear if reason is not Unclear.TOO_CLOSE} == {
        Signal.COME_CLOSER
    }
