"""How the board answers people before its camera, behind one small protocol.

What is shown is fast, silent about who was seen, and never a reason to stop: an
attendance counts whether or not a light works.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from edge.config import FeedbackConfig
from edge.errors import ConfigError
from edge.records import Unclear

log = logging.getLogger(__name__)

LEDS = Path("/sys/class/leds")
"""The kernel's lights (Documentation/leds/leds-class.rst)."""

BLINK_MS = 700
"""Of one answer: seen from the corner of an eye, over before the next person."""

REPEAT_MS = 5000
"""The log says the same again only after so long; a light shows it each time."""


class Signal(StrEnum):
    """What can be said."""

    ATTENDANCE = "attendance"
    """You were recognised, and it is written down."""
    COME_CLOSER = "come-closer"
    """You were recognised, but not seen well enough to be told from a picture."""
    STEP_BACK = "step-back"
    """The same, because nothing can be seen around your face."""


def signal_for(reason: Unclear) -> Signal:
    """What whoever could not be judged should do about it."""
    return Signal.STEP_BACK if reason is Unclear.TOO_CLOSE else Signal.COME_CLOSER


class Feedback(Protocol):
    """A light, a buzzer, a display."""

    def show(self, signal: Signal, now_mono_ms: int, /) -> None:
        """Say it, at once; raises nothing, because nothing waits for it."""
        ...


class LogFeedback:
    """For boards without a light: lines in the log."""

    def __init__(self) -> None:
        self._said_mono_ms: dict[Signal, int] = {}

    def show(self, signal: Signal, now_mono_ms: int, /) -> None:
        """Write what a light would show. Attendances have a line of their own already."""
        last_mono_ms = self._said_mono_ms.get(signal)
        if signal is Signal.ATTENDANCE or (
            last_mono_ms is not None and now_mono_ms - last_mono_ms < REPEAT_MS
        ):
            return
        self._said_mono_ms[signal] = now_mono_ms
        log.info("feedback: %s", signal)


class LedFeedback:
    """Lights of the board, each blinking once for one signal.

    The kernel's `oneshot` trigger does the blinking (Documentation/leds/ledtrig-oneshot.rst),
    so no thread waits for the end of it.

    Raises ConfigError where a light is not there or may not be used.
    """

    def __init__(self, names: dict[Signal, str], folder: Path = LEDS) -> None:
        self._shots = {signal: _prepared(folder / name) for signal, name in names.items()}

    def show(self, signal: Signal, now_mono_ms: int, /) -> None:
        """Blink the light of this signal, if it has one."""
        shot = self._shots.get(signal)
        if shot is None:
            return
        try:
            shot.write_text("1", encoding="ascii")
        except OSError as error:
            del self._shots[signal]
            log.warning("feedback: %s: %s; it stays dark", shot, error.strerror)


def _prepared(led: Path) -> Path:
    """Set a light to blink when asked; what is to be written to then."""
    try:
        (led / "trigger").write_text("oneshot", encoding="ascii")
        # These appear with the trigger.
        (led / "delay_on").write_text(str(BLINK_MS), encoding="ascii")
        (led / "delay_off").write_text("1", encoding="ascii")
    except OSError as error:
        raise ConfigError(
            f"feedback: {led}: cannot be used ({error.strerror}); `ls {led.parent}` lists the lights, and the "
            "daemon's user must be allowed to write there"
        ) from error
    return led / "shot"


def open_feedback(config: FeedbackConfig) -> Feedback:
    """What the configuration asks for. Raises ConfigError where a light cannot be used."""
    if config.kind == "log":
        return LogFeedback()
    names = {
        Signal.ATTENDANCE: config.attendance_led,
        Signal.COME_CLOSER: config.come_closer_led,
        Signal.STEP_BACK: config.step_back_led,
    }
    return LedFeedback({signal: name for signal, name in names.items() if name})
