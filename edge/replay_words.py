"""What a replayed clip has written beside its faces: reasons, with what was measured and what is needed."""

from __future__ import annotations

from edge.config import QualityConfig
from edge.records import Judgement, NoAttendance, Quality


def words(outcome: str) -> str:
    """An outcome to be read by people."""
    return outcome.replace("-", " ")


def live_lines(judgement: Judgement | None) -> tuple[str, ...]:
    """What is known about liveness, and why not more; nothing where no model was asked."""
    if judgement is None or (judgement.liveness is None and judgement.unclear is None):
        return ()
    mean = "" if judgement.liveness is None else f" {judgement.liveness:.2f} in {judgement.frames} frames"
    return (f"liveness{mean}{'' if judgement.unclear is None else ': ' + words(judgement.unclear)}",)


def measured(quality: Quality, limits: QualityConfig, reason: NoAttendance) -> str:
    """What was measured and what is needed, as `: 24 px (needs 40)`; nothing where the reason has no measure."""
    turned = abs(quality.yaw) > limits.max_yaw
    told = {
        NoAttendance.TOO_SMALL: f": {quality.face_px:.0f} px (needs {limits.min_face_px:.0f})",
        NoAttendance.TOO_BLURRED: f": {quality.sharpness:.1f} (needs {limits.min_sharpness:g})",
        NoAttendance.BAD_LIGHT: (
            f": {quality.brightness:.0f} ({limits.min_brightness:g} to {limits.max_brightness:g})"
        ),
        NoAttendance.CUT_OFF: (
            f": {quality.above_eyes:.2f} above the eyes (needs {limits.min_above_eyes:g})"
        ),
        NoAttendance.TURNED_AWAY: (
            f": yaw {abs(quality.yaw):.2f} (at most {limits.max_yaw:g})"
            if turned
            else f": tilt {abs(quality.roll_deg):.0f} deg (at most {limits.max_roll_deg:g})"
        ),
    }
    return told.get(reason, "")
