"""`make liveness`: builds the liveness models and describes them in models/liveness.toml.

The two files of weights come from the folder that MINIFASNET_DIR names or, where it names
none, from the repository of their authors, at one commit; either way their hashes must be
those below. What is written is kept out of git: the weights are for whoever fetches them.

    MINIFASNET_DIR=/path/to/pth python -m models.recipe.minifasnet [--models FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from models.recipe.minifasnet.network import INPUT_SHAPE, convert
from models.recipe.minifasnet.torchfile import NotWeights, read_tensors

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1]
TEMPLATE = HERE / "liveness.toml"
REFERENCE = HERE / "reference.json"
"""What the published networks give for `reference_pictures`: see models/README.md."""

REPOSITORY = "github.com/minivision-ai/Silent-Face-Anti-Spoofing"
COMMIT = "f679b7c96ad407d1114182847d3e0c20619a76d0"
FOLDER = "resources/anti_spoof_models"
RAW = REPOSITORY.replace("github.com", "https://raw.githubusercontent.com", 1)
TIMEOUT_S = 60.0

EX_DATAERR = 65
EX_UNAVAILABLE = 69

LARGEST_DEVIATION = 5e-3
"""Of a float16 file's three numbers; a larger one is a broken conversion, and nothing is written."""


@dataclass(frozen=True, slots=True)
class Published:
    """One file of weights."""

    key: str
    file: str
    sha256: str


PUBLISHED = (
    Published(
        "minifasnet_v2",
        "2.7_80x80_MiniFASNetV2.pth",
        "a5eb02e1843f19b5386b953cc4c9f011c3f985d0ee2bb9819eea9a142099bec0",
    ),
    Published(
        "minifasnet_v1se",
        "4_0_0_80x80_MiniFASNetV1SE.pth",
        "84ee1d37d96894d5e82de5a57df044ef80a58be2b218b5ed7cdfd875ec2f5990",
    ),
)


class CannotBuild(Exception):
    """Why nothing was written, for people; the exit code is that of sysexits(3)."""

    def __init__(self, text: str, exit_code: int = EX_DATAERR) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def main() -> int:
    parser = argparse.ArgumentParser(prog="make liveness", description="Build the liveness models.")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="FOLDER", help="default: models/")
    folder = parser.parse_args().models
    try:
        build(os.environ.get("MINIFASNET_DIR", ""), folder)
    except (CannotBuild, OSError) as error:
        print(f"liveness: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CannotBuild) else EX_DATAERR
    return 0


def build(given: str, folder: Path) -> None:
    """Write both models and `liveness.toml` into a folder. Raises CannotBuild before anything is written."""
    reference = json.loads(REFERENCE.read_text(encoding="ascii"))
    values = {"repository": REPOSITORY, "commit": COMMIT}
    files = {}
    for published in PUBLISHED:
        weights = obtain(published, Path(given) if given else None)
        content, deviation = converted(published, weights, reference[published.key])
        files[f"{published.key}.tflite"] = content
        values |= {
            f"{published.key}_file": f"{FOLDER}/{published.file}",
            f"{published.key}_source": published.sha256,
            f"{published.key}_sha256": hashlib.sha256(content).hexdigest(),
            f"{published.key}_deviation": f"{deviation:.1g}",
        }
        print(f"liveness: {published.key}: {len(content)} bytes, differs by at most {deviation:.1g}")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    description = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    (folder / TEMPLATE.name).write_text(description, encoding="utf-8")
    print(f"liveness: written to {folder}; what is installed elsewhere needs another `pip install`")


def obtain(published: Published, given: Path | None) -> bytes:
    """The published file, from a folder or from its authors, with the hash that is known. Raises CannotBuild."""
    if given is not None:
        content, where = (given / published.file).read_bytes(), str(given / published.file)
    else:
        content, where = download(published)
    found = hashlib.sha256(content).hexdigest()
    if found != published.sha256:
        raise CannotBuild(f"{where}: its sha256 is {found}, that of the published file {published.sha256}")
    return content


def download(published: Published) -> tuple[bytes, str]:
    url = f"{RAW}/{COMMIT}/{FOLDER}/{published.file}"
    print(f"liveness: fetching {url}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - https, a constant
            content: bytes = answer.read(2**24)
    except (
        OSError,
        http.client.HTTPException,
    ) as error:  # URLError and HTTPError are OSErrors; IncompleteRead is not
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise CannotBuild(
            f"{url}: cannot be fetched ({getattr(error, 'reason', error)}); fetch both files where that works, and "
            "name their folder: make liveness MINIFASNET_DIR=…",
            EX_UNAVAILABLE,
        ) from error
    return content, url


def converted(published: Published, weights: bytes, expected: list[list[float]]) -> tuple[bytes, float]:
    """The float16 file, and its largest deviation from the reference. Raises CannotBuild."""
    description = f"{published.key} from {published.file} of {REPOSITORY}"
    try:
        content = convert(read_tensors(weights), description, half=True)
    except (NotWeights, KeyError, ValueError) as error:
        raise CannotBuild(f"{published.file}: not a MiniFASNet's weights: {error}") from error
    deviation = float(np.abs(run(content, reference_pictures()) - np.array(expected)).max())
    if not deviation <= LARGEST_DEVIATION:
        raise CannotBuild(f"{published.key}: differs from the published network by {deviation:g}")
    return content, deviation


def reference_pictures() -> np.ndarray:
    """(24, 80, 80, 3) float32: noise of cells from one pixel to the whole picture, the same on every machine."""
    pictures = []
    for seed in range(24):
        cells = 1 + seed * seed // 7
        levels = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3))
        place = np.arange(INPUT_SHAPE[1]) * cells // INPUT_SHAPE[1]
        pictures.append(levels[place][:, place])
    return np.array(pictures, np.float32)


def run(content: bytes, pictures: np.ndarray) -> np.ndarray:
    """What a file gives for each picture."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source, output = (interpreter.get_input_details()[0], interpreter.get_output_details()[0])
    outputs = []
    for picture in pictures:
        interpreter.set_tensor(source["index"], picture[np.newaxis])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(output["index"])[0].copy())
    return np.array(outputs)


if __name__ == "__main__":
    sys.exit(main())
