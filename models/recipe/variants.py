"""Both embedders in float and quantized otherwise than shipped, for comparison: `make quantization`.

Inside the throw-away environment of `build.py`: packages in, `facenet_….tflite` and
`sface_….tflite` out, into a folder of the cache. What comes out as it is shipped is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import facenet
import numpy as np
import sface
import tensorflow as tf
from convert import (
    MODELS,
    SDIST,
    Embed,
    checked,
    cosine,
    held_out,
    photographs,
    run,
    say,
    sha256,
    unpack,
    vector_model,
)
from faces import largest_face_crops
from quantise import dynamic_range, full_integer, in_float

from edge.recognition.detect import Detector
from edge.recognition.manifest import load_manifest

FEW_FACES = 8
"""For the ranges of full int8: about a tenth of what the shipped file had."""

LEAST_COSINE = 0.9999
"""Of the float file to the network as published, on every held-out face; else it is no measure of anything."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("downloads", type=Path)
    arguments = parser.parse_args()
    sources = unpack(arguments.downloads)
    folder = arguments.downloads.parent / "variants"
    folder.mkdir(exist_ok=True)
    embed, module = facenet.float_network(checked(sources / SDIST / facenet.FILE, "facenet"))
    make("facenet", module, embed, sources, folder)
    source = checked(sources / sface.FILE, "sface")
    make("sface", sface.as_module(source), sface.float_network(source), sources, folder)


def make(key: str, module: tf.Module, embed: Embed, sources: Path, folder: Path) -> None:
    """One network in every way."""
    detector, spec = Detector(load_manifest(MODELS)), vector_model(key)
    seen = largest_face_crops(photographs(sources), detector, spec)
    few = seen[:: len(seen) // FEW_FACES][:FEW_FACES]
    ways: dict[str, Callable[[], bytes]] = {
        "float": lambda: in_float(module),
        "dynamic": lambda: dynamic_range(module),
        f"int8-{len(seen)}-faces": lambda: full_integer(module, seen),
        f"int8-{len(few)}-faces": lambda: full_integer(module, few),
        "int8-per-tensor": lambda: full_integer(module, seen, per_channel=False),
    }
    for name, convert in ways.items():
        tflite = convert()
        if name == "float":
            compare(key, tflite, embed, largest_face_crops(held_out(sources), detector, spec))
        if sha256(tflite) == spec.sha256:
            say(f"{key}: {name} is what is shipped")
            continue
        file = folder / f"{key}_{name}.tflite"
        file.write_bytes(tflite)
        say(f"{file}: {len(tflite)} bytes")


def compare(key: str, tflite: bytes, embed: Embed, crops: list[np.ndarray]) -> None:
    """Raise SystemExit unless a float file gives the published network's vectors."""
    cosines = [cosine(embed(crop), found) for crop, found in zip(crops, run(tflite, crops), strict=True)]
    say(f"{key}: cosine of the float file to the published network, {len(crops)} faces: {min(cosines):.7f}")
    if min(cosines) < LEAST_COSINE:
        raise SystemExit(f"{key}: the float file is not the published network")


if __name__ == "__main__":
    main()
