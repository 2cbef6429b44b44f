"""Headscarves, surgical masks and glasses, rendered onto a photographed face from its five keypoints.

The keypoints are fitted to a head of average size, which says how it is turned; the
covering is drawn on that head in millimetres and projected back. What it does not cover
keeps every pixel. The light on it follows the light on the face.

A head's coordinates: millimetres from the middle between the eyes, x to the right of
the picture for a head that looks at the camera, y down, z toward the camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadImage
from edge.records import Face, Image, Points

Floats = NDArray[np.float32]

LANDMARKS_MM = np.array([[-32, 0, 0], [32, 0, 0], [0, 37, 25], [-26, 73, 4], [26, 73, 4]], float)
"""Eyes, nose, mouth corners. Eyes 64 mm apart (Dodgson, "Variation and extrema of human interpupillary
distance", 2004: mean 63); the rest in the proportions of the ArcFace template, the nose's depth from
anthropometry's 20 to 25 mm of protrusion and 5 mm between mouth and eyes."""


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where an average head is in a picture: scaled orthographic projection, as from some distance."""

    projection: NDArray[np.float64]
    """(2, 3): the first two rows of a rotation, in pixels per millimetre."""
    origin: NDArray[np.float64]
    """(2,): the point between the eyes, in pixels."""

    @property
    def px_per_mm(self) -> float:
        return float(np.linalg.norm(self.projection[0]))

    @property
    def along(self) -> NDArray[np.float64]:
        """(2,): from the picture's left to its right through the eyes, of length 1."""
        across = self.projection[:, 0]
        return across / np.linalg.norm(across)

    @property
    def turn(self) -> float:
        """Sine of the yaw: -1 looks to the left of the picture, 1 to the right."""
        return float(np.clip(self.projection[:, 2] @ self.along / self.px_per_mm, -1, 1))

    def project(self, points: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) millimetres of the head to (n, 2) pixels."""
        return np.asarray(points, float) @ self.projection.T + self.origin


def pose_of(keypoints: Points) -> Pose:
    """Fit the average head to five keypoints (DeMenthon and Davis, IJCV 15, 1995: one step of POSIT).

    Raises BadImage where the keypoints coincide or are not finite.
    """
    points = np.asarray(keypoints, float)
    model = LANDMARKS_MM - LANDMARKS_MM.mean(axis=0)
    centre = points.mean(axis=0)
    if not np.isfinite(points).all():
        raise BadImage("keypoints that are not finite")
    affine = np.linalg.lstsq(model, points - centre, rcond=None)[0].T
    left, sizes, right = np.linalg.svd(affine, full_matrices=False)
    if sizes[1] < 1e-3:  # noqa: PLR2004 - a head of a tenth of a pixel
        raise BadImage("keypoints that coincide")
    # One scale for both axes; the size in the picture is that of the keypoints.
    turned = left @ right
    scale = float(np.sum(turned @ model.T * (points - centre).T) / np.sum((turned @ model.T) ** 2))
    projection = turned * scale
    return Pose(projection, centre - projection @ LANDMARKS_MM.mean(axis=0))


def put_on_scarf(image: Image, face: Face, rng: np.random.Generator) -> Image:
    """A headscarf that leaves the face from brows to chin free and covers hair, ears, neck and chest.

    Raises BadImage where the keypoints show no face.
    """
    return _covered(image, face, rng, _draw_scarf)


def put_on_mask(image: Image, face: Face, rng: np.random.Generator) -> Image:
    """A surgical mask from the bridge of the nose to under the chin, with loops around the ears.

    Raises BadImage where the keypoints show no face.
    """
    return _covered(image, face, rng, _draw_mask)


def put_on_glasses(image: Image, face: Face, rng: np.random.Generator) -> Image:
    """Glasses of one of several shapes and colours, with a slight reflection.

    Raises BadImage where the keypoints show no face.
    """
    return _covered(image, face, rng, _draw_glasses)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The part of a picture that a covering may change, and the light in it."""

    pixels: Floats
    """(h, w, 3) BGR, 0 to 255; painted on in place."""
    pose: Pose
    """In pixels of this part."""
    x_mm: Floats
    """(h, w): upright in the head's own roll, from between the eyes."""
    y_mm: Floats
    light: float
    """How bright the face is, 1 where its cheeks have FACE_GREY; not above 1.12, where cloth would burn out."""
    side_light: float
    """-0.5 (light from the left) to 0.5: relative change of light over 100 mm to the right."""

    def filled(self, outline_mm: NDArray[np.float64]) -> Floats:
        """Coverage (h, w), 0 to 1, of a closed outline of (n, 3) millimetres; soft at its edge."""
        return self.filled_px(self.pose.project(outline_mm))

    def filled_px(self, outline: NDArray[np.float64]) -> Floats:
        """The same of (n, 2) pixels."""
        coverage = np.zeros(self.pixels.shape[:2], np.uint8)
        cv2.fillPoly(coverage, [_fixed(outline)], 255, cv2.LINE_AA, FRACTION_BITS)
        return np.asarray(coverage / 255, np.float32)

    def stroked(self, line_mm: NDArray[np.float64], width_mm: float) -> Floats:
        """Coverage of a line; one thinner than a pixel covers it in part."""
        width = width_mm * self.pose.px_per_mm
        coverage = np.zeros(self.pixels.shape[:2], np.uint8)
        drawn = max(1, round(width))
        points = _fixed(self.pose.project(line_mm))
        cv2.polylines(coverage, [points], False, 255, drawn, cv2.LINE_AA, FRACTION_BITS)
        return np.asarray(coverage / 255 * min(1.0, width / drawn), np.float32)

    def lit(self) -> Floats:
        """(h, w): what the light makes of a grey level: that of the face, carried on over the picture."""
        side = 1 + np.clip(self.side_light * self.x_mm / 100, -0.4, 0.4)
        return np.asarray(self.light * side, np.float32)

    def paint(self, colour: Floats, coverage: Floats) -> None:
        """Lay a colour, (3,) or (h, w, 3), over the picture."""
        self.pixels[:] += (colour - self.pixels) * coverage[..., np.newaxis]

    def soften(self, coverage: Floats, mm: float) -> Floats:
        """Blurred by so many millimetres."""
        return np.asarray(cv2.GaussianBlur(coverage, (0, 0), max(0.3, mm * self.pose.px_per_mm)), np.float32)


Draw = Callable[[Scene, np.random.Generator], None]

FRACTION_BITS = 4
"""Outlines are drawn to a sixteenth of a pixel."""

FACE_GREY = 157.0
"""Median grey level of a cheek over a thousand photographs of LFW, most of which were lit with care."""

REACH_MM = (220.0, 220.0, 360.0)
"""How far to the sides, up and down a covering may reach from between the eyes."""


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.asarray(np.round(points * 2**FRACTION_BITS), np.int32)


def _covered(image: Image, face: Face, rng: np.random.Generator, draw: Draw) -> Image:
    pose = pose_of(face.keypoints)
    height, width = image.shape[:2]
    aside, above, below = (reach * pose.px_per_mm for reach in REACH_MM)
    x, y = pose.origin
    rows = slice(max(0, int(y - above)), max(0, min(height, int(y + below))))
    columns = slice(max(0, int(x - aside)), max(0, min(width, int(x + aside))))
    changed = image.copy()
    if rows.start < rows.stop and columns.start < columns.stop:
        scene = _scene(image[rows, columns], Pose(pose.projection, pose.origin - (columns.start, rows.start)))
        draw(scene, rng)
        changed[rows, columns] = np.clip(np.round(scene.pixels), 0, 255).astype(np.uint8)
    return changed


def _scene(part: Image, pose: Pose) -> Scene:
    height, width = part.shape[:2]
    along = pose.along
    x = np.arange(width, dtype=np.float32)[np.newaxis, :] - pose.origin[0]
    y = np.arange(height, dtype=np.float32)[:, np.newaxis] - pose.origin[1]
    x_mm = np.asarray((along[0] * x + along[1] * y) / pose.px_per_mm, np.float32)
    y_mm = np.asarray((along[0] * y - along[1] * x) / pose.px_per_mm, np.float32)
    grey = np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), np.float32)
    levels = [_level(grey, pose, side) for side in (-1, 1)]
    light = float(np.clip(np.mean(levels) / FACE_GREY, 0.3, 1.12))
    side_light = float(np.clip((levels[1] - levels[0]) / (sum(levels) + 1) * 1.6, -0.5, 0.5))
    return Scene(part.astype(np.float32), pose, x_mm, y_mm, light, side_light)


def _level(grey: Floats, pose: Pose, side: int) -> float:
    """Median grey level of one cheek; FACE_GREY where that is outside the picture."""
    x, y = pose.project([[side * 36, 36, 0]])[0]
    reach = max(1.0, 10 * pose.px_per_mm)
    rows, columns = ((max(0, int(at - reach)), max(0, int(at + reach) + 1)) for at in (y, x))
    cheek = grey[slice(*rows), slice(*columns)]
    return float(np.median(cheek)) if cheek.size else FACE_GREY


def _outline(points: Sequence[Sequence[float]], mirrored: bool = False) -> NDArray[np.float64]:
    """A closed line through the middles of a polygon's sides, its corners cut three times (Chaikin, 1974).

    `mirrored` adds the same points on the other side of the face, in reverse.
    """
    outline = np.array(points, float)
    if mirrored:
        outline = np.concatenate([outline, outline[::-1] * (-1, 1, 1)])
    for _ in range(3):
        ahead = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * ahead, 0.25 * outline + 0.75 * ahead], axis=1)
        outline = outline.reshape(-1, outline.shape[-1])
    return outline


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.convexHull(points.astype(np.float32)), float).reshape(-1, 2)


# Headscarf

FABRICS = (
    (38, 36, 35),
    (72, 48, 34),
    (58, 44, 108),
    (142, 134, 180),
    (176, 194, 206),
    (206, 208, 210),
    (128, 130, 134),
    (66, 92, 84),
    (120, 112, 58),
    (70, 130, 180),
    (96, 116, 146),
    (140, 104, 78),
)
"""BGR in good light: black, navy, maroon, dusty pink, cream, white, grey, olive, teal, ochre, tan, blue."""

OPENING_MM = (
    (12, -61, -4),
    (38, -54, -12),
    (60, -26, -28),
    (69, 8, -38),
    (68, 44, -38),
    (60, 80, -32),
    (40, 116, -14),
    (14, 128, -6),
)
"""Half of the edge around the face, from the forehead down: hairline covered, brows and chin free."""

PROFILE_MM = ((0, -50, 8), (0, 0, 18), (0, 37, 34), (0, 72, 20), (0, 108, 14))
"""Forehead, root and tip of the nose, lips, chin: free as well, which matters where a head is turned."""

DRAPE_MM = (
    (18, -124),
    (58, -108),
    (86, -66),
    (96, -10),
    (95, 60),
    (99, 108),
    (128, 150),
    (168, 200),
    (176, 290),
    (90, 350),
)
"""Half of the outer edge in the picture's plane, upright in the head's roll: a head 155 mm wide in cloth
and hair, and the cloth on chest and shoulders."""


FOLDS_AROUND = 9
"""Into how many pieces a fold's way around the face is divided."""


def _draw_scarf(scene: Scene, rng: np.random.Generator) -> None:
    fabric = np.array(FABRICS[rng.integers(len(FABRICS))], np.float32) * np.float32(rng.uniform(0.85, 1.08))
    free = scene.filled_px(_hull(scene.pose.project([*_outline(OPENING_MM, mirrored=True), *PROFILE_MM])))
    drape = scene.filled_px(_draped(scene, rng))
    outer = scene.soften(drape, 1.5)
    cloth = np.where(free > 0, drape * (1 - free), outer).astype(np.float32)
    shade = _folds(scene, free, drape, rng) * scene.lit()
    grain = rng.normal(0, 1.6, (*shade.shape, 1)).astype(np.float32)
    scene.paint(fabric * shade[..., np.newaxis] + grain, cloth)


def _draped(scene: Scene, rng: np.random.Generator) -> NDArray[np.float64]:
    """The outer edge in pixels: around the middle of the head, which lies behind the face."""
    half = np.array(DRAPE_MM, float) * (rng.uniform(0.98, 1.06), 1)
    outline = _outline(np.concatenate([half, half[::-1] * (-1, 1)]).tolist())
    outline[:, 0] *= 1 + 0.1 * abs(scene.pose.turn)  # a head is longer than wide
    along = scene.pose.along
    upright = np.array([[along[0], -along[1]], [along[1], along[0]]]) * scene.pose.px_per_mm
    behind = scene.pose.project([[0, 0, -60]])[0] - scene.pose.project([[0, 0, 0]])[0]
    head = np.clip((215 - outline[:, 1:]) / 150, 0.4, 1)  # the shoulders follow the head's turn less
    return np.asarray(outline @ upright.T + scene.pose.origin + head * behind)


def _folds(scene: Scene, free: Floats, drape: Floats, rng: np.random.Generator) -> Floats:
    """(h, w): how bright the cloth is, 1 where flat and lit."""
    millimetre = scene.pose.px_per_mm
    from_face = np.asarray(cv2.distanceTransform((free < 0.5).astype(np.uint8), cv2.DIST_L2, 3)) / millimetre  # noqa: PLR2004
    from_edge = np.asarray(cv2.distanceTransform((drape > 0.5).astype(np.uint8), cv2.DIST_L2, 3)) / millimetre  # noqa: PLR2004
    x, y = scene.x_mm, scene.y_mm - 35
    # Folds run about along the face's edge, rise to one side, and begin and end anywhere.
    around = np.arctan2(x, y)
    rise = rng.uniform(-18, 18) * np.sin(around + rng.uniform(-0.6, 0.6))
    row = np.clip(from_face + rise, 0, None) / rng.uniform(7, 11) + 2
    column = (1.5 + around / (2 * np.pi)) * FOLDS_AROUND
    pattern = np.tile(rng.normal(0, 1, (60, FOLDS_AROUND)).astype(np.float32), (1, 3))
    pattern = np.asarray(cv2.GaussianBlur(pattern, (0, 0), 0.8), np.float32)
    folds = cv2.remap(
        pattern,
        column.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    below = np.clip((scene.y_mm - 30) / 110, 0, 1)
    shade = 1 + (0.06 + 0.15 * below) * np.tanh(4.5 * np.asarray(folds))
    shade *= 0.72 + 0.28 * np.clip(from_edge / 28, 0, 1) ** 0.7  # the cloth turns away from the eye there
    shade *= 1 - 0.30 * np.exp(-(((scene.y_mm - 138) / 16) ** 2) - (x / 48) ** 2)  # under the chin
    shade *= 1 - 0.22 * np.exp(-from_face / 3.5)  # the hem
    shade *= 1.06 - 0.16 * np.clip((scene.y_mm + 100) / 260, 0, 1)  # lamps hang above
    return np.asarray(shade, np.float32)


# Mask

MASKS = ((204, 184, 152), (216, 206, 190), (222, 222, 222), (190, 176, 136), (50, 47, 47))
"""BGR in good light: two light blues, white, a greener blue, black."""

MASK_MM = (
    (4, 3, 18),
    (17, 9, 18),
    (42, 24, 0),
    (67, 35, -36),
    (69, 62, -42),
    (62, 94, -32),
    (38, 124, -8),
    (8, 132, 2),
)
"""Half of the edge, from the bridge of the nose over the cheek to under the chin."""

PLEATS_MM = (56, 74, 92)
"""How far below the eyes a mask's three pleats lie; drawn after what is sold, not measured."""


def _draw_mask(scene: Scene, rng: np.random.Generator) -> None:
    chosen = int(rng.integers(len(MASKS)))
    colour = np.array(MASKS[chosen], np.float32) * np.float32(rng.uniform(0.9, 1.08))
    drop = rng.uniform(-2, 5)  # some wear it lower
    light = scene.lit()
    for side in _seen_sides(scene.pose):
        for top, ear in ((40, 24), (86, 58)):
            ends = [side * 62, top + drop, -34], [side * 75, ear, -66]
            loop = scene.stroked(np.array([ends[0], [side * 70, (top + ear) / 2, -50], ends[1]]), 1.8)
            scene.paint(np.float32(225) * light[..., np.newaxis], 0.7 * loop)
    outline = scene.pose.project(_outline(MASK_MM, mirrored=True) + np.array([0, drop, 0]))
    # From the front the upper edge dips beside the nose; of a turned head only the outside is seen.
    cover = scene.filled_px(outline) if abs(scene.pose.turn) < 0.35 else scene.filled_px(_hull(outline))  # noqa: PLR2004
    shade = _mask_shade(scene, drop)
    grain = rng.normal(0, 1.2, (*shade.shape, 1)).astype(np.float32)
    scene.paint(colour * (shade * light)[..., np.newaxis] + grain, cover)
    edge = np.clip(cover - scene.soften(cover, 2.2), 0, 1)
    scene.paint(colour * (0.72 * light)[..., np.newaxis], edge * (cover > 0))


def _mask_shade(scene: Scene, drop: float) -> Floats:
    """(h, w): bright over nose and mouth, darker to the sides and under the chin, with three pleats."""
    middle = scene.pose.project([[0, 70, 12]])[0] - scene.pose.origin
    along = scene.pose.along
    aside = (scene.x_mm - float(middle @ along) / scene.pose.px_per_mm) / 70
    shade = 0.98 - 0.34 * np.clip(aside**2, 0, 1.2) - 0.22 * np.clip((scene.y_mm - 88) / 45, 0, 1) ** 1.5
    for pleat in PLEATS_MM:
        across = np.linspace(-54, 54, 9)
        bow = np.stack([across, pleat + drop + 5 * (across / 54) ** 2, 16 - 34 * (across / 54) ** 2], axis=1)
        shade -= 0.20 * scene.soften(scene.stroked(bow, 2.0), 0.9)
        shade += 0.07 * scene.soften(scene.stroked(bow + np.array([0, 4, 0]), 3.0), 1.2)
    wire = np.array([[-26, 24, 12], [-10, 17, 20], [0, 16, 23], [10, 17, 20], [26, 24, 12]], float)
    shade += 0.05 * scene.soften(scene.stroked(wire + np.array([0, drop + 3, 0]), 4.0), 1.0)
    return np.asarray(shade, np.float32)


def _seen_sides(pose: Pose) -> tuple[int, ...]:
    """The ears that the camera sees: -1 the one on the picture's left, 1 the other."""
    if abs(pose.turn) < 0.2:  # noqa: PLR2004 - 12 degrees: both
        return (-1, 1)
    return (-1,) if pose.turn > 0 else (1,)


# Glasses

FRAMES = ((28, 26, 26), (34, 52, 84), (40, 40, 60), (148, 150, 152), (92, 146, 178), (74, 50, 40))
"""BGR in good light: black, tortoise, dark red, steel, gold, blue."""

METAL_FROM, METAL_TO = 3, 5
"""Which of FRAMES are wire: thinner."""

LENS_POINTS = 120
"""Of a lens's outline. Set: enough for a curve that looks smooth."""


def _draw_glasses(scene: Scene, rng: np.random.Generator) -> None:
    chosen = int(rng.integers(len(FRAMES)))
    metal = METAL_FROM <= chosen < METAL_TO
    rim_mm = rng.uniform(1.3, 2.0) if metal else rng.uniform(2.4, 4.5)
    colour = np.array(FRAMES[chosen], np.float32)
    half_width, half_height = rng.uniform(23, 27), rng.uniform(15, 22)
    power = rng.choice((2.0, 2.6, 4.0))  # round, panto, rectangular
    light = scene.lit()
    dark = (colour * 0.4)[np.newaxis, np.newaxis]
    glare = rng.uniform(0.05, 0.30)
    slant = rng.uniform(-0.5, 0.5)
    for side in _seen_sides(scene.pose):
        hinge = side * (35 + half_width)
        temple = np.array([[hinge, -4, 4], [hinge + side * 6, -4, -10], [side * 74, 0, -85]])
        scene.paint(colour * light[..., np.newaxis], 0.9 * scene.stroked(temple, max(2.0, 0.8 * rim_mm)))
    frame = np.zeros(scene.pixels.shape[:2], np.float32)
    for side in (-1, 1):
        inner = _lens(side, half_width, half_height, power)
        outer = _lens(side, half_width + rim_mm, half_height + rim_mm, power)
        lens = scene.filled(inner)
        scene.paint(dark, 0.05 * lens)
        scene.paint(np.float32(235) * light[..., np.newaxis], lens * _reflection(scene, side, glare, slant))
        frame = np.maximum(frame, np.clip(scene.filled(outer) - lens, 0, 1))
    bridge = np.array([[-12, -3, 17], [-5, -7, 21], [5, -7, 21], [12, -3, 17]], float)
    frame = np.maximum(frame, scene.stroked(bridge, rim_mm))
    shadow = np.clip(scene.soften(np.roll(frame, max(1, round(3 * scene.pose.px_per_mm)), axis=0), 1.5), 0, 1)
    scene.paint(np.zeros(3, np.float32), 0.18 * shadow * (1 - frame))
    top = np.clip(1.25 - 0.02 * (scene.y_mm + half_height), 0.8, 1.35)  # lamps hang above
    scene.paint(colour * (light * top)[..., np.newaxis] + (14 if metal else 6), frame)


def _lens(side: int, half_width: float, half_height: float, power: float) -> NDArray[np.float64]:
    """A superellipse before one eye, bent back toward the temple."""
    angle = np.linspace(0, 2 * np.pi, LENS_POINTS, endpoint=False)
    x = half_width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power)
    y = half_height * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power)
    y = np.where(y > 0, y * (1 - 0.15 * np.clip(-x / half_width, 0, 1)), y)  # the nose is in the way
    out = side * x + half_width
    return np.stack([side * 35 + x, 3 + y, 15 - 0.0035 * out**2], axis=1)


def _reflection(scene: Scene, side: int, strength: float, slant: float) -> Floats:
    """Coverage of a soft streak across one lens."""
    eye = scene.pose.project([[side * 35, 0, 15]])[0] - scene.pose.origin
    along = scene.pose.along
    x = scene.x_mm - float(eye @ along) / scene.pose.px_per_mm
    place = x + (0.6 + slant) * scene.y_mm + side * 6
    return np.asarray(strength * np.exp(-((place / 6) ** 4)) + 0.03, np.float32)
