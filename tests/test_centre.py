"""The mean that is taken from every vector: of whom, each once, by model, and ready for the manifest."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from edge.errors import InputError
from edge.evaluate.centre import MIN_PEOPLE, centres, outside_view_2, report, without_centres
from edge.evaluate.dataset import Album
from edge.recognition.manifest import load_manifest
from tests.test_evaluate import crowd

SPEC = without_centres(load_manifest().embedder("facenet+sface"))


def album_of(count: int) -> Album:
    return Album(Path("crowd"), tuple(f"P{number:03}/P{number:03}_0001.png" for number in range(count)))


def test_an_embedder_without_its_centres_is_another_embedder() -> None:
    assert all(model.centre == () for model in SPEC.models)
    assert without_centres(SPEC).id == SPEC.id


def test_each_person_counts_once_and_each_model_gets_its_own_part() -> None:
    seen = crowd([1, 9], dimensions=SPEC.dimensions, noise=0.0)
    found = centres(seen, SPEC)
    mean = (seen.vectors[0] + seen.vectors[1]) / 2
    assert list(found) == ["facenet", "sface"]
    for key, part, weight in zip(found, np.split(mean, [128]), SPEC.weights, strict=True):
        assert found[key] == pytest.approx(part / weight**0.5, abs=1e-6)


def test_a_photograph_without_a_face_has_no_part_in_it() -> None:
    seen = crowd([2, 1, 1], dimensions=SPEC.dimensions)
    seen.found[1] = seen.found[3] = False
    seen.vectors[[1, 3]] = 0
    found = centres(seen, SPEC)
    assert found["facenet"] == pytest.approx(
        ((seen.vectors[0] + seen.vectors[2]) / 2)[:128] / SPEC.weights[0] ** 0.5, abs=1e-6
    )


def test_who_is_in_view_2_has_no_part_in_it(tmp_path: Path) -> None:
    album = album_of(MIN_PEOPLE + 2)
    assert outside_view_2(album, tmp_path) == album
    (tmp_path / "pairs.txt").write_text("1\nP000\t1\t2\nP000\t1\tP001\t1\n")
    assert outside_view_2(album, tmp_path).files == album.files[2:]


def test_too_few_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=f"{MIN_PEOPLE - 1} people outside View 2; a mean needs {MIN_PEOPLE}"
    ):
        outside_view_2(album_of(MIN_PEOPLE - 1), tmp_path)


def test_what_is_printed_can_be_put_into_the_manifest() -> None:
    found = centres(crowd([1, 1], dimensions=SPEC.dimensions), SPEC)
    table = tomllib.loads(report(found, 2))["models"]
    assert table["sface"]["centre"] == pytest.approx(found["sface"], abs=5e-5)
