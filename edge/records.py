"""The values that rooms hand to each other: small, frozen, with their units stated once.

Pixels are those of the full frame, x to the right, y down. Times named `mono_ms` are
milliseconds of CLOCK_BOOTTIME, which counts through suspend and never jumps; times
named `real_ms` are milliseconds since 1970 by a clock that may be wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(height, width, 3) uint8, BGR, as OpenCV has it."""

Vector = NDArray[np.float32]
"""(d,) float32 of unit length; the cosine of two is their dot product."""

Points = NDArray[np.float32]
"""(5, 2) float32 x, y: right eye, left eye, nose, right and left mouth corner (the subject's own)."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a camera."""

    image: Image
    captured_mono_ms: int
    number: int
    """Counts the pictures that the camera gave, so that dropped ones show as gaps."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the full frame, half-open; may reach outside the frame."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width_px(self) -> float:
        return self.x2 - self.x1

    @property
    def height_px(self) -> float:
        return self.y2 - self.y1

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A detected face."""

    box: Box
    keypoints: Points
    confidence: float
    """The detector's own, 0 to 1; higher is surer that this is a face."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be told from a face before it is embedded."""

    face_px: float
    """Width of the box."""
    sharpness: float
    """Variance of the Laplacian of the aligned 112 px grey crop; higher is sharper."""
    brightness: float
    """Mean grey level of the aligned crop, 0 to 255."""
    yaw: float
    """-1 (profile to the left of the picture) to 1 (to the right); 0 looks at the camera."""
    roll_deg: float
    """Angle of the line through the eyes; 0 is upright."""
    above_eyes: float = math.inf
    """How much of the picture is above the eyes, in distances of the eyes: a brow needs 0.4, a forehead 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One face of one track in one frame."""

    track: int
    face: Face
    seen_mono_ms: int


@dataclass(frozen=True, slots=True)
class Match:
    """The best and second-best person of the gallery for a vector.

    Similarities are cosines, -1 to 1; higher is more alike.
    """

    person: str
    similarity: float
    runner_up_similarity: float
    """-1 where nobody else is enrolled."""

    @property
    def margin(self) -> float:
        return self.similarity - self.runner_up_similarity


class Direction(StrEnum):
    """Which way the door leads for those who pass this camera."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Attendance:
    """Somebody enrolled was recognised on one track, from several frames fused."""

    track: int
    person: str
    frames: int
    similarity: float
    margin: float
    seen_mono_ms: int
    """Capture time of the frame that completed the evidence."""


class NoAttendance(StrEnum):
    """Why a track ended without an attendance. The values are counted and logged."""

    TOO_SMALL = "too-small"
    TOO_BLURRED = "too-blurred"
    BAD_LIGHT = "bad-light"
    TURNED_AWAY = "turned-away"
    CUT_OFF = "cut-off"
    TOO_SHORT = "too-short"
    NO_MATCH = "no-match"
    AMBIGUOUS = "ambiguous"
    COOLDOWN = "cooldown"
    ATTACK = "attack"
    """A known face, but a picture of it."""
    NOT_SURELY_LIVE = "not-surely-live"
    """A known face that could not be judged well enough to say that it is no picture."""
    NOT_RECORDED = "not-recorded"
    """A known face, for which there was no room on the disk."""


class Verdict(StrEnum):
    """Whether a face is live (ISO/IEC 30107-3 calls what is not a presentation attack)."""

    LIVE = "live"
    ATTACK = "attack"
    UNDECIDED = "undecided"


class Unclear(StrEnum):
    """Why a face cannot be judged live or not in a frame."""

    TOO_SMALL = "too-small"
    AT_EDGE = "at-edge"
    TOO_CLOSE = "too-close"
    TOO_BLURRED = "too-blurred"
    TOO_NOISY = "too-noisy"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the frames of a track so far say about liveness."""

    verdict: Verdict
    liveness: float | None
    """Mean over the judged frames, 0 to 1, higher is surer that it is live; None where no model was asked."""
    frames: int
    """That were judged."""
    unclear: Unclear | None
    """Why the latest frame could not be judged; None where it could."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A picture of somebody enrolled was held up, on one track."""

    track: int
    frames: int
    """That were judged."""
    seen_mono_ms: int
    """Capture time of the frame that completed the evidence."""


@dataclass(frozen=True, slots=True)
class TrackEnd:
    """What became of a track, once it is over."""

    track: int
    frames: int
    """Frames in which the face was seen."""
    good_frames: int
    """Frames good enough to be embedded."""
    outcome: NoAttendance | None
    """None where the track became an attendance."""
    best_similarity: float
    """Of the fused evidence against the gallery; -1 where nothing was embedded."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a running track stands after its latest frame: for whoever watches the road, made only when asked for."""

    good_frames: int
    unfit: NoAttendance | None
    """Why the latest frame's face was not embedded; None where it was, or nobody looked."""
    match: Match | None
    """Of the fused evidence; None before there is enough of it, or where nobody is enrolled."""
    outcome: NoAttendance | None
    """What would become of the track if it ended now; None where it became an attendance."""
    open: bool
    """Whether another frame could still change anything."""
    judgement: Judgement | None = None
    """Of liveness; None where nobody asked yet."""


class ClockState(StrEnum):
    """How far the wall clock may be believed."""

    SYNCED = "synced"
    HOLDOVER = "holdover"
    UNSYNCED = "unsynced"


class TamperKind(StrEnum):
    """What somebody, or a fault, did to the board."""

    CAMERA = "camera"
    GALLERY = "gallery"
    MODEL = "model"
    DATABASE = "database"
    FORK = "fork"
    """The card was restored or cloned: the server has events of this chain that this board never made."""
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class TimeReading:
    """One look at the clocks of the board."""

    real_ms: int
    mono_ms: int
    boot: str
    state: ClockState
    err_ms: int | None
    """Estimated error of `real_ms`; None while unsynced."""


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """Where in its chain the next event goes."""

    chain: str
    seq: int
    prev: str | None
    """Hash of seq - 1; None for seq 1."""
    low: int
    """The lowest seq still held: what is missing below it is gone for good."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A JWS in compact form and the hash of its signing input."""

    compact: str
    hash: str
    """base64url(SHA-256(signing input)): without the signature, which is malleable."""
