"""The board's configuration: one TOML file into one frozen dataclass per stage.

Built once at start and handed down. An unknown key, a wrong type or a value out of
bounds stops the start with a message that names file, key, value and what is allowed,
since a door that silently ignores a misspelt setting is worse than one that says so.
Relative paths are relative to the file's own folder. Secrets are paths, never values.

A number's text says its unit, and where it comes from: a paper, a command that measures it, or that it was set. The
bounds within which a setting may be changed were all set: beyond them it is a slip of the pen.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from edge.errors import ConfigError
from edge.records import Direction
from edge.settings import Like, OneOf, Range, check_broker, parse_document, read_document

CAMERA_KINDS = ("replay", "picamera", "v4l2", "gstreamer")
"""One file each in `edge/camera/`, chosen by this name."""


OVERLAY_FILE = "settings.toml"
"""In the state folder: what the command `set` set, over what the configuration file says."""

SETTABLE: Mapping[str, frozenset[str]] = {
    "camera": frozenset(
        {
            *("width", "height", "frames_per_s", "rotation", "mirror"),
            *("region_x", "region_y", "region_width", "region_height"),
        }
    ),
    "recognition": frozenset({"detector_min_confidence", "threads"}),
    "quality": frozenset(
        {
            *("min_face_px", "min_sharpness", "min_brightness", "max_brightness"),
            *("max_yaw", "max_roll_deg"),
        }
    ),
    "decide": frozenset({"min_good_frames", "fused_frames", "max_good_frames", "min_margin", "cooldown_s"}),
    "events": frozenset({"archive_days", "drain_s"}),
}
"""What the command `set` may change: nothing that says who the board is, whom it talks to, what it tells of people,
or which program or file it opens."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """Who this board is, and where its secrets and state lie."""

    id: Annotated[str, Like(r"[a-z0-9][a-z0-9-]{0,31}")]
    site: Annotated[str, Like(r"[a-z0-9][a-z0-9-]{0,31}")]
    root_thumbprint: Annotated[str, Like(r"[A-Za-z0-9_-]{43}")]
    """RFC 7638 thumbprint of the fleet's root key, which signs the keys document."""
    direction: Direction = Direction.BOTH
    key_file: Path = Path("device.pem")
    keys_file: Path = Path("keys.jws")
    gallery_file: Path = Path("gallery.hadir")
    state_dir: Path = Path("state")


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """Where the pictures come from, and how they are turned and cut before anything looks at them."""

    kind: Annotated[str, OneOf(*CAMERA_KINDS)] = "replay"
    """`replay` also takes RTSP; `v4l2` is USB; `gstreamer` is CSI on a Jetson. See docs/cameras.md."""
    sources: tuple[str, ...] = ()
    """For `replay`: video files, GIFs, picture folders (played one after the other), or one rtsp:// URL."""
    device: Annotated[str, Like(r"\d{1,3}|/dev/\S+")] = "0"
    """For the others: the camera's number; for `v4l2` better a path that stays, such as /dev/v4l/by-id/…"""
    pipeline: Annotated[str, Like(r"[ -~]{0,2000}")] = ""
    """For `gstreamer`: elements that give raw video, as for gst-launch-1.0; empty is a Jetson's CSI camera."""
    width: Annotated[int, Range(16, 8192)] = 640
    """Asked of `picamera`, `v4l2` and `gstreamer`; recordings and streams have a size of their own."""
    height: Annotated[int, Range(16, 8192)] = 480
    frames_per_s: Annotated[float, Range(0, 120)] = 0.0
    """An upper limit; 0 takes what the source gives."""
    rotation: Annotated[int, OneOf(0, 90, 180, 270)] = 0
    """Degrees clockwise by which the camera's picture is turned to stand upright."""
    mirror: bool = False
    """Exchanges left and right, after the rotation."""
    region_x: Annotated[float, Range(0, 1)] = 0.0
    """Left edge of the part that is looked at, as a share of the upright picture's width."""
    region_y: Annotated[float, Range(0, 1)] = 0.0
    """Its upper edge, as a share of the height."""
    region_width: Annotated[float, Range(0.01, 1)] = 1.0
    region_height: Annotated[float, Range(0.01, 1)] = 1.0
    pace: Annotated[str, OneOf("real", "fast")] = "real"
    """`fast` gives a file's frames as quickly as they are taken; for tests and measurements."""
    at_end: Annotated[str, OneOf("stop", "repeat")] = "stop"
    """What happens when a file is over: the daemon stops in good order, or it plays again."""


@dataclass(frozen=True, slots=True)
class RecognitionConfig:
    """Which models see, and how hard they may work."""

    embedder: Annotated[str, Like(r"[a-z0-9+_-]{1,64}")] = "facenet+sface"
    """A name from the manifest: `facenet+sface`, `facenet` or `sface` as shipped."""
    models_dir: Path | None = None
    """A folder with manifest.toml and models; without it, those that were installed."""
    detector_min_confidence: Annotated[float, Range(0.05, 0.99)] = 0.6
    """YuNet's own, 0 to 1. At 0.6 faces of 12 px were found in the clips of corridors, and none in empty scenes; set
    by that, and not swept. What is lost by it at a door: docs/decisions/recognition.md."""
    threads: Annotated[int, Range(1, 16)] = 1
    """Of the interpreter. One leaves the other cores to the rest, and is what `python -m benchmarks.road` measures;
    more were not measured."""


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Which faces are good enough to be embedded."""

    min_face_px: Annotated[float, Range(8, 2000)] = 40.0
    """Width of the box, pixels of the frame. Set, not measured: `hadir-edge evaluate openset --html` shows misses by
    width."""
    min_sharpness: Annotated[float, Range(0, 100000)] = 10.0
    """Variance of the Laplacian on the aligned 112 px crop, grey levels squared. Set below what a sharp face of 40 px
    has (15; one of 100 px 200): what is blurred beyond use, and no more."""
    min_brightness: Annotated[float, Range(0, 255)] = 30.0
    """Mean grey level of the aligned crop, 0 to 255. Both bounds were set, not measured: they keep out the night and
    a face in the sun."""
    max_brightness: Annotated[float, Range(0, 255)] = 235.0
    """The same, upwards."""
    max_yaw: Annotated[float, Range(0, 1)] = 0.6
    """0 looks at the camera, 1 is a profile: how far the nose lies from the middle of the eyes, in half their
    distance. Set, not measured: `hadir-edge evaluate openset --html` shows misses by yaw."""
    max_roll_deg: Annotated[float, Range(0, 180)] = 35.0
    """How far the line of the eyes may be from level, either way; set, not measured."""
    min_above_eyes: Annotated[float, Range(-2, 5)] = 0.35
    """How much of the picture must be above the eyes, in distances of the eyes: of faces that its upper edge
    cuts closer, four times as many and more are not recognised, and their keypoints are guesses
    (`python -m benchmarks.cutoff`)."""


@dataclass(frozen=True, slots=True)
class TrackConfig:
    """How faces of successive frames become one person passing."""

    lost_after_ms: Annotated[int, Range(50, 10000)] = 800
    """A track ends when its face was not seen for so long. Set, not measured: a step behind a pillar takes half a
    second."""
    max_shift: Annotated[float, Range(0.1, 5)] = 1.2
    """How far a face may be from where it was expected, in widths of the face; a change of size counts, too. Set, not
    measured; what tracks it makes is counted by `python -m benchmarks.tracks`."""
    max_tracks: Annotated[int, Range(1, 256)] = 32
    """People followed at once, as many as faces are taken from a frame; more are passed over until one has left. Set,
    to bound what a frame may cost."""
    recheck_ms: Annotated[int, Range(50, 10000)] = 500
    """How often a face whose case is closed is embedded again, in case another person has taken its place. Set: two
    embeddings a second; what they catch is measured by `python -m benchmarks.switches`."""


@dataclass(frozen=True, slots=True)
class DecideConfig:
    """When evidence is enough to write somebody's name."""

    fpir_target: Annotated[float, Range(0.0001, 0.5)] = 0.003
    """Share of strangers that may pass as somebody (ISO/IEC 19795-1 FPIR), 0 to 1; the threshold follows from it
    (`python -m benchmarks.thresholds`). Set: how often a door may be wrong is for people to say."""
    min_good_frames: Annotated[int, Range(3, 20)] = 3
    """Three at least: on a single frame every error rate is several times higher (`hadir-edge evaluate openset`)."""
    fused_frames: Annotated[int, Range(3, 20)] = 5
    """How many of a track's latest good frames are fused. Set: the first three of a walk and the first five miss
    about the same (`python -m benchmarks.fusion`)."""
    max_good_frames: Annotated[int, Range(3, 500)] = 24
    """Then a track is given up, so that a stranger who stays costs nothing more. Set: a walk has about 20
    (`python -m benchmarks.fusion`), and half of those whom the first five miss are recognised by all of it."""
    min_margin: Annotated[float, Range(0, 1)] = 0.05
    """Similarity (a cosine, -1 to 1) by which the best must lead the runner-up. Set, not measured: twins, and one
    person under two ids, lie within it."""
    cooldown_s: Annotated[float, Range(0, 86400)] = 60.0
    """The same person passing again within this time, in the same direction, is one attendance, also where the
    daemon was started in between. Set, not measured: who lingers at the door has not come twice."""


@dataclass(frozen=True, slots=True)
class LivenessConfig:
    """Whether a face must be a living one. Needs the models of `make liveness`; see docs/liveness.md."""

    enabled: bool = True
    """Asks the models where they are installed; `false` lets every photograph pass."""
    required: bool = False
    """Without the models the daemon does not start."""
    min_frames: Annotated[int, Range(3, 20)] = 5
    """So many frames of a track must be judged before it can count as live."""
    max_frames: Annotated[int, Range(3, 40)] = 10
    """So many of the latest are averaged; who is not live by then is an attack."""
    min_face_px: Annotated[float, Range(16, 2000)] = 48.0
    """Width of the box; smaller faces cannot be judged."""
    min_context_widths: Annotated[float, Range(1, 10)] = 2.0
    """How wide and high the picture must be, in widths of the face; closer, nothing is seen around it."""
    min_sharpness: Annotated[float, Range(0, 100)] = 0.07
    """Variance of the Laplacian over that of the crop: a print blurred to 0.05 begins to look live."""
    max_noise: Annotated[float, Range(0, 255)] = 7.0
    """Grey levels (Immerkaer 1996); from about 8 live people begin to look like attacks."""
    attack_events: bool = False
    """Sends `attack:1`, without picture or name, for a track that was one."""
    attack_interval_s: Annotated[float, Range(0, 86400)] = 10.0
    """At most one such event in this time, whatever is waved before the camera."""


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """What shows people before the camera how they are understood."""

    kind: Annotated[str, OneOf("log", "led")] = "log"
    """`led` blinks lights of the board (Linux, /sys/class/leds); `log` writes lines."""
    come_closer_led: Annotated[str, Like(r"[A-Za-z0-9:_.+-]{0,64}")] = ""
    """Name of the light that asks a recognised person to come closer, or into the middle of the picture."""
    step_back_led: Annotated[str, Like(r"[A-Za-z0-9:_.+-]{0,64}")] = ""
    """Name of the light that asks a recognised person who is too close to step back."""
    attendance_led: Annotated[str, Like(r"[A-Za-z0-9:_.+-]{0,64}")] = ""
    """Name of the light that confirms an attendance."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where events go."""

    url: Annotated[str, Like(r"mqtts?://[^/@\s]+")]
    ca_file: Path | None = None
    cert_file: Path | None = None
    private_key_file: Path | None = None
    keepalive_s: Annotated[int, Range(5, 3600)] = 30
    """After half as long again without a word the broker takes the board for lost (MQTT 5, section 3.1.2.10)."""
    retry_min_s: Annotated[float, Range(0.05, 60)] = 1.0
    """Pause before the next attempt to connect; doubled at each up to `retry_max_s`."""
    retry_max_s: Annotated[float, Range(0.05, 3600)] = 60.0
    """Longest pause between two attempts to connect."""


@dataclass(frozen=True, slots=True)
class EventsConfig:
    """What is told about an attendance, and when it counts as delivered."""

    delivery: Annotated[str, OneOf("receipt", "broker")]
    """When an event counts as delivered. `receipt`: when the server signed that it has stored it, and so proof against
    any loss on the way. `broker`, where no server of this project listens: when the broker acknowledged it; it may
    still be lost inside the broker."""
    diagnostics: bool = False
    """Similarities in the events: derived from biometrics, and they help to tune an attack."""
    archive_days: Annotated[int, Range(0, 366)] = 30
    """How long acknowledged events can still be sent again."""
    window: Annotated[int, Range(1, 2048)] = 2048
    """Most events unacknowledged at once."""
    drain_s: Annotated[float, Range(0, 120)] = 10.0
    """How long a stop waits for the last events to be acknowledged; the rest goes at the next start."""
    disk_limit_mb: Annotated[int, Range(8, 1_000_000)] = 1000
    """Room that the outbox should take, at about 1.2 kB an event; from half of it on the board warns. Then the archive
    gives way, oldest first. What was not acknowledged stays, and grows beyond it until the disk is full."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that `hadir-edge run` needs to know."""

    device: DeviceConfig
    broker: BrokerConfig
    events: EventsConfig
    camera: CameraConfig = dataclasses.field(default_factory=CameraConfig)
    recognition: RecognitionConfig = dataclasses.field(default_factory=RecognitionConfig)
    quality: QualityConfig = dataclasses.field(default_factory=QualityConfig)
    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)
    decide: DecideConfig = dataclasses.field(default_factory=DecideConfig)
    liveness: LivenessConfig = dataclasses.field(default_factory=LivenessConfig)
    feedback: FeedbackConfig = dataclasses.field(default_factory=FeedbackConfig)


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: names file, key, value and what would be allowed.
    """
    document = read_document(path)
    config = parse_config(document, path)
    overlay = config.device.state_dir / OVERLAY_FILE
    try:
        if not overlay.exists():
            return config
        return parse_config(overlaid(document, read_document(overlay)), path)
    except OSError as error:
        raise ConfigError(
            f"{overlay}: cannot be looked for ({error.strerror}); run this as root or as the daemon's user"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{error} (with what was set from afar: {overlay})") from error


def overlaid(document: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """A configuration's document with what was set from afar over it, key by key."""
    return document | {
        section: document.get(section, {}) | members
        for section, members in overlay.items()
        if isinstance(members, dict)
    }


def parse_config(document: dict[str, Any], path: Path) -> Config:
    """Turn a parsed document into a Config; `path` resolves relative paths and names the file in errors."""
    config = parse_document(Config, document, path)
    _check_together(config, path)
    return config


def _check_together(config: Config, path: Path) -> None:
    """What no single key can show to be wrong."""
    _check_camera(config.camera, path)
    _check_liveness(config.liveness, path)
    decide, broker, quality = config.decide, config.broker, config.quality
    if not decide.min_good_frames <= decide.fused_frames <= decide.max_good_frames:
        raise ConfigError(
            f"{path}: decide.fused_frames = {decide.fused_frames}: must lie between min_good_frames "
            f"({decide.min_good_frames}) and max_good_frames ({decide.max_good_frames})"
        )
    if broker.retry_min_s > broker.retry_max_s:
        raise ConfigError(
            f"{path}: broker.retry_min_s = {broker.retry_min_s:g}: must not exceed retry_max_s "
            f"({broker.retry_max_s:g})"
        )
    if quality.min_brightness >= quality.max_brightness:
        raise ConfigError(
            f"{path}: quality.min_brightness = {quality.min_brightness:g}: must be below max_brightness "
            f"({quality.max_brightness:g})"
        )
    check_broker(broker, path)


def _check_liveness(liveness: LivenessConfig, path: Path) -> None:
    if liveness.required and not liveness.enabled:
        raise ConfigError(f"{path}: liveness.required = true: needs liveness.enabled = true")
    if liveness.min_frames > liveness.max_frames:
        raise ConfigError(
            f"{path}: liveness.min_frames = {liveness.min_frames}: must not exceed max_frames "
            f"({liveness.max_frames})"
        )


def _check_camera(camera: CameraConfig, path: Path) -> None:
    """What can only be wrong about several of the camera's settings at once, or deeper than a pattern."""
    for edge, side in (("x", "width"), ("y", "height")):
        at, length = getattr(camera, f"region_{edge}"), getattr(camera, f"region_{side}")
        if at + length > 1 + 1e-9:  # 0.7 + 0.3 is more than 1 in binary
            raise ConfigError(
                f"{path}: camera.region_{side} = {length:g}: reaches out of the picture from region_{edge} "
                f"= {at:g}; at most {1 - at:g}"
            )
    for key, kind in (("sources", "replay"), ("pipeline", "gstreamer")):
        if getattr(camera, key) and camera.kind != kind:
            raise ConfigError(f'{path}: camera.{key}: is for kind = "{kind}"; kind is "{camera.kind}"')
    if camera.kind in ("picamera", "gstreamer") and not camera.device.isdecimal():
        raise ConfigError(
            f'{path}: camera.device = "{camera.device}": `{camera.kind}` takes a number, `v4l2` a path as well'
        )
    try:
        shlex.split(camera.pipeline)
    except ValueError as error:
        raise ConfigError(
            f"{path}: camera.pipeline = {camera.pipeline!r}: cannot be split into arguments ({error})"
        ) from error
