"""What quantizing the embedders costs, and what it spares: accuracy on LFW's View 2, time, size.

Float and the ways of quantizing that are not shipped come from `make quantization`, which
calls the recipe first; the shipped files and everything else, detection and alignment
among it, are the daemon's. Every photograph of View 2 is embedded by every model file;
vectors are kept in the cache of `hadir-edge evaluate`.

A loss is in points of accuracy (percent), float less quantized, on the same pairs; its
interval draws people anew. `p` is McNemar's test (Psychometrika 12, 1947) in its exact
form: how often chance alone would part the pairs that only one of the two judges rightly
as unevenly. Nothing is chosen here.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import data_folder
from benchmarks.road import in_turn
from benchmarks.run import main, note
from edge.assembly import Eyes, open_eyes
from edge.config import RecognitionConfig
from edge.errors import InputError
from edge.evaluate.bootstrap import draw_people, interval
from edge.evaluate.dataset import VIEW_2, Album, Embeddings, default_cache, embed_album, open_album
from edge.evaluate.figures import Figure, one
from edge.evaluate.lfw import Folds, read_folds, redrawn_means
from edge.evaluate.rates import fold_accuracies
from edge.recognition.embed import Embedder
from edge.recognition.manifest import EmbedderSpec, VectorModelSpec, installed_folder
from edge.recognition.tflite import Network

REPOSITORY = Path(__file__).resolve().parents[1]
LOOPS = 100

Rights = NDArray[np.bool_]
"""(folds, pairs): which pairs are judged rightly."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One file of an embedding model."""

    name: str
    """`facenet_float`, `facenet_shipped` and so on."""
    spec: VectorModelSpec
    """The manifest's, but for the file."""
    path: Path


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """View 2 as one embedder sees it."""

    similarities: NDArray[np.float32]
    """(folds, pairs)"""
    rights: Rights

    @property
    def accuracy(self) -> float:
        return float(self.rights.mean())


def measure(runs: int) -> Mapping[str, Figure]:
    """Accuracy once, times so many times."""
    eyes = open_eyes(RecognitionConfig())
    files = [variant for model in eyes.spec.models for variant in variants(model, variants_folder())]
    folder = data_folder("lfw")
    album = only_pairs(open_album(folder), folder / VIEW_2)
    folds = read_folds(album, folder / VIEW_2)
    judged: dict[str, Judged] = {}
    figures: dict[str, Figure] = {"photographs": one(len(album.files), "")}
    exact: dict[str, Embeddings] = {}
    for variant in files:
        note(variant.name)
        seen = embed(album, eyes, variant)
        exact.setdefault(variant.spec.key, seen)  # the first of a model is in float
        judged[variant.name] = judge(seen.similarities(folds.first, folds.second, seen), folds)
        figures |= fidelity(variant.name, seen, exact[variant.spec.key])
    for way in ("float", "shipped"):
        judged[f"fused_{way}"] = fused([judged[f"{m.key}_{way}"] for m in eyes.spec.models], eyes.spec, folds)
    for name, one_of in judged.items():
        figures |= losses(name, one_of, judged[f"{name.split('_')[0]}_float"], album, folds)
    times = [invocations(files) for _ in range(runs)]
    for variant in files:
        figures[f"{variant.name}_ms"] = Figure("ms", tuple(found[variant.name] for found in times))
        figures[f"{variant.name}_mb"] = one(variant.path.stat().st_size / 1e6, "MB")
    return dict(sorted(figures.items()))


def variants_folder() -> Path:
    """Where the recipe puts what is not shipped."""
    root = os.environ.get("HADIR_CACHE")
    return (Path(root) if root else REPOSITORY / ".cache") / "models" / "variants"


def variants(model: VectorModelSpec, folder: Path) -> list[Variant]:
    """The model's files, in float, as shipped, then the others. Raises InputError where there is none in float."""
    named = {f"{model.key}_shipped": installed_folder() / model.file}
    named |= {path.stem.replace("-", "_"): path for path in sorted(folder.glob(f"{model.key}_*.tflite"))}
    begin = f"{model.key}_float"
    if begin not in named:
        raise InputError(f"{folder}: holds no {begin}.tflite; `make quantization` makes it")
    order = [begin, *(name for name in named if name != begin)]
    # An absolute path stands for itself, whichever folder it is looked for in.
    return [
        Variant(
            name, replace(model, file=str(named[name].resolve()), sha256=sha256_of(named[name])), named[name]
        )
        for name in order
    ]


def sha256_of(path: Path) -> str:
    """In hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def only_pairs(album: Album, pairs_file: Path) -> Album:
    """The photographs that the pairs name."""
    folds = read_folds(album, pairs_file)
    rows = np.unique([folds.first, folds.second])
    return Album(album.folder, tuple(album.files[row] for row in rows))


def embed(album: Album, eyes: Eyes, variant: Variant) -> Embeddings:
    """The album by one model file alone, found and aligned as the daemon does."""
    alone = replace(eyes.spec, name=variant.name, models=(variant.spec,))
    return embed_album(album, eyes.stills, Embedder(alone, installed_folder()), default_cache())


def judge(similarities: NDArray[np.float32], folds: Folds) -> Judged:
    """Each fold at the threshold that is best on the others."""
    thresholds = fold_accuracies(similarities, folds.mated)[1]
    return Judged(similarities, (similarities >= thresholds[:, np.newaxis]) == folds.mated)


def fused(parts: Sequence[Judged], spec: EmbedderSpec, folds: Folds) -> Judged:
    """Of joined vectors: the cosine is the weighted mean of the models' own."""
    weighted = [
        np.float32(weight) * part.similarities for weight, part in zip(spec.weights, parts, strict=True)
    ]
    return judge(np.sum(weighted, axis=0, dtype=np.float32), folds)


def fidelity(name: str, seen: Embeddings, exact: Embeddings) -> dict[str, Figure]:
    """How far vectors are from float's."""
    rows = np.arange(len(seen.vectors))[seen.found & exact.found]
    cosines = seen.similarities(rows, rows, exact)
    return {
        f"{name}_cosine_mean": one(float(cosines.mean()), "cosine"),
        f"{name}_cosine_min": one(float(cosines.min()), "cosine"),
    }


def losses(name: str, one_of: Judged, exact: Judged, album: Album, folds: Folds) -> dict[str, Figure]:
    """Accuracy, and what it lost against float on the same pairs."""
    figures = {f"{name}_accuracy": one(one_of.accuracy, "fraction")}
    if one_of is exact:
        return figures
    lost = exact.rights.astype(np.float32) - one_of.rights
    labels = album.labels
    redrawn = redrawn_means(lost, labels[folds.first], labels[folds.second], draw_people(len(album.people)))
    only_float, only_this = int(np.sum(lost > 0)), int(np.sum(lost < 0))
    return figures | {
        f"{name}_loss_points": one(100 * float(lost.mean()), "points", interval(100 * redrawn)),
        f"{name}_only_float_right": one(only_float, "pairs"),
        f"{name}_only_quantized_right": one(only_this, "pairs"),
        f"{name}_mcnemar_p": one(mcnemar_p(only_float, only_this), ""),
    }


def mcnemar_p(one_way: int, other_way: int) -> float:
    """Two-sided probability of pairs parted at least so unevenly, were each a fair coin."""
    total, fewer = one_way + other_way, min(one_way, other_way)
    tail = sum(math.comb(total, count) for count in range(fewer + 1))
    return min(1.0, float(Fraction(tail, 2 ** (total - 1))) if total else 1.0)


def invocations(files: Iterable[Variant]) -> dict[str, float]:
    """Median milliseconds of a bare invocation of each file, in turn, on one thread."""
    steps = {variant.name: invocation(variant) for variant in files}
    return {name: statistics.median(times) for name, times in in_turn(steps, LOOPS).items()}


def invocation(variant: Variant) -> Callable[[], object]:
    """One of a file, with ready-made input."""
    network = Network(variant.spec, installed_folder())
    picture = np.random.default_rng(1).normal(size=variant.spec.input_shape)
    return partial(network.run, network.quantise(picture.astype(np.float32)))


if __name__ == "__main__":
    main("quantization", measure)
