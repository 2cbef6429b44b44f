"""What the model files are and how to feed them: `models/manifest.toml` as values.

The manifest is read strictly: an unknown key, a wrong type or a number out of bounds stops
the program with file, key, value and what would be allowed, because a wrong normalisation
or alignment point costs accuracy without ever raising an error.

An *embedder* is one or several models whose vectors are joined. Its id names everything
that shapes a vector; galleries carry it, so that vectors of two embedders never meet.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from edge.errors import ModelError
from edge.recognition.tables import Table, number_within, open_table
from edge.recognition.thresholds import Thresholds

SCHEMA = 1
"""Version of the file's form, to be raised when it changes."""

VECTOR_CODE = 2
"""Part of every embedder id. To be raised when a change of the code in `detect`, `refine`, `align` or
`embed` makes other vectors from the same pictures, so that old galleries are refused."""

MAX_SIDE_PX = 4096
"""Of a model's input. Set: no model of this size class takes a larger side."""

MAX_DIMENSIONS = 4096
"""Of a vector, as in a gallery. Set, to bound what a file may claim."""

LONGEST_CENTRE = 0.7
"""Length of a mean of unit vectors, 0 to 1. Set: a longer one would leave hardly anything to tell people apart by;
those of the shipped models are 0.20 and 0.31 long (`hadir-edge evaluate centre`)."""

Dtype = Literal["float32", "int8"]
ColourOrder = Literal["RGB", "BGR"]
Template = tuple[tuple[float, float], ...]
"""Five points x, y in pixels of the crop, in the order of `edge.records.Points`."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How bytes 0..255 become the numbers that a network was trained on.

    `none`: the network takes 0..255 as they are (or scales inside its graph).
    `fixed`: (x - mean) / divisor.
    `per-image`: (x - mean of the crop) / max(its standard deviation, 1 / sqrt(number of
    values)), which FaceNet's authors call prewhitening.
    """

    kind: Literal["none", "fixed", "per-image"]
    mean: float = 0.0
    divisor: float = 1.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a face's five points go in the crop that an embedding network takes."""

    name: str
    points: Template
    crop_px: int
    """Side of the square crop."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model came from: one file inside one release on the package index."""

    package: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a model or embedder and the commands that print them; None where not measured."""

    command: str
    cosine_mean: float | None = None
    cosine_min: float | None = None
    deviation_max: float | None = None
    accuracy: float | None = None
    accuracy_stderr: float | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model file: a detector, or what every model file has."""

    key: str
    kind: Literal["embedder", "detector", "liveness"]
    file: str
    """Name inside the manifest's folder."""
    sha256: str
    input_shape: tuple[int, int, int, int]
    """Batch (always 1), height, width, channels (always 3)."""
    dtype: Dtype
    """Of the input and the output tensor."""
    colour_order: ColourOrder
    normalisation: Normalisation
    output: str
    licence: str
    trained_on: str
    source: Source
    measured: Measured


@dataclass(frozen=True, slots=True)
class VectorModelSpec(ModelSpec):
    """A model file that turns an aligned crop into a vector."""

    alignment: Alignment
    dimensions: int
    fusion_weight: float
    """Before it is divided by the sum of an embedder's weights."""
    centre: tuple[float, ...] = ()
    """The mean of many people's unit vectors, which is taken from each vector before it is made a unit
    vector again: faces have much in common, and cosines should not be about that. Empty: nothing."""

    def shaping(self) -> dict[str, Any]:
        """What shapes this model's part of a vector, its weight excepted."""
        return {
            "sha256": self.sha256,
            "dimensions": self.dimensions,
            "alignment": [list(point) for point in self.alignment.points],
            "crop_px": self.alignment.crop_px,
            "colour_order": self.colour_order,
            "normalisation": [
                self.normalisation.kind,
                self.normalisation.mean,
                self.normalisation.divisor,
            ],
            **({"centre": list(self.centre)} if self.centre else {}),
        }


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """One or several embedding models, the detector whose keypoints align for them, thresholds."""

    name: str
    models: tuple[VectorModelSpec, ...]
    detector: ModelSpec
    refiner: ModelSpec
    """The detector that looks at each face a second time."""
    thresholds: Thresholds
    measured: Measured | None

    @property
    def dimensions(self) -> int:
        return sum(model.dimensions for model in self.models)

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each model's similarity in that of the whole; they sum to 1."""
        total = sum(model.fusion_weight for model in self.models)
        return tuple(model.fusion_weight / total for model in self.models)

    @property
    def id(self) -> str:
        """SHA-256 in hex of canonical JSON (keys sorted, no spaces) over all that shapes a vector."""
        shaping = {
            "code": VECTOR_CODE,
            "detector": self.detector.sha256,
            "refiner": self.refiner.sha256,
            "models": [
                model.shaping() | {"weight": weight}
                for model, weight in zip(self.models, self.weights, strict=True)
            ],
        }
        canonical = json.dumps(shaping, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def threshold(self, enrolled: int, fpir_target: float | None = None) -> float:
        """The similarity from which a match may count; see `Thresholds.at`."""
        return self.thresholds.at(enrolled, fpir_target)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All models and embedders of one folder."""

    folder: Path
    models: Mapping[str, ModelSpec]
    embedders: Mapping[str, EmbedderSpec]
    default_embedder: str

    def model(self, key: str) -> ModelSpec:
        """Raises ModelError for an unknown key, and lists those that exist."""
        return _pick(self.models, key, "model", self.folder)

    def embedder(self, name: str | None = None) -> EmbedderSpec:
        """The named embedder, or the default one. Raises ModelError for an unknown name."""
        chosen = self.default_embedder if name is None else name
        return _pick(self.embedders, chosen, "embedder", self.folder)


def load_manifest(folder: Path | None = None) -> Manifest:
    """Read `manifest.toml` of a folder, or of the installed package where None is given.

    Raises ModelError if it is missing or does not say exactly what is expected.
    """
    folder = folder or installed_folder()
    return _manifest(folder, open_table(folder / "manifest.toml"))


_Named = TypeVar("_Named", ModelSpec, EmbedderSpec)


def installed_folder() -> Path:
    """Where the models of the installed package lie."""
    with resources.as_file(resources.files("hadir_models")) as folder:
        return folder


def _pick(values: Mapping[str, _Named], name: str, what: str, folder: Path) -> _Named:
    if name not in values:
        known = ", ".join(sorted(values))
        raise ModelError(f'{folder / "manifest.toml"}: no {what} "{name}"; there are: {known}')
    return values[name]


def _manifest(folder: Path, table: Table) -> Manifest:
    take_schema(table)
    default = table.text("default_embedder")
    models = {key: _model(key, entry) for key, entry in table.tables("models").items()}
    embedders = {name: _embedder(name, entry, models) for name, entry in table.tables("embedders").items()}
    if default not in embedders:
        table.refuse("default_embedder", default, "one of " + ", ".join(sorted(embedders)))
    table.done()
    return Manifest(folder, MappingProxyType(models), MappingProxyType(embedders), default)


def take_schema(table: Table) -> None:
    """Refuse a manifest of another form."""
    table.take("schema", f"{SCHEMA} (this program reads no other)", lambda v: v is not True and v == SCHEMA)


def _model(key: str, table: Table) -> ModelSpec:
    common = take_common(key, table, ("embedder", "detector"))
    if common["kind"] == "detector":
        spec = ModelSpec(**common)
    else:
        dimensions = table.integer("dimensions", 1, MAX_DIMENSIONS)
        spec = VectorModelSpec(
            **common,
            alignment=_alignment(table, common["input_shape"]),
            dimensions=dimensions,
            fusion_weight=table.number("fusion_weight", 0.001, 1),
            centre=_centre(table, dimensions) if table.has("centre") else (),
        )
    table.done()
    return spec


def take_common(key: str, table: Table, kinds: tuple[str, ...]) -> dict[str, Any]:
    """What every model's table has, as arguments of a ModelSpec."""
    return {
        "key": key,
        "kind": table.choice("kind", kinds),
        "file": table.take("file", "a file name ending in .tflite, without folders", _is_file_name),
        "sha256": table.sha256("sha256"),
        "input_shape": tuple(table.take("input_shape", _INPUT_SHAPES, _is_input_shape)),
        "dtype": table.choice("dtype", ("float32", "int8")),
        "colour_order": table.choice("colour_order", ("RGB", "BGR")),
        "normalisation": _normalisation(table.table("normalisation")),
        "output": table.text("output"),
        "licence": table.text("licence"),
        "trained_on": table.text("trained_on"),
        "source": _source(table.table("source"), table),
        "measured": take_measured(table.table("measured")),
    }


_INPUT_SHAPES = f"[1, height, width, 3], height and width 1 to {MAX_SIDE_PX}"


def _is_input_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4  # noqa: PLR2004  batch, height, width, channels
        and all(isinstance(side, int) and not isinstance(side, bool) for side in value)
        and (value[0], value[3]) == (1, 3)
        and all(1 <= side <= MAX_SIDE_PX for side in value[1:3])
    )


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tflite", value) is not None


def _normalisation(table: Table) -> Normalisation:
    kind = table.choice("kind", ("none", "fixed", "per-image"))
    if kind == "fixed":
        normalisation = Normalisation(kind, table.number("mean", 0, 255), table.number("divisor", 0.001, 255))
    else:
        normalisation = Normalisation(kind)
    table.done()
    return normalisation


def _alignment(table: Table, input_shape: tuple[int, ...]) -> Alignment:
    crop_px = int(
        table.take(
            "crop_px",
            f"the height and width of input_shape = {list(input_shape)}",
            lambda v: isinstance(v, int) and input_shape[1:3] == (v, v),
        )
    )
    entry = table.table("alignment")
    points = entry.take(
        "points",
        f"five [x, y] from 0 to {crop_px}: right eye, left eye, nose, right and left mouth corner",
        lambda v: _are_points(v, crop_px),
    )
    alignment = Alignment(entry.text("name"), tuple((float(x), float(y)) for x, y in points), crop_px)
    entry.done()
    return alignment


def _are_points(value: Any, crop_px: int) -> bool:
    fits = number_within(0, crop_px)
    return (
        isinstance(value, list)
        and len(value) == 5  # noqa: PLR2004  as many as edge.records.Points has
        and all(isinstance(p, list) and len(p) == 2 and all(fits(v) for v in p) for p in value)  # noqa: PLR2004
    )


def _centre(table: Table, dimensions: int) -> tuple[float, ...]:
    within = number_within(-1, 1)
    centre = table.take(
        "centre",
        f"{dimensions} numbers from -1 to 1, together shorter than {LONGEST_CENTRE:g}",
        lambda v: (
            isinstance(v, list)
            and len(v) == dimensions
            and all(within(value) for value in v)
            and math.hypot(*v) < LONGEST_CENTRE
        ),
    )
    return tuple(float(value) for value in centre)


def _source(table: Table, parent: Table) -> Source:
    source = Source(
        table.text("package"), table.text("version"), table.text("file"), parent.sha256("source_sha256")
    )
    table.done()
    return source


def take_measured(table: Table) -> Measured:
    measured = Measured(
        command=table.text("command"),
        cosine_mean=table.figure("cosine_mean", -1, 1),
        cosine_min=table.figure("cosine_min", -1, 1),
        deviation_max=table.figure("deviation_max", 0, 1),
        accuracy=table.figure("accuracy", 0, 1),
        accuracy_stderr=table.figure("accuracy_stderr", 0, 1),
    )
    table.done()
    return measured


def _embedder(name: str, table: Table, models: Mapping[str, ModelSpec]) -> EmbedderSpec:
    embedding = {key: model for key, model in models.items() if isinstance(model, VectorModelSpec)}
    chosen = table.take(
        "models",
        "a list, each once, of: " + ", ".join(embedding),
        lambda v: (
            isinstance(v, list)
            and len(v) > 0
            and all(isinstance(key, str) for key in v)
            and len(set(v)) == len(v)
            and set(v) <= set(embedding)
        ),
    )
    detectors = tuple(key for key in models if key not in embedding)
    detector, refiner = table.choice("detector", detectors), table.choice("refiner", detectors)
    spec = EmbedderSpec(
        name=name,
        models=tuple(embedding[key] for key in chosen),
        detector=models[detector],
        refiner=models[refiner],
        thresholds=_thresholds(table.table("thresholds")),
        measured=take_measured(table.table("measured")) if table.has("measured") else None,
    )
    table.done()
    return spec


def _thresholds(table: Table) -> Thresholds:
    whole = number_within(1, 10_000_000)
    enrolled = table.take(
        "enrolled",
        "a list of whole numbers, at least 1, rising",
        lambda v: (
            isinstance(v, list)
            and len(v) > 0
            and all(isinstance(size, int) and whole(size) for size in v)
            and all(a < b for a, b in pairwise(v))
        ),
    )
    cosine = number_within(-1, 1)
    similarity = table.take(
        "similarity",
        f"{len(enrolled)} numbers from -1 to 1, one for each of `enrolled`, none lower than the one before",
        lambda v: (
            isinstance(v, list)
            and len(v) == len(enrolled)
            and all(cosine(value) for value in v)
            and all(a <= b for a, b in pairwise(v))
        ),
    )
    thresholds = Thresholds(
        fpir_target=table.number("fpir_target", 0.0001, 0.5),
        enrolled=tuple(enrolled),
        similarity=tuple(float(value) for value in similarity),
        measured_by=table.text("measured_by"),
    )
    table.done()
    return thresholds
