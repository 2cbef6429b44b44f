"""Readings to verdicts: plain functions, time included, and the numbers that they judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from edge.board.clock import RELEASED_REAL_MS
from edge.board.health import Memory, Space, Temperature, Throttling
from edge.check.findings import Finding, failure, ok, warning
from edge.config import QualityConfig
from edge.records import ClockState, NoAttendance, TimeReading
from edge.trust.revocations import RevocationList
from edge.uplink.glimpse import Glimpse

MB = 1_000_000

LOW_SPACE_BYTES = 256 * MB
"""An event takes about 1 kB with its index, so this is 250,000 events, or months of a busy door."""

NO_SPACE_BYTES = 16 * MB
"""SQLite's log grows to 4 MB before it is folded in (PRAGMA wal_autocheckpoint), twice that while somebody reads."""

LOW_MEMORY_BYTES = 100 * MB
"""The daemon needs 175 MB with all default models (DESIGN.md); with less than this left, the kernel kills soon."""

HOT_C = 80.0
"""A Raspberry Pi begins to slow down (documentation of `config.txt`, temp_limit)."""

TOO_HOT_C = 95.0
"""Ten degrees above a Raspberry Pi's limit, and about where a Jetson Orin slows down."""

LATE_MS = 10 * 60 * 1000
"""An event is sent within a second; a broker that is restarted is back within minutes."""

MIN_FRAME_SHARPNESS = 30.0
"""Of the sharpest tile. Own measurement: eleven clips and portraits have 265 and more; blurred by three
pixels (Gaussian, at 640 wide) all have less than 29. Noise counts as sharpness, so in bad light it says too much."""

BLACK = 3.0
"""Mean grey level of a covered lens: video black is 0, and noise adds a little."""

ENDS_SOON_S = 30 * 24 * 3600
"""Time for an administrator to come by with a new certificate: DESIGN.md's 30 days of warning."""


@dataclass(frozen=True, slots=True)
class View:
    """What the camera saw in a second or two."""

    width: int
    height: int
    frames: int
    brightness: float
    """Mean grey level of the last picture, 0 to 255."""
    sharpness: float
    """Variance of the Laplacian in the sharpest tile of that picture."""
    moving: bool
    """Whether any two pictures differed in any bit: a sensor's noise alone makes them."""
    face_px: float | None
    """Width of the face that came nearest to being recognised; None where there was none."""
    unfit: NoAttendance | None
    """Why that face would not be looked at closer."""


def judge_view(view: View, limits: QualityConfig, *, recorded: bool) -> Finding:
    """Light and focus. The limits of light are those for faces: a face is about as bright as its surroundings."""
    size = f"{view.width}x{view.height}"
    if view.brightness < BLACK:
        return failure(
            "camera",
            f"{size}, but black",
            "take off the lens cap, and check the camera's cable and the light",
        )
    if view.brightness < limits.min_brightness:
        return warning(
            "camera",
            f"{size}, dark (mean grey {view.brightness:.0f} of 255)",
            "light the door from the camera's side",
        )
    if view.brightness > limits.max_brightness:
        return warning(
            "camera",
            f"{size}, far too bright (mean grey {view.brightness:.0f} of 255)",
            "turn the camera away from the sun or window, or lower its exposure",
        )
    if view.frames > 1 and not view.moving and not recorded:
        return failure(
            "camera",
            f"{size}, frozen: {view.frames} pictures without one bit of difference",
            "unplug the camera and plug it in again, or restart it; then look at its cable",
        )
    if view.sharpness < MIN_FRAME_SHARPNESS:
        return warning(
            "camera",
            f"{size}, nothing in it is sharp ({view.sharpness:.0f}; a door has {MIN_FRAME_SHARPNESS:.0f} and more)",
            "clean the lens and turn it until the door's edges are sharp",
        )
    seen = f"{size}, {view.frames} pictures, light {view.brightness:.0f} of 255, sharp ({view.sharpness:.0f})"
    return _judge_face(seen, view)


def _judge_face(seen: str, view: View) -> Finding:
    """Nobody in view is no fault; somebody who could not be recognised is worth a word."""
    if view.face_px is None:
        return ok("camera", f"{seen}; no face in view: stand where people pass and check again")
    face = f"{seen}; a face, {view.face_px:.0f} px wide"
    if view.unfit is None:
        return ok("camera", f"{face}, good enough to recognise")
    return warning("camera", f"{face}, not good enough: {view.unfit}", _FACE_REMEDIES[view.unfit])


_FACE_REMEDIES = {
    NoAttendance.TOO_SMALL: "move the camera nearer, or use a longer lens",
    NoAttendance.TURNED_AWAY: "mount the camera at eye height, where people look as they pass",
    NoAttendance.CUT_OFF: "tilt the camera up, or mount it higher: the picture ends at the eyes",
    NoAttendance.BAD_LIGHT: "light the door from the camera's side",
    NoAttendance.TOO_BLURRED: "focus on where faces pass, or give more light for a shorter exposure",
}
"""For each reason that `recognition.quality.unfit` gives."""


def judge_clock(now: TimeReading) -> Finding:
    """Whether events will carry the right time."""
    shown = f"{datetime.fromtimestamp(now.real_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    remedy = "see `timedatectl`, let the board reach a time server, and fit a battery for its clock"
    if now.real_ms < RELEASED_REAL_MS:
        return failure(
            "clock",
            f"shows {shown}, which is past; events are kept without a time, and TLS may refuse",
            remedy,
        )
    if now.state is ClockState.UNSYNCED:
        return warning(
            "clock",
            f"{shown}, not synchronised; a daemon that starts now leaves the dating of events to the server",
            remedy,
        )
    return ok("clock", f"{shown}, synchronised to within {now.err_ms} ms")


def judge_space(where: str, space: Space, *, writable: bool) -> Finding:
    """Whether the outbox can grow."""
    free = f"{space.free_bytes / MB:,.0f} MB free of {space.total_bytes / MB:,.0f} at {where}"
    make_room = f"make room: `du -xh {where}`, `journalctl --vacuum-size=100M`; never delete outbox.db"
    if space.read_only:
        return failure(
            "disk",
            f"{where} is mounted read-only",
            "a card does so when it fails: see `dmesg`, save outbox.db, check (fsck) or replace the card",
        )
    if not writable:
        return failure(
            "disk",
            f"{where} may not be written by this user",
            f"chown it to the daemon's user: `ls -ld {where}`",
        )
    if space.free_bytes < NO_SPACE_BYTES or space.free_files == 0:
        return failure(
            "disk", f"full: {free}" + ("; no inodes left" if space.free_files == 0 else ""), make_room
        )
    if space.free_bytes < LOW_SPACE_BYTES:
        return warning("disk", f"getting full: {free}", make_room)
    return ok("disk", free)


def judge_memory(memory: Memory | None) -> Finding:
    """Whether there is room for the models."""
    if memory is None:
        return ok("memory", "not told by this kernel")
    free = f"{memory.available_bytes / MB:,.0f} MB available of {memory.total_bytes / MB:,.0f}"
    if memory.available_bytes < LOW_MEMORY_BYTES:
        return warning(
            "memory", free, "see what takes it (`top -o %MEM`); a board for Hadir alone has enough with 1 GB"
        )
    return ok("memory", free)


def judge_temperature(zones: Sequence[Temperature]) -> Finding:
    """Whether the board is about to slow down."""
    if not zones:
        return ok("temperature", "no sensor on this board")
    hottest = max(zones, key=lambda zone: zone.celsius)
    found = f"{hottest.celsius:.0f} °C ({hottest.zone})"
    cool = "give it air, shade or a heat sink"
    if hottest.celsius >= TOO_HOT_C:
        return failure(
            "temperature", f"{found}, too hot to work", f"{cool}; switch it off until it is cooler"
        )
    if hottest.celsius >= HOT_C:
        return warning("temperature", f"{found}, so hot that the board slows down", cool)
    return ok("temperature", found)


def judge_throttling(throttling: Throttling | None) -> Finding:
    """What a Raspberry Pi's firmware says of power and heat."""
    if throttling is None:
        return ok("power", "no throttling report on this board")
    supply = "use the official power supply and a short, thick cable; under-voltage ruins cards"
    if throttling & Throttling.UNDER_VOLTAGE:
        return failure("power", "under-voltage now", supply)
    if throttling & Throttling.UNDER_VOLTAGE_OCCURRED:
        return warning("power", "there was under-voltage since it was switched on", supply)
    if throttling & (Throttling.THROTTLED | Throttling.FREQUENCY_CAPPED | Throttling.SOFT_TEMPERATURE_LIMIT):
        return warning("power", "slowed down now, because it is hot", "give it air, shade or a heat sink")
    if throttling:
        return warning(
            "power", "was slowed down since it was switched on", "give it air, shade or a heat sink"
        )
    return ok("power", "no under-voltage, not slowed down")


def judge_outbox(seen: Glimpse, now_real_ms: int) -> Finding:
    """Whether events get through."""
    if seen.oldest_real_ms is None:
        return ok("outbox", f"{seen.seq} events so far, none waiting")
    waiting = f"{seen.waiting} of {seen.seq} events waiting"
    age_ms = now_real_ms - seen.oldest_real_ms
    if age_ms < 0 or seen.oldest_real_ms < RELEASED_REAL_MS:
        return warning(
            "outbox",
            f"{waiting}, made while the clock was wrong",
            "see the lines broker and clock; nothing is lost",
        )
    if age_ms > LATE_MS:
        return warning(
            "outbox",
            f"{waiting}, the oldest for {duration(age_ms)}",
            "see the lines daemon and broker; nothing is lost, and all of them go once the broker takes them",
        )
    return ok("outbox", f"{waiting}, the oldest for {duration(age_ms)}")


def judge_certificate(
    name: str, device: str, not_before_s: float, not_after_s: float, now_s: float
) -> Finding:
    """The board's own, against its id and its clock."""
    ends = f"{datetime.fromtimestamp(not_after_s, UTC):%Y-%m-%d}"
    renew = "issue a new one for this board and copy it here, before the board is shut out"
    if name != device:
        return failure(
            "certificate",
            f"made for {name!r}, this board is {device!r}",
            "copy the certificate from this board's own folder",
        )
    if now_s < not_before_s:
        return failure(
            "certificate", "not valid yet by this board's clock", "set the clock; see the line clock"
        )
    if now_s > not_after_s:
        return failure("certificate", f"expired on {ends}", renew)
    if now_s > not_after_s - ENDS_SOON_S:
        return warning("certificate", f"expires on {ends}", renew)
    return ok("certificate", f"for {name}, until {ends}")


def judge_revocations(held: RevocationList, serial: int, now_s: float) -> Finding:
    """The broker's list: whether this board is in it, and how long it lets anybody in."""
    ends = f"{held.until:%Y-%m-%d}"
    reissue = "`hadir-provision broker FLEET`, and see that the broker gets crl.pem: else it lets no board in"
    if serial in held.serials:
        return failure(
            "crl",
            f"number {held.number}: this board's certificate is revoked",
            "whoever revoked it knows why; to let a board in at this door: `hadir-provision replace FLEET DEVICE`",
        )
    if now_s > held.until.timestamp():
        return failure(
            "crl", f"number {held.number}, the newest that this board knows, ended on {ends}", reissue
        )
    if now_s > held.until.timestamp() - ENDS_SOON_S:
        return warning(
            "crl", f"number {held.number}, the newest that this board knows, ends on {ends}", reissue
        )
    return ok("crl", f"number {held.number}, until {ends}; this board is not in it")


def duration(ms: float) -> str:
    """For people: the largest unit that fits."""
    for unit, length_ms in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if ms >= 2 * length_ms:
            return f"{ms / length_ms:.0f} {unit}"
    return f"{ms / 1000:.0f} s"
