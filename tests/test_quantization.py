"""What is said of float and quantized models: which files, which pairs, how sure."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from benchmarks.quantization import Judged, fused, judge, losses, mcnemar_p, only_pairs, variants
from edge.errors import InputError
from edge.evaluate.dataset import Album
from edge.evaluate.lfw import Folds, read_folds
from edge.recognition.manifest import VectorModelSpec, load_manifest

MODEL = cast(VectorModelSpec, load_manifest().model("sface"))


def folds(mated: list[list[bool]]) -> Folds:
    """Pairs of the rows 0 and 1, 2 and 3, and so on."""
    shape = np.array(mated).shape
    rows = np.arange(2 * np.prod(shape)).reshape(*shape, 2)
    return Folds(rows[..., 0], rows[..., 1], np.array(mated))


FOLDS = folds([[True, False], [True, False]])
ALBUM = Album(Path(), tuple(f"{person}/{photo}.jpg" for person in "abcd" for photo in range(2)))
"""Every pair of FOLDS is of one person here: whom a bootstrap draws."""


def judged(rights: list[list[bool]]) -> Judged:
    return Judged(np.zeros((2, 2), np.float32), np.array(rights))


def test_the_float_file_comes_first_then_the_shipped_one(tmp_path: Path) -> None:
    for name in ("sface_dynamic", "sface_float", "facenet_float"):
        (tmp_path / f"{name}.tflite").write_bytes(name.encode())
    found = variants(MODEL, tmp_path)
    assert [variant.name for variant in found] == ["sface_float", "sface_shipped", "sface_dynamic"]
    assert found[1].spec.sha256 == MODEL.sha256
    assert found[0].spec.sha256 != MODEL.sha256
    assert (found[0].spec.alignment, found[0].spec.centre) == (MODEL.alignment, MODEL.centre)


def test_without_a_float_file_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make quantization"):
        variants(MODEL, tmp_path)


def test_only_the_photographs_of_the_pairs_are_embedded(tmp_path: Path) -> None:
    album = Album(tmp_path, ("a/a_0001.jpg", "a/a_0002.jpg", "a/a_0003.jpg", "b/b_0001.jpg"))
    (tmp_path / "pairs.txt").write_text("2\t1\na\t1\t3\na\t1\tb\t1\na\t1\t3\na\t3\tb\t1\n")
    chosen = only_pairs(album, tmp_path / "pairs.txt")
    assert chosen.files == ("a/a_0001.jpg", "a/a_0003.jpg", "b/b_0001.jpg")
    assert read_folds(chosen, tmp_path / "pairs.txt").first.tolist() == [[0, 0], [0, 1]]


def test_the_similarity_of_joined_vectors_is_the_weighted_mean() -> None:
    spec = load_manifest().embedder()
    parts = [np.array(values, np.float32).reshape(2, 2) for values in ([1, 0, 1, 0], [0.5, 0, 1, 0.5])]
    whole = fused([judge(part, FOLDS) for part in parts], spec, FOLDS)
    first, second = spec.weights
    assert whole.similarities == pytest.approx(first * parts[0] + second * parts[1])


def test_a_loss_is_that_of_the_pairs_that_only_float_judges_rightly() -> None:
    exact, other = judged([[True, True], [True, False]]), judged([[True, False], [True, False]])
    figures = losses("sface_other", other, exact, ALBUM, FOLDS)
    assert figures["sface_other_accuracy"].value == 0.5
    assert figures["sface_other_loss_points"].value == 25
    low, high = figures["sface_other_loss_points"].interval or (0, 0)
    assert low == 0
    assert high > 25
    assert figures["sface_other_only_float_right"].value == 1
    assert figures["sface_other_only_quantized_right"].value == 0
    assert figures["sface_other_mcnemar_p"].value == 1
    assert list(losses("sface_float", exact, exact, ALBUM, FOLDS)) == ["sface_float_accuracy"]


def test_pairs_parted_unevenly_are_seldom_chance() -> None:
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(3, 3) == 1
    assert mcnemar_p(0, 5) == mcnemar_p(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p(1, 9) == pytest.approx(2 * 11 / 2**10)
    assert 0 < mcnemar_p(10, 200) < 1e-40
