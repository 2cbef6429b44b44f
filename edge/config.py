"""The board's configuration: one TOML file into one frozen dataclass per stage.

Built once at start and handed down. An unknown key, a wrong type or a value out of
bounds stops the start with a message that names file, key, value and what is allowed,
since a door that silently ignores a misspelt setting is worse than one that says so.
Relative paths are relative to the file's own folder. Secrets are paths, never values.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from edge.errors import ConfigError
from edge.records import Direction

MAX_CONFIG_BYTES = 64 * 1024
"""A hand-written file is a few kilobytes; more is a mistake or an attack."""


MAX_WHOLE = 2**53
"""Whole numbers up to here are the same as floats (IEEE 754); none that is allowed is larger."""

MAX_SHOWN = 200
"""So much of a wrong value is repeated in a message."""


CAMERA_KINDS = ("replay", "picamera", "v4l2", "gstreamer")
"""One file each in `edge/camera/`, chosen by this name."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both allowed."""

    low: float
    high: float

    def admits(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)  # NaN compares false

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True, init=False)
class OneOf:
    """One of a few words or whole numbers."""

    words: tuple[str | int, ...]

    def __init__(self, *words: str | int) -> None:
        object.__setattr__(self, "words", words)

    def admits(self, value: Any) -> bool:
        return value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(
            f'"{word}"' if isinstance(word, str) else str(word) for word in self.words
        )


@dataclass(frozen=True, slots=True)
class Like:
    """Strings that match a pattern as a whole."""

    pattern: str

    def admits(self, value: Any) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"a string like {self.pattern}"


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
    """YuNet's own. At 0.6 real faces of 12 px are found in the corridor clips, and none in empty scenes."""
    threads: Annotated[int, Range(1, 16)] = 1
    """Of the interpreter; one is the fastest per watt on a Pi and leaves cores to the rest."""


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Which faces are good enough to be embedded."""

    min_face_px: Annotated[float, Range(8, 2000)] = 40.0
    """Width of the box."""
    min_sharpness: Annotated[float, Range(0, 100000)] = 10.0
    """Variance of the Laplacian on the aligned 112 px crop; a sharp face of 40 px has 15, one of 100 px 200."""
    min_brightness: Annotated[float, Range(0, 255)] = 30.0
    max_brightness: Annotated[float, Range(0, 255)] = 235.0
    max_yaw: Annotated[float, Range(0, 1)] = 0.6
    """0 looks at the camera, 1 is a profile."""
    max_roll_deg: Annotated[float, Range(0, 180)] = 35.0


@dataclass(frozen=True, slots=True)
class TrackConfig:
    """How faces of successive frames become one person passing."""

    lost_after_ms: Annotated[int, Range(50, 10000)] = 800
    """A track ends when its face was not seen for so long; a step behind a pillar takes half a second."""
    max_shift: Annotated[float, Range(0.1, 5)] = 1.2
    """How far a face may be from where it was expected, in widths of the face."""
    max_tracks: Annotated[int, Range(1, 256)] = 32


@dataclass(frozen=True, slots=True)
class DecideConfig:
    """When evidence is enough to write somebody's name."""

    fpir_target: Annotated[float, Range(0.0001, 0.5)] = 0.003
    """Share of strangers that may pass as somebody (ISO/IEC 19795-1 FPIR); the threshold follows from it."""
    min_good_frames: Annotated[int, Range(3, 20)] = 3
    """Three at least: on a single frame every error rate is several times higher."""
    fused_frames: Annotated[int, Range(3, 20)] = 5
    """How many of a track's latest good frames are fused."""
    max_good_frames: Annotated[int, Range(3, 500)] = 24
    """Then a track is given up, so that a stranger who stays costs nothing more."""
    min_margin: Annotated[float, Range(0, 1)] = 0.05
    """Similarity by which the best must lead the runner-up."""
    cooldown_s: Annotated[float, Range(0, 86400)] = 60.0
    """The same person passing again within this time is one attendance."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where events go."""

    url: Annotated[str, Like(r"mqtts?://[^/@\s]+")]
    ca_file: Path | None = None
    cert_file: Path | None = None
    private_key_file: Path | None = None
    keepalive_s: Annotated[int, Range(5, 3600)] = 30
    retry_min_s: Annotated[float, Range(0.05, 60)] = 1.0
    retry_max_s: Annotated[float, Range(0.05, 3600)] = 60.0


@dataclass(frozen=True, slots=True)
class EventsConfig:
    """What is told about an attendance, and when it counts as delivered."""

    delivery: Annotated[str, OneOf("broker")]
    """`broker`: delivered when the broker acknowledged it; it may still be lost inside the broker."""
    diagnostics: bool = False
    """Similarities in the events: derived from biometrics, and they help to tune an attack."""
    archive_days: Annotated[int, Range(0, 366)] = 30
    """How long acknowledged events can still be sent again."""
    window: Annotated[int, Range(1, 2048)] = 2048
    """Most events unacknowledged at once."""
    drain_s: Annotated[float, Range(0, 120)] = 10.0
    """How long a stop waits for the last events to be acknowledged; the rest goes at the next start."""


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


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: names file, key, value and what would be allowed.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name it with --config") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; a configuration is a few kilobytes")
    try:
        document = tomllib.loads(text.decode("utf-8-sig"))
    except ValueError as error:  # not TOML, not UTF-8, or an integer of more digits than Python reads
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from error
    return parse_config(document, path)


def parse_config(document: dict[str, Any], path: Path) -> Config:
    """Turn a parsed document into a Config; `path` resolves relative paths and names the file in errors."""
    sections = get_type_hints(Config)
    for name in document:
        if name not in sections:
            raise ConfigError(f"{path}: unknown section [{name}]; allowed are {', '.join(sections)}")
    built = {}
    for field in dataclasses.fields(Config):
        if field.name in document or field.default_factory is dataclasses.MISSING:
            built[field.name] = _section(sections[field.name], field.name, document.get(field.name, {}), path)
    config = Config(**built)
    _check_together(config, path)
    return config


def allowed(hint: Any) -> str:
    """What may be written for a key of this type, in words."""
    return _Setting.of(hint).allowed


def _shown(value: Any) -> str:
    """A value as it is repeated in a message: not at length, and without the password of a URL."""
    try:
        text = re.sub(r"//[^/\s]*@", "//…@", repr(value))
    except ValueError:  # sys.set_int_max_str_digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _section(kind: type, name: str, table: Any, path: Path) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} = {_shown(table)}: must be a section, written [{name}]")
    hints = get_type_hints(kind, include_extras=True)
    for key in table:
        if key not in hints:
            raise ConfigError(f"{path}: unknown key {name}.{key}; allowed are {', '.join(hints)}")
    values = {}
    for field in dataclasses.fields(kind):
        where = f"{path}: {name}.{field.name}"
        setting = _Setting.of(hints[field.name])
        if field.name in table:
            values[field.name] = setting.parse(table[field.name], where, path.parent)
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"{where}: is missing and has no default; it must be {setting.allowed}")
        elif isinstance(field.default, Path):
            values[field.name] = path.parent / field.default
    return kind(**values)


@dataclass(frozen=True, slots=True)
class _Setting:
    """The type of one key and the rule it obeys, as its annotation states them."""

    kind: Any
    rule: Range | OneOf | Like | None

    @classmethod
    def of(cls, hint: Any) -> _Setting:
        if get_origin(hint) is Annotated:
            kind, rule = get_args(hint)
            return cls(kind, rule)
        if isinstance(hint, UnionType):  # "X | None": a key that may be left out; TOML has no null
            hint = next(kind for kind in get_args(hint) if kind is not NoneType)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return cls(hint, OneOf(*hint))
        return cls(get_origin(hint) or hint, None)

    @property
    def allowed(self) -> str:
        if self.rule is not None:
            return (
                str(self.rule).replace("a number", "a whole number") if self.kind is int else str(self.rule)
            )
        return {bool: "true or false", Path: "a path", tuple: "a list of paths or URLs"}[self.kind]

    def parse(self, value: Any, where: str, folder: Path) -> Any:
        """The value as the dataclass wants it; ConfigError where it is not allowed."""
        if self.kind is float and type(value) is int and abs(value) <= MAX_WHOLE:
            value = float(value)
        if not self._admits(value):
            raise ConfigError(f"{where} = {_shown(value)}: must be {self.allowed}")
        if self.kind is Path:
            return folder / value
        if self.kind is tuple:
            return tuple(item if "://" in item else str(folder / item) for item in value)
        return self.kind(value)

    def _admits(self, value: Any) -> bool:
        if self.kind is Path:
            return isinstance(value, str) and value != "" and "\0" not in value
        if self.kind is tuple:
            return isinstance(value, list) and all(
                isinstance(item, str) and item and "\0" not in item for item in value
            )
        plain = str if issubclass(self.kind, Enum) else self.kind
        return type(value) is plain and (self.rule is None or self.rule.admits(value))


def _has_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def _check_together(config: Config, path: Path) -> None:
    """What no single key can show to be wrong."""
    _check_camera(config.camera, path)
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
    if not _has_address(broker.url):
        raise ConfigError(
            f'{path}: broker.url = "{broker.url}": must be mqtt:// or mqtts://, a host, and where it is not the '
            "usual one a port from 1 to 65535"
        )
    if (broker.cert_file is None) != (broker.private_key_file is None):
        raise ConfigError(
            f"{path}: broker.cert_file and broker.private_key_file belong together; name both or none"
        )
    if broker.url.startswith("mqtt://") and (broker.ca_file or broker.cert_file):
        raise ConfigError(
            f'{path}: broker.url = "{broker.url}": ca_file and cert_file need TLS, so write mqtts://'
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
