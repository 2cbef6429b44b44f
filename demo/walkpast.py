"""Renders somebody walking past a door camera, from one photograph.

The demo and the tests need clips of known people as a door sees them, and there are none
that may be given away. So head and shoulders are cut out of a portrait and walked down a
corridor that is made of arithmetic: they come nearer, bob, sway and tilt, pass under
lamps and out of the frame, seen through a small sensor's blur, noise and exposure.
Everything follows from the seed; another seed is another walk, another light, another
corridor. It is a stand-in for a clip, not evidence of how well the product recognises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera.pictures import read_picture
from edge.records import Box, Image

Floats = NDArray[np.float32]

FAR_FACE_PX = 30.0
NEAR_FACE_PX = 150.0
"""Width of the face when the walk begins and when the person turns to the door, in a 640 px frame."""

FAR_M = 4.0
"""Where the walk begins. With FAR_FACE_PX and a face 0.15 m wide, the lens sees 44 degrees across."""

FACE_M = 0.15
EYE_HEIGHT_M = 1.62
CAMERA_HEIGHT_M = 1.72
"""Beside the door, a little above the eyes of most."""

APPROACH_SHARE = 0.82
"""Of the clip; in the rest the person leaves through the door beside the camera."""

SHUTTER_S = 1 / 60
"""Exposure of one frame indoors; what moves meanwhile is blurred."""

MAX_LOOKS = 8
"""Into how many pictures a frame's exposure is divided at most; each costs a few milliseconds."""

SPRITE_FACE_PX = 160
"""Width of the face in the cut-out: as large as it ever is in the frame."""


def render_walkpast(
    photo: Path,
    face: Box,
    seed: int,
    frames: int = 48,
    size: tuple[int, int] = (640, 480),
    frames_per_s: float = 12.0,
) -> Iterator[Image]:
    """The frames of one walk, (height, width, 3) BGR.

    Args:
        photo: shows at least head and shoulders, upright; a few hundred pixels across the face.
        face: in the photograph, from forehead to chin and cheek to cheek, as a detector gives it.
        seed: everything that differs between walks comes from it.
        frames: how many; the walk is as long as they last.
        size: width and height of the frames.
        frames_per_s: how far apart they are in time, which sets gait and motion blur.

    Raises:
        InputError: the photograph cannot be read.
    """
    rng = np.random.default_rng(seed)
    corridor = Corridor.by_chance(rng, size)
    sensor = Sensor.by_chance(rng)
    walk = Walk.by_chance(rng, frames / frames_per_s, size)
    person = cut_out(read_picture(photo), face)
    for index in range(frames):
        at_s = index / frames_per_s
        scene = _scene(corridor, [(person, walk.pose)], at_s)
        yield sensor.expose(scene, rng, filled=walk.nearness(at_s))


def render_people(
    people: Sequence[tuple[CutOut, Way]],
    seed: int,
    frames: int,
    size: tuple[int, int] = (640, 480),
    frames_per_s: float = 12.0,
) -> Iterator[Image]:
    """Several people at once in the corridor of a seed, each on a way of their own; the nearer hide the farther."""
    rng = np.random.default_rng(seed)
    corridor = Corridor.by_chance(rng, size)
    sensor = Sensor.by_chance(rng)
    for index in range(frames):
        yield sensor.expose(_scene(corridor, people, index / frames_per_s), rng, filled=0)


def empty_corridor(seed: int, frames: int = 48, size: tuple[int, int] = (640, 480)) -> Iterator[Image]:
    """The corridor, light and camera that `render_walkpast` has for this seed, with nobody there."""
    rng = np.random.default_rng(seed)
    corridor = Corridor.by_chance(rng, size)
    sensor = Sensor.by_chance(rng)
    for _ in range(frames):
        yield sensor.expose(corridor.picture, rng, filled=0)


def write_clip(path: Path, images: Iterable[Image], frames_per_s: float) -> None:
    """Write an AVI of JPEG frames: the one codec that is in every OpenCV wheel.

    Raises:
        ValueError: there are no images.
        OSError: the file cannot be written.
    """
    writer: cv2.VideoWriter | None = None
    for image in images:
        if writer is None:
            height, width = image.shape[:2]
            codec = cv2.VideoWriter.fourcc(*"MJPG")
            writer = cv2.VideoWriter(str(path), codec, frames_per_s, (width, height))
            if not writer.isOpened():
                raise OSError(f"{path}: cannot be written as a video")
        writer.write(image)
    if writer is None:
        raise ValueError(f"{path}: a clip needs at least one image")
    writer.release()


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the face is in a frame, and how large and how tilted."""

    x_px: float
    y_px: float
    face_px: float
    roll_rad: float
    depth_m: float

    def toward(self, other: Pose, share: float) -> Pose:
        """The pose on the straight way to another."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Pose(*(here + (there - here) * share for here, there in pairs))


@dataclass(frozen=True, slots=True)
class Walk:
    """One person's way from the far end to the door and out of the frame."""

    duration_s: float
    size: tuple[int, int]
    steps_per_s: float
    phase: float
    begin_x_m: float
    near_x_m: float
    exit_side: int
    """-1 leaves to the left of the frame, 1 to the right."""
    height_m: float
    roll_deg: float

    @classmethod
    def by_chance(cls, rng: np.random.Generator, duration_s: float, size: tuple[int, int]) -> Walk:
        """Gait as people have it: about two steps a second, a few centimetres up and down and aside."""
        return cls(
            duration_s=duration_s,
            size=size,
            steps_per_s=rng.uniform(1.7, 2.1),
            phase=rng.uniform(0, 2 * math.pi),
            begin_x_m=rng.uniform(-0.45, 0.45),
            near_x_m=rng.uniform(-0.1, 0.1),
            exit_side=1 if rng.random() < 0.5 else -1,  # noqa: PLR2004
            height_m=EYE_HEIGHT_M + rng.uniform(-0.04, 0.04),
            roll_deg=rng.uniform(1.0, 3.0),
        )

    def nearness(self, at_s: float) -> float:
        """From 0 at the far end to 1 before the door, and back to 0 once the person is gone."""
        share = at_s / self.duration_s
        return float(np.interp(share, (0, APPROACH_SHARE, 1), (0, 1, 0)))

    def pose(self, at_s: float) -> Pose:
        """Where the face is at a time from the clip's beginning."""
        width, height = self.size
        near_m = FAR_M * FAR_FACE_PX / NEAR_FACE_PX
        way = at_s / (self.duration_s * APPROACH_SHARE)
        leaving = max(0.0, (way - 1) / (1 / APPROACH_SHARE - 1))
        depth_m = FAR_M + (near_m - FAR_M) * min(way, 1.0) - 0.15 * near_m * leaving
        gait = 2 * math.pi * self.steps_per_s * at_s + self.phase
        x_m = self.begin_x_m + (self.near_x_m - self.begin_x_m) * min(way, 1.0)
        x_m += 0.02 * math.sin(gait / 2) + self.exit_side * 0.9 * leaving**1.5
        y_m = CAMERA_HEIGHT_M - self.height_m + 0.02 * math.cos(gait)
        pixels = focal_px(width) / depth_m
        return Pose(
            x_px=width / 2 + x_m * pixels,
            y_px=horizon_px(height) + y_m * pixels,
            face_px=FACE_M * pixels,
            roll_rad=math.radians(self.roll_deg * math.sin(gait / 2)),
            depth_m=depth_m,
        )


def focal_px(width: int) -> float:
    """Of the lens: at FAR_M, FACE_M is FAR_FACE_PX wide in a frame of 640 px."""
    return FAR_FACE_PX * FAR_M / FACE_M * width / 640


def horizon_px(height: int) -> float:
    """Row of the camera's own height: above the middle, since it looks down a little."""
    return 0.36 * height


@dataclass(frozen=True, slots=True)
class Corridor:
    """What the camera sees when nobody is there."""

    picture: Floats
    """(height, width, 3) BGR, 0 to 255, blurred as a lens focused on the door leaves it."""
    lamp_spacing_m: float
    side_light: float
    """-1 (all from the left) to 1 (all from the right)."""

    @classmethod
    def by_chance(cls, rng: np.random.Generator, size: tuple[int, int]) -> Corridor:
        """Trace one ray a pixel into a box with walls, tiles, doors and lamps."""
        width, height = size
        half_m, floor_m, ceiling_m = rng.uniform(0.95, 1.25), CAMERA_HEIGHT_M, rng.uniform(0.8, 1.1)
        end_m, spacing_m = rng.uniform(8, 12), rng.uniform(1.8, 2.6)
        focal = focal_px(width)
        x = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - width / 2) / focal
        y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - horizon_px(height)) / focal
        to_wall = half_m / np.maximum(np.abs(x), 1e-6) + 0 * y
        to_flat = np.where(y > 0, floor_m, ceiling_m) / np.maximum(np.abs(y), 1e-6) + 0 * x
        depth = np.minimum(np.minimum(to_wall, to_flat), end_m)
        across, down = x * depth, y * depth
        end, wall = depth >= end_m, to_wall < to_flat

        tint = rng.uniform(0.9, 1.1, 3)
        colour = np.empty((height, width, 3), np.float32)
        tiles = (np.floor(depth / 0.6) + np.floor(across / 0.6)) % 2
        colour[:] = (np.array([95, 105, 115]) * tint) * (1 + 0.10 * tiles[..., None])
        colour[(y < 0) & ~wall] = 205
        lamp = (y < 0) & ~wall & _between(across, -0.3, 0.3)
        lamp &= _between(depth % spacing_m - spacing_m / 2, -0.35, 0.35)
        colour[wall] = np.array([165, 172, 178]) * tint[::-1]
        door_at = (depth + rng.uniform(0, 3)) % 3.2
        door = wall & _between(door_at, 0, 0.9) & (down > floor_m - 2.05)
        colour[door] = np.array([60, 85, 120]) * rng.uniform(0.7, 1.2)
        colour[wall & (down > floor_m - 0.1)] = 70
        colour[end] = np.array([150, 150, 150]) * tint
        exit_door = end & _between(across, -0.5, 0.5) & (down > floor_m - 2.1)
        colour[exit_door] = np.array([190, 200, 200]) * rng.uniform(0.6, 1.2)

        side_light = float(rng.uniform(-1, 1))
        light = _lamp_light(depth, spacing_m) * (1 + 0.25 * side_light * np.clip(across / half_m, -1, 1))
        stains = cv2.resize(
            rng.normal(1, 0.05, (12, 16)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC
        )
        picture = colour * (light * stains)[..., None]
        picture[lamp] = 250
        return cls(
            cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 2.0 * width / 640), spacing_m, side_light
        )


def _lamp_light(depth: NDArray[np.floating] | float, spacing_m: float) -> NDArray[np.floating]:
    """Brighter beneath the lamps, darker between them and toward the far end."""
    swing = np.cos(2 * np.pi * (depth / spacing_m - 0.5))
    return np.asarray((0.82 + 0.14 * swing) * (1.08 - 0.035 * depth))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A person without background, in one size."""

    pixels: Floats
    """(h, w, 4): BGR multiplied by coverage, and coverage 0 to 1."""
    centre: tuple[float, float]
    """Of the face."""
    face_px: float
    """Its width."""

    def placed(self, pose: Pose) -> NDArray[np.float64]:
        """The (2, 3) matrix that carries the layer to a pose."""
        scale = pose.face_px / self.face_px
        cos, sin = scale * math.cos(pose.roll_rad), scale * math.sin(pose.roll_rad)
        x, y = self.centre
        return np.array(
            [
                [cos, -sin, pose.x_px - cos * x + sin * y],
                [sin, cos, pose.y_px - sin * x - cos * y],
            ]
        )

    def halved(self) -> Layer:
        pixels = np.asarray(cv2.pyrDown(self.pixels), np.float32)
        return Layer(pixels, (self.centre[0] / 2, self.centre[1] / 2), self.face_px / 2)


@dataclass(frozen=True, slots=True)
class CutOut:
    """A person without background in several sizes, so that shrinking never skips pixels."""

    layers: tuple[Layer, ...]
    """The face is SPRITE_FACE_PX wide in the first, and half as wide in each further one."""

    def layer_for(self, face_px: float) -> Layer:
        """The smallest that is not smaller than wanted, or the largest."""
        return min(
            (layer for layer in self.layers if layer.face_px >= face_px), key=_face_px, default=self.layers[0]
        )


def _face_px(layer: Layer) -> float:
    return layer.face_px


# The figure around a face, in widths (x) and heights (y) of its box from its centre: first guesses
# from the sample portraits, near enough for other people, and a grown man's proportions below.
_WIDE, _ABOVE = 2.1, 1.1
_PHOTO_BELOW = 1.6
"""Photographs end here or later; what is below is drawn."""
_FADE_FROM = 1.1
_FEET = 8.1


def cut_out(photo: Image, face: Box) -> CutOut:
    """Head and shoulders as they are in the photograph, and dark clothes below, where photographs end.

    A first guess of the figure around the face is refined by GrabCut (Rother, Kolmogorov,
    Blake 2004), which needs no model. Face and hair stay whole whatever it finds.
    """
    scale = SPRITE_FACE_PX / face.width_px
    columns = round(2 * _WIDE * SPRITE_FACE_PX)
    face_height = face.height_px * scale
    above, rows = round(_ABOVE * face_height), round((_ABOVE + _PHOTO_BELOW) * face_height)
    x, y = face.centre
    move = np.array([[scale, 0, columns / 2 - x * scale], [0, scale, above - y * scale]])
    if scale < 1:  # a warp takes single pixels; without this the shrunk face would glitter
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.4 / scale), np.uint8)
    upper = cv2.warpAffine(photo, move, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    across = np.abs(np.arange(columns, dtype=np.float32)[None, :] + 0.5 - columns / 2) / SPRITE_FACE_PX
    lines = round((_ABOVE + _FEET) * face_height)
    down = (np.arange(lines, dtype=np.float32)[:, None] + 0.5 - above) / face_height
    person = _person(np.asarray(upper, np.uint8), across, down[:rows])
    pixels = _dressed(np.asarray(upper, np.float32), person, across, down)
    full = Layer(pixels, (columns / 2, above), SPRITE_FACE_PX)
    half = full.halved()
    return CutOut((full, half, half.halved()))


def _person(picture: Image, across: Floats, down: Floats) -> Floats:
    """Coverage, 0 to 1, of the person in the upper part of the cut-out."""
    shoulders = np.interp(down, (0.4, 0.5, 0.75, 1.0, 1.6), (0, 0.4, 0.9, 1.45, 1.65))
    labels = np.full(picture.shape[:2], cv2.GC_BGD, np.uint8)
    labels[_ellipse(across, down + 0.08, 0.85, 1.0) | (across < shoulders * 1.3)] = cv2.GC_PR_BGD
    labels[_ellipse(across, down + 0.1, 0.62, 0.72) | (across < shoulders)] = cv2.GC_PR_FGD
    labels[_ellipse(across, down + 0.02, 0.47, 0.53)] = cv2.GC_FGD
    labels[_between(down, 0.3, 1.0) & (across < 0.28)] = cv2.GC_FGD  # noqa: PLR2004 - half a neck
    labels[_between(down, 1.0, _PHOTO_BELOW) & (across < 0.8)] = cv2.GC_FGD  # noqa: PLR2004 - half a chest
    # Half the size is a quarter of the time, and the edge is softened anyway.
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    found = cv2.resize(labels, (half.shape[1], half.shape[0]), interpolation=cv2.INTER_NEAREST)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(1)  # GrabCut begins with clusters that are drawn by chance
    cv2.grabCut(half, found, (0, 0, 0, 0), *models, 4, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(found, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    whole = cv2.morphologyEx(cv2.morphologyEx(inside, cv2.MORPH_CLOSE, disk), cv2.MORPH_OPEN, disk)
    soft = cv2.GaussianBlur(cv2.resize(whole, picture.shape[1::-1]), (0, 0), 3.0)
    # Drawn in a little, so that no fringe of the photograph's background comes along.
    return np.asarray(np.clip((soft - 0.45) / 0.5, 0, 1), np.float32)


def _dressed(upper: Floats, person: Floats, across: Floats, down: Floats) -> Floats:
    """The whole figure: the photograph fades into plain clothes of its own colours."""
    rows = len(upper)
    chest = (person > 0.5) & (down[:rows] > _FADE_FROM) & (across < 1.4)  # noqa: PLR2004 - without what is beside it
    cloth = np.median(upper[chest], axis=0) * np.interp(down, (_FADE_FROM, _FEET), (1.0, 0.55))
    folds = 1 + 0.12 * np.cos(across * 9 + down) - 0.25 * np.clip(across / 1.5, 0, 1) ** 2

    edge = SPRITE_FACE_PX / 5  # what is drawn fades out over five pixels
    jacket = np.clip((_jacket(person, across, down) - across) * edge, 0, 1)
    leg_outside = np.interp(down, (3.0, 4.2, _FEET), (1.1, 1.12, 0.85))
    leg_inside = np.interp(down, (4.0, 4.3, _FEET), (-0.1, 0.06, 0.3))
    legs = np.clip(np.minimum(leg_outside - across, across - leg_inside) * edge, 0, 1)
    photographed = np.interp(down, (_FADE_FROM, _PHOTO_BELOW), (1.0, 0.0))
    drawn = np.maximum(jacket, legs) * (1 - photographed)

    pixels = np.empty((len(down), across.shape[1], 4), np.float32)
    pixels[..., :3] = (cloth[:, None, :] * folds[..., None]) * drawn[..., None]
    pixels[..., 3] = drawn
    share = person * photographed[:rows]
    pixels[:rows, :, :3] += upper * share[..., None]
    pixels[:rows, :, 3] += share
    return pixels


def _jacket(person: Floats, across: Floats, down: Floats) -> Floats:
    """Half its width in each row and on each side; where the photograph fades, as wide as the person there."""
    half_width = np.empty((len(down), across.shape[1]), np.float32)
    middle = across.shape[1] // 2
    for side in (slice(None, middle), slice(middle, None)):
        seen = person[:, side].sum(axis=1) / SPRITE_FACE_PX
        begin, end = (seen[np.searchsorted(down[: len(seen), 0], y) - 1] for y in (_FADE_FROM, _PHOTO_BELOW))
        widths = (np.clip(begin, 1.2, 2.0), np.clip(end, 1.4, 1.85), 1.6, 1.4, 1.15, 0)
        half_width[:, side] = np.interp(down, (_FADE_FROM, _PHOTO_BELOW, 2.6, 3.4, 4.2, 4.25), widths)
    return half_width


def _ellipse(x: Floats, y: Floats, half_x: float, half_y: float) -> NDArray[np.bool_]:
    return np.asarray((x / half_x) ** 2 + (y / half_y) ** 2 < 1)


def _between(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray((values >= low) & (values < high))


Way = Callable[[float], Pose | None]
"""Where the face is, so many seconds from the beginning; None where nobody is in sight."""


def _scene(corridor: Corridor, people: Sequence[tuple[CutOut, Way]], at_s: float) -> Floats:
    """The corridor with everybody in it, as one exposure sees them."""
    scene = corridor.picture
    there = [(pose, way(at_s + SHUTTER_S) or pose, person) for person, way in people if (pose := way(at_s))]
    for pose, next_pose, person in sorted(there, key=_depth_m, reverse=True):
        scene = over(scene, _lit(person, corridor, pose), pose, next_pose)
    return scene


def _depth_m(there: tuple[Pose, Pose, CutOut]) -> float:
    return there[0].depth_m


def _lit(person: CutOut, corridor: Corridor, pose: Pose) -> Layer:
    """The layer that fits the pose's size, under the lamp that the person is passing."""
    layer = person.layer_for(pose.face_px)
    lamp = float(_lamp_light(pose.depth_m, corridor.lamp_spacing_m))
    across = np.linspace(-1, 1, layer.pixels.shape[1], dtype=np.float32)
    light = lamp * (1 + 0.4 * corridor.side_light * np.tanh(2.5 * across))
    pixels = layer.pixels.copy()
    pixels[..., :3] *= light[None, :, None]
    return Layer(pixels, layer.centre, layer.face_px)


def over(background: Floats, layer: Layer, pose: Pose, next_pose: Pose) -> Floats:
    """Lay the person over the corridor, smeared over the way from one pose to the next."""
    height, width = background.shape[:2]
    moved_px = math.hypot(next_pose.x_px - pose.x_px, next_pose.y_px - pose.y_px)
    looks = min(MAX_LOOKS, 1 + round(moved_px / 2))
    seen = np.zeros((height, width, 4), np.float32)
    for share in (np.arange(looks) + 0.5) / looks:
        move = layer.placed(pose.toward(next_pose, float(share)))
        seen += cv2.warpAffine(layer.pixels, move, (width, height), flags=cv2.INTER_LINEAR)
    seen /= looks
    return np.asarray(background * (1 - seen[..., 3:]) + seen[..., :3], np.float32)


@dataclass(frozen=True, slots=True)
class Sensor:
    """A small camera's lens, exposure and noise."""

    gains: Floats
    """(3,) BGR: white balance that is not quite right."""
    exposure: float
    near_exposure: float
    """What automatic exposure makes of it while somebody fills the picture."""
    read_noise: float
    """Standard deviation in grey levels at black."""
    shot_noise: float
    """Variance in grey levels squared for each grey level: noise grows with the root of the light."""

    @classmethod
    def by_chance(cls, rng: np.random.Generator) -> Sensor:
        """From bright and clean to dim and noisy, as indoor cameras are."""
        return cls(
            gains=rng.uniform(0.94, 1.06, 3).astype(np.float32),
            exposure=rng.uniform(0.75, 1.1),
            near_exposure=rng.uniform(0.75, 1.1),
            read_noise=rng.uniform(1.0, 2.5),
            shot_noise=rng.uniform(0.02, 0.10),
        )

    def expose(self, scene: Floats, rng: np.random.Generator, filled: float) -> Image:
        """One frame of the scene; `filled` is 0 where nobody is there, 1 where somebody is right before it."""
        height, width = scene.shape[:2]
        exposure = self.exposure + (self.near_exposure - self.exposure) * filled
        light = cv2.GaussianBlur(scene, (0, 0), 0.6) * (exposure * self.gains)
        # Grey noise in every pixel, colour noise in every fourth: what is left after demosaicing.
        grey = rng.standard_normal((height, width, 1), np.float32)
        colour = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 3), np.float32)
        noise = grey + 0.6 * cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR)
        noise *= np.sqrt(self.read_noise**2 + self.shot_noise * np.maximum(light, 0))
        return np.clip(light + noise + 0.5, 0, 255).astype(np.uint8)
