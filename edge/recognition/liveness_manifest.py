"""What the liveness models are and how to feed them: `liveness.toml`, beside the manifest, as values.

A file of its own, because no package may carry these models: `make liveness` makes them,
and where nobody did, the file is missing and liveness is off. A model of another vendor
needs an entry there and its file, no code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.recognition.manifest import ModelSpec, installed_folder, take_common, take_schema
from edge.recognition.tables import Table, open_table

FILE = "liveness.toml"

MAX_CLASSES = 100
"""Of a model; the published ones have three. Set, to bound what a file may claim."""

MAX_CROP_WIDTHS = 10.0
"""Of a crop, in widths of the face: more is a picture of the room. Set."""


@dataclass(frozen=True, slots=True)
class LivenessModelSpec(ModelSpec):
    """A model file that tells a live face from a picture of one."""

    crop_widths: float
    """Side of its square crop, in widths of the detector's box."""
    crop_shift: float
    """How far the crop's centre lies below the box's, in heights of the box."""
    classes: int
    live_class: int
    activation: Literal["softmax", "none"]
    """Whether the file ends in a softmax, or gives what one would take."""


@dataclass(frozen=True, slots=True)
class LivenessSpec:
    """The models that are asked together, and from which mean of theirs a face counts as live."""

    folder: Path
    models: tuple[LivenessModelSpec, ...]
    live_from: float
    """Mean of all models over the frames of a track, 0 to 1; higher is surer that it is live."""
    measured_by: str


def load_liveness(folder: Path | None = None) -> LivenessSpec | None:
    """Read `liveness.toml` of a folder, or of the installed package; None where there is none.

    Raises ModelError if it does not say exactly what is expected.
    """
    folder = folder or installed_folder()
    if not (folder / FILE).exists():
        return None
    table = open_table(folder / FILE)
    take_schema(table)
    models = {key: _model(key, entry) for key, entry in table.tables("models").items()}
    spec = _liveness(folder, table.table("liveness"), models)
    table.done()
    return spec


def _model(key: str, table: Table) -> LivenessModelSpec:
    common = take_common(key, table, ("liveness",))
    classes = table.integer("classes", 2, MAX_CLASSES)
    spec = LivenessModelSpec(
        **common,
        crop_widths=table.number("crop_widths", 1, MAX_CROP_WIDTHS),
        crop_shift=table.number("crop_shift", -1, 1),
        classes=classes,
        live_class=table.integer("live_class", 0, classes - 1),
        activation=table.choice("activation", ("softmax", "none")),
    )
    table.done()
    return spec


def _liveness(folder: Path, table: Table, models: dict[str, LivenessModelSpec]) -> LivenessSpec:
    def fits(value: Any) -> bool:
        listed = isinstance(value, list) and len(value) > 0 and all(isinstance(key, str) for key in value)
        return listed and len(set(value)) == len(value) and set(value) <= set(models)

    chosen = table.take("models", "a list, each once, of: " + ", ".join(models), fits)
    spec = LivenessSpec(
        folder=folder,
        models=tuple(models[key] for key in chosen),
        live_from=table.number("live_from", 0, 1),
        measured_by=table.text("measured_by"),
    )
    table.done()
    return spec
