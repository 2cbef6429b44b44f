"""Evaluation: rates as hand calculation gives them, the protocol kept, the cache never stale."""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from demo.people import sample_people
from edge.errors import BadImage, HadirError, InputError
from edge.evaluate import conditions, lfw, openset, thresholds
from edge.evaluate.bootstrap import draw_people, interval, none_among
from edge.evaluate.cli import add_commands
from edge.evaluate.dataset import (
    AFTER_VECTORS,
    BOX,
    STAGES_MS,
    Album,
    Embeddings,
    default_cache,
    embed_album,
    open_album,
    pair_rows,
    person_meant,
    read_pairs,
)
from edge.evaluate.figures import Figure, one, write_json
from edge.evaluate.openset import Cell, Runs, Trial, draw, run_trial
from edge.evaluate.progress import Progress
from edge.evaluate.rates import (
    Impostors,
    admitted,
    best_threshold,
    count_impostor_pairs,
    fold_accuracies,
    passing,
    standard_error,
    strongest_impostors,
    threshold_admitting,
)
from edge.recognition.align import ARCFACE_POINTS
from edge.recognition.match import fuse, template_of
from edge.records import Box, Face, Image, Points, Vector

ROOT = Path(__file__).parent.parent
LFW = Path(os.environ.get("HADIR_DATA", "")) / "lfw"

KEYPOINTS: Points = np.array(ARCFACE_POINTS, np.float32) * np.float32(20 / 112)
"""A face that fills the fakes' pictures of 20 px."""


def similarities(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


# Rates


@pytest.mark.parametrize(
    ("total", "rate", "count"), [(1000, 0.003, 3), (1133, 0.003, 3), (333, 0.003, 0), (87_307_271, 1e-6, 87)]
)
def test_a_rate_admits_at_most_its_share(total: int, rate: float, count: int) -> None:
    assert admitted(total, rate) == count


def test_a_threshold_lies_just_above_the_strongest_that_is_refused() -> None:
    values = similarities(0.1, 0.5, 0.3, 0.9)
    threshold = threshold_admitting(values, 1)
    assert 0.5 < threshold <= 0.500001
    assert list(values >= threshold) == [False, False, False, True]
    assert not (values >= threshold_admitting(values, 0)).any()


def test_of_tied_similarities_none_pass_rather_than_all() -> None:
    values = similarities(0.2, 0.7, 0.7, 0.7, 0.9)
    assert passing(values, threshold_admitting(values, 2)) == pytest.approx(1 / 5)
    assert passing(values, threshold_admitting(values, 4)) == pytest.approx(4 / 5)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.data())
@settings(deadline=None)
def test_never_more_pass_than_admitted_and_the_next_lower_threshold_admits_too_many(
    values: list[int], data: st.DataObject
) -> None:
    found = similarities(*values) / np.float32(5)
    count = data.draw(st.integers(0, len(values) - 1))
    threshold = threshold_admitting(found, count)
    assert np.sum(found >= threshold) <= count
    assert np.sum(found >= np.nextafter(np.float32(threshold), np.float32(-2))) > count


def test_the_best_threshold_parts_the_pairs_in_the_middle_of_the_gap() -> None:
    mated = np.array([False, False, True, True])
    assert best_threshold(similarities(0.1, 0.3, 0.5, 0.9), mated) == pytest.approx(0.4)


def test_no_threshold_parts_equal_similarities() -> None:
    values, mated = similarities(0.1, 0.5, 0.5, 0.5), np.array([False, False, True, True])
    assert best_threshold(values, mated) == pytest.approx(0.3)


def test_each_fold_is_judged_by_the_threshold_of_the_others() -> None:
    """Fold 0 alone would be perfect at 0.5; the other two put the threshold at 0.7, which costs it one pair."""
    values = np.array([[0.65, 0.4], [0.8, 0.6], [0.8, 0.6]], np.float32)
    mated = np.array([[True, False]] * 3)
    accuracies, chosen = fold_accuracies(values, mated)
    assert chosen[0] == pytest.approx(0.7)
    assert list(accuracies) == [0.5, 1, 1]
    # Mean 5/6; deviations -1/3, 1/6, 1/6; variance (1/9 + 2/36) / 2 = 1/12.
    assert standard_error(accuracies) == pytest.approx((1 / 12 / 3) ** 0.5)


def test_impostors_are_all_pairs_of_different_people_and_the_strongest_are_kept() -> None:
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(40, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.sort(generator.integers(0, 9, 40))
    expected = sorted(
        (float(vectors[i] @ vectors[j]) for i in range(40) for j in range(i) if labels[i] != labels[j]),
        reverse=True,
    )
    assert count_impostor_pairs(labels) == len(expected)
    for keep, chunk in ((25, 7), (1, 64), (10_000, 3)):
        found = strongest_impostors(vectors, labels, keep, chunk)
        assert list(found.similarities) == pytest.approx(expected[:keep], abs=1e-6), "the most similar first"
        again = np.sum(vectors[found.first] * vectors[found.second], axis=1)
        assert list(again) == pytest.approx(list(found.similarities), abs=1e-6), "and whose they are"
        assert (labels[found.first] != labels[found.second]).all()


def test_true_matches_count_mated_pairs_at_the_impostors_threshold() -> None:
    labels = np.repeat(np.arange(2), (20, 50))  # a thousand impostor pairs, of which these are the strongest
    strongest = np.linspace(0.5, 0, 11, dtype=np.float32)
    impostors = Impostors(strongest, np.arange(11), np.arange(20, 31))
    mated, owners = similarities(0.04, 0.3, 0.47, 0.8), np.array([0, 0, 0, 1])
    found = lfw.true_matches(mated, owners, impostors, labels, draw_people(2))
    hundredth, thousandth = found[1e-2], found[1e-3]
    assert hundredth is not None
    assert thousandth is not None
    assert (hundredth.admitted, hundredth.rate) == (10, 1.0)
    assert (thousandth.admitted, thousandth.rate) == (1, 0.5)
    assert thousandth.threshold == pytest.approx(0.45)
    assert found[1e-4] is None, "a tenth of a pair cannot be measured"


# Photographs


def write_picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((20, 20, 3), level, np.uint8))


def make_album(folder: Path, sizes: dict[str, int]) -> Album:
    """People with so many photographs each, every one of another grey level."""
    level = 0
    for person, count in sizes.items():
        for number in range(1, count + 1):
            level += 5
            write_picture(folder / person / f"{person}_{number:04d}.png", level)
    return open_album(folder)


@dataclass
class FakeDetector:
    """Sees one face in every picture, except in those of one grey level."""

    min_confidence: float = 0.6
    blind_level: int = -1
    seen: list[int] = field(default_factory=list)

    def detect(self, image: Image) -> tuple[Face, ...]:
        level = int(image[0, 0, 0])
        self.seen.append(level)
        return () if level == self.blind_level else (face_at(10, 10),)


@dataclass
class FakeEmbedder:
    """Turns a grey level into a direction in the plane."""

    id: str = "one"
    dimensions: int = 2
    bad_level: int = -1

    def crops(self, image: Image, face: Face) -> tuple[Image, ...]:
        if image[0, 0, 0] == self.bad_level:
            raise BadImage("keypoints that coincide")
        return (image,)

    def embed(self, crops: tuple[Image, ...]) -> Vector:
        angle = float(crops[0][0, 0, 0]) / 100
        return np.array([np.cos(angle), np.sin(angle)], np.float32)


def face_at(x: float, y: float, width_px: float = 8) -> Face:
    half = width_px / 2
    return Face(Box(x - half, y - half, x + half, y + half), KEYPOINTS, 0.9)


@pytest.mark.parametrize("level", ["", "images"])
def test_an_album_is_person_image_with_or_without_a_level_above(tmp_path: Path, level: str) -> None:
    for name in ("Ann/Ann_10.png", "Ann/Ann_2.png", "Bob/1.png", "Bob/.hidden.png"):
        write_picture(tmp_path / level / name, 1)
    (tmp_path / level / "Bob" / "notes.txt").write_text("no picture")
    (tmp_path / "pairs.txt").write_text("no folder")
    album = open_album(tmp_path)
    assert album.files == ("Ann/Ann_2.png", "Ann/Ann_10.png", "Bob/1.png"), "2 comes before 10"
    assert album.others == ("Bob/notes.txt",)
    assert album.people == {"Ann": (0, 1), "Bob": (2,)}
    assert list(album.labels) == [0, 0, 1]


def test_a_folder_without_people_is_refused_by_name(tmp_path: Path) -> None:
    write_picture(tmp_path / "lone.png", 1)
    with pytest.raises(InputError, match=rf"{tmp_path}: holds no person/image"):
        open_album(tmp_path)
    with pytest.raises(InputError, match="absent: there is no such folder"):
        open_album(tmp_path / "absent")


def test_a_folder_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """Regression: it ended as an error of the disk. Root may read all folders, so a name too long stands for one."""
    with pytest.raises(InputError, match=r"aaa: cannot be read \(File name too long\)"):
        open_album(tmp_path / ("a" * 300))


def test_the_person_is_the_face_nearest_to_the_centre() -> None:
    image: Image = np.zeros((100, 200, 3), np.uint8)
    middle = face_at(90, 60)
    assert person_meant((face_at(20, 50), middle, face_at(100, 90)), image) is middle
    assert person_meant((), image) is None


def test_a_bystander_far_behind_is_not_the_person_however_near_to_the_centre() -> None:
    image: Image = np.zeros((100, 200, 3), np.uint8)
    person, bystander = face_at(60, 50, width_px=40), face_at(100, 50, width_px=15)
    beside = face_at(98, 50, width_px=17)
    assert person_meant((person, bystander), image) is person
    assert person_meant((person, beside), image) is beside, "nearly half as wide: size alone does not tell"


def test_a_photograph_without_a_face_is_marked_and_is_like_nobody(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 2, "Bob": 2})  # levels 5, 10, 15, 20
    found = embed_album(album, FakeDetector(blind_level=10), FakeEmbedder(bad_level=20), tmp_path / "cache")
    assert found.missing == ("Ann/Ann_0002.png", "Bob/Bob_0002.png")
    first, second = np.array([0, 0, 1]), np.array([1, 2, 3])
    assert list(found.similarities(first, second, found)) == pytest.approx([-1, np.cos(0.1), -1])


def test_beside_each_vector_stand_its_box_its_conditions_and_the_time_it_took(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 2})
    found = embed_album(album, FakeDetector(blind_level=10), FakeEmbedder(), tmp_path / "cache")
    assert set(found.measures) == {*BOX, *conditions.NAMES, *STAGES_MS}
    assert [found.measures[name][0] for name in BOX] == [6, 6, 14, 14]
    assert found.measures["face_px"][0] == 8
    assert found.measures["brightness"][0] == pytest.approx(5, abs=0.3), "its crop reaches a little outside"
    assert all(found.measures[name][0] >= 0 for name in STAGES_MS)
    assert all(np.isnan(values[1]) for values in found.measures.values()), "no face was found there"


def test_photographs_are_embedded_once(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 2, "Bob": 1})
    detector = FakeDetector(blind_level=10)
    first = embed_album(album, detector, FakeEmbedder(), tmp_path / "cache")
    again = embed_album(album, detector, FakeEmbedder(), tmp_path / "cache")
    assert detector.seen == [5, 10, 15]
    assert np.array_equal(first.vectors, again.vectors)
    assert list(again.found) == [True, False, True]


def test_whatever_shapes_a_vector_makes_the_cache_miss(tmp_path: Path) -> None:
    people = tmp_path / "people"
    album = make_album(people, {"Ann": 1})
    detector = FakeDetector()

    def runs_the_models(
        seen: FakeDetector = detector, embedder: FakeEmbedder | None = None, degradation: str = ""
    ) -> bool:
        before = len(seen.seen)
        embed_album(open_album(people), seen, embedder or FakeEmbedder(), tmp_path / "cache", degradation)
        return len(seen.seen) > before

    assert runs_the_models()
    assert not runs_the_models()
    assert runs_the_models(embedder=FakeEmbedder(id="two"))
    assert runs_the_models(replace(detector, min_confidence=0.7))
    assert runs_the_models(degradation="door")
    assert runs_the_models(degradation="scarf")
    assert not runs_the_models(degradation="door")
    picture = people / album.files[0]
    os.utime(picture, ns=(0, 12345))
    assert runs_the_models()
    write_picture(people / "Bob" / "1.png", 9)
    assert runs_the_models()
    assert not runs_the_models()


def test_every_module_that_the_cache_leaves_out_is_there() -> None:
    """A renamed one would count again, which only costs time; a shaping one among them would serve stale vectors."""
    assert all((ROOT / "edge" / "recognition" / f"{name}.py").exists() for name in AFTER_VECTORS)
    assert not {"detect", "align", "embed", "tflite", "quality"} & set(AFTER_VECTORS)


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 1})
    detector, cache = FakeDetector(), tmp_path / "cache"
    whole = embed_album(album, detector, FakeEmbedder(), cache)
    (file,) = (cache / "embeddings").iterdir()
    content = file.read_bytes()
    for damage in (b"", content[: len(content) // 2], b"no archive"):
        file.write_bytes(damage)
        assert np.array_equal(embed_album(album, detector, FakeEmbedder(), cache).vectors, whole.vectors)
    np.savez(file, vectors=whole.vectors[:, :1], found=whole.found, measures=np.zeros((1, 14), np.float32))
    assert embed_album(album, detector, FakeEmbedder(), cache).vectors.shape == (1, 2)
    assert len(detector.seen) == 5


def test_a_cache_that_could_run_code_is_not_unpickled(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 1})
    cache = tmp_path / "cache"
    whole = embed_album(album, FakeDetector(), FakeEmbedder(), cache)
    (file,) = (cache / "embeddings").iterdir()
    measures = np.array([list(whole.measures.values())], np.float32)
    np.savez(file, vectors=np.array([{"an": "object"}], dtype=object), found=whole.found, measures=measures)
    assert np.array_equal(embed_album(album, FakeDetector(), FakeEmbedder(), cache).vectors, whole.vectors)


def test_the_cache_is_its_owners_alone_and_leaves_no_half_written_file(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 1})
    embed_album(album, FakeDetector(), FakeEmbedder(), tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "embeddings").iterdir()
    assert file.suffix == ".npz"
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_written_is_named_before_anything_is_embedded(tmp_path: Path) -> None:
    """Regression: it was noticed after the minutes whose result it should have kept."""
    album, detector = make_album(tmp_path / "people", {"Ann": 1}), FakeDetector()
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cache.*cannot be written.*--cache"):
        embed_album(album, detector, FakeEmbedder(), tmp_path / "cache")
    assert detector.seen == []


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (1, r"Ann_0003\.png: it is not a picture; pictures may be .*WebP$"),
        (2, r"Ann_0002\.png: .* \(and 1 more"),
    ],
)
def test_a_damaged_photograph_is_named_before_any_is_embedded(
    damaged: int, said: str, tmp_path: Path
) -> None:
    """Regression: the last of thousands ended the run after minutes, and the next run ended at the one after it."""
    album, detector = make_album(tmp_path / "people", {"Ann": 3}), FakeDetector()
    for name in album.files[3 - damaged :]:
        (tmp_path / "people" / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match=said):
        embed_album(album, detector, FakeEmbedder(), tmp_path / "cache")
    assert detector.seen == []


def test_the_default_cache_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/mine")
    assert default_cache() == Path("/var/cache/mine/hadir")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_cache() == Path("/home/someone/.cache/hadir")


# Pairs files

TWO_FOLDS = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nBob\t1\t2\nAnn\t2\tBob\t2\n"


def test_a_pairs_file_is_read_fold_by_fold(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text(TWO_FOLDS)
    folds = read_pairs(file)
    assert [[pair.mated for pair in fold] for fold in folds] == [[True, False], [True, False]]
    assert (folds[1][1].first, folds[1][1].second) == (("Ann", 2), ("Bob", 2))
    assert folds[1][1].where == f"{file}, line 5"


def test_a_pairs_file_of_view_1_is_one_fold(tmp_path: Path) -> None:
    file = tmp_path / "pairsDevTest.txt"
    file.write_text("2\nAnn\t1\t2\nBob\t1\t3\nAnn\t1\tBob\t1\nBob\t2\tAnn\t1\n")
    (fold,) = read_pairs(file)
    assert [pair.mated for pair in fold] == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("ten\t1\n", r"line 1: 'ten\\t1'; expected folds<TAB>pairs"),
        ("0\t1\n", "line 1"),
        ("9999\t999999\n", "line 1"),
        ("1\t1\nAnn\t1\t2\n", "has 2 lines; its first line promises 1 x 2 x 1 pairs"),
        (TWO_FOLDS + "Ann\t1\t2\n", "has 6 lines"),
        (TWO_FOLDS.replace("Bob\t1\t2", "Bob 1 2"), r"line 4: 'Bob 1 2'; expected person<TAB>number"),
        (TWO_FOLDS.replace("Ann\t1\t2", "Ann\t1\t1"), "line 2.*another number"),
        (TWO_FOLDS.replace("Ann\t1\t2", "Ann\t1\t-2"), "line 2"),
        (TWO_FOLDS.replace("Ann\t1\t2", "Ann\t1\t٢"), "line 2"),
        (TWO_FOLDS.replace("Ann\t1\tBob\t1", "Ann\t1\tAnn\t2"), "line 3.*another person"),
        (TWO_FOLDS.replace("Ann\t1\tBob\t1", "Ann\t1\t2"), "line 3"),
        (TWO_FOLDS.replace("Bob\t1\t2", "Bob\t1\t2\t"), "line 4"),
    ],
)
def test_a_malformed_pairs_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_pairs(file)
    assert str(file) in str(caught.value)


def test_a_pairs_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_bytes(b"1\t1\n\xff\xfe\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_pairs(file)


def test_a_pair_that_is_not_in_the_folder_is_named(tmp_path: Path) -> None:
    album = make_album(tmp_path / "people", {"Ann": 2, "Bob": 1})
    file = tmp_path / "pairs.txt"
    file.write_text(TWO_FOLDS)
    with pytest.raises(InputError, match=r"line 4: the photograph .*Bob/Bob_0002 is not there"):
        pair_rows(album, [pair for fold in read_pairs(file) for pair in fold])


def test_view_2_needs_more_than_one_fold(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")
    with pytest.raises(InputError, match="has one fold"):
        lfw.read_folds(make_album(tmp_path / "people", {"Ann": 2, "Bob": 1}), file)


# The open-set protocol


def crowd(sizes: list[int], dimensions: int = 16, noise: float = 0.15, seed: int = 0) -> Embeddings:
    """People named P000, P001, ... each a random direction, photographed with noise."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(len(sizes), dimensions))
    files, rows = [], []
    for person, (count, centre) in enumerate(zip(sizes, centres, strict=True)):
        for number in range(count):
            files.append(f"P{person:03d}/{number + 1:04d}.png")
            rows.append(centre / np.linalg.norm(centre) + noise * generator.normal(size=dimensions))
    vectors = np.array(rows, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(Album(Path("crowd"), tuple(files)), vectors, np.ones(len(files), np.bool_))


def trial(mated: NDArray[np.float32], rivals: NDArray[np.float32], strangers: NDArray[np.float32]) -> Trial:
    return Trial(mated, rivals, strangers, np.arange(len(mated)), np.arange(len(strangers)))


def test_a_mated_probe_is_missed_below_the_threshold_or_behind_somebody_else() -> None:
    strangers = np.linspace(0, 0.5, 101, dtype=np.float32)  # the second highest is 0.495
    seen = trial(similarities(0.9, 0.4, 0.7, 0.6, 0.497), similarities(0.1, 0.1, 0.8, 0.6, 0.1), strangers)
    # The first is found; then: too low, behind a rival, tied with a rival; the last is above 0.495.
    assert seen.fnir(1.0) == pytest.approx(60)
    assert seen.fpir_at(0.5) == pytest.approx(100 / 101)


def test_at_rank_1_only_who_is_behind_somebody_else_is_missed_however_unlike() -> None:
    given = trial(similarities(-0.4, -1, 0.2), similarities(-0.5, -1, 0.3), similarities(0.1))
    assert list(given.hits_at(openset.NO_THRESHOLD)) == [True, False, False], "the second has no face"
    (outcome,) = openset.identify(crowd([5] * 12 + [1] * 60), lambda _: 0.5, [Cell(8, 3, 1)])
    assert 0 <= statistics.mean(outcome.rank_1_fnir) <= statistics.mean(outcome.fnir[5.0])
    assert openset.figures([outcome])["fnir_at_rank_1_n8_t3_f1"].values == outcome.rank_1_fnir
    assert openset.HEADING.splitlines()[-1].index("at rank 1") < openset.line(outcome).rindex("[")


def test_an_fpir_below_one_stranger_is_not_reported() -> None:
    seen = trial(similarities(0.9), similarities(0.1), np.linspace(0, 0.5, 333, dtype=np.float32))
    assert seen.fnir(0.3) is None
    assert seen.fnir(1.0) == 0


def test_references_are_the_first_photographs_and_probes_the_runs_after_them() -> None:
    sizes = [7, 2, 4, 9]
    runs = Runs(crowd(sizes))
    everyone = np.arange(4)
    first = runs.references(everyone, 3)
    assert list(first.owners) == [0, 2, 3]
    vectors = crowd(sizes).vectors
    assert first.vectors[0] == pytest.approx(template_of(list(vectors[:3])), abs=1e-6)
    probes = runs.fused(3, 2)
    assert list(probes.owners) == [0, 0, 3, 3, 3], "one photograph that is left over makes no run"
    assert probes.vectors[1] == pytest.approx(fuse(list(vectors[5:7])), abs=1e-6)


def test_the_enrolled_are_the_first_of_the_seeds_permutation_and_all_others_are_strangers() -> None:
    sizes = [1, 5, 3, 8, 4, 2, 6]
    runs = Runs(crowd(sizes))
    for seed in range(3):
        seen = run_trial(draw(runs, runs, Cell(enrolled=3, templates=3, frames=1), seed))
        eligible = [1, 3, 4, 6]  # at least four photographs
        enrolled = np.random.default_rng(seed).permutation(eligible)[:3]
        assert len(seen.mated) == sum(sizes[person] - 3 for person in enrolled)
        assert len(seen.strangers) == sum(sizes) - sum(sizes[person] for person in enrolled)


def test_every_similarity_is_the_cosine_of_the_right_pair() -> None:
    """Against a loop that is as plain as the protocol's own words."""
    crowded = crowd([4, 2, 5, 3, 6, 1], noise=0.5)
    runs = Runs(crowded)
    seen = run_trial(draw(runs, runs, Cell(enrolled=2, templates=1, frames=2), seed=7))
    people = list(crowded.album.people.values())
    enrolled = np.random.default_rng(7).permutation([p for p in range(6) if len(people[p]) >= 3])[:2]

    def fused(rows: tuple[int, ...]) -> NDArray[np.float32]:
        mean = crowded.vectors[list(rows)].mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    references = {p: fused(people[p][:1]) for p in enrolled}
    mated, rivals, strangers = [], [], []
    for p, rows in enumerate(people):
        skip = 1 if p in references else 0
        for at in range(skip, len(rows) - 1, 2):
            against = {who: float(fused(rows[at : at + 2]) @ vector) for who, vector in references.items()}
            if p in references:
                mated.append(against.pop(p))
                rivals.append(max(against.values()))
            else:
                strangers.append(max(against.values()))
    assert seen.mated == pytest.approx(mated, abs=1e-6)
    assert seen.rivals == pytest.approx(rivals, abs=1e-6)
    assert seen.strangers == pytest.approx(strangers, abs=1e-6)


def test_a_probe_without_a_face_is_a_miss_and_a_stranger_without_one_never_passes() -> None:
    crowded = crowd([3, 3, 1, 1])
    crowded.found[[2, 6]] = False  # the last photograph of the first person, and a stranger
    crowded.vectors[[2, 6]] = 0
    runs = Runs(crowded)
    seen = run_trial(draw(runs, runs, Cell(enrolled=2, templates=1, frames=1), seed=0))
    assert sorted(seen.mated)[0] == -1
    assert sorted(seen.strangers)[0] == -1
    assert seen.fnir_at(-0.99) >= 25


def test_a_run_is_fused_from_the_faces_that_were_found() -> None:
    crowded = crowd([3])
    crowded.found[1] = False
    crowded.vectors[1] = 0
    mean = crowded.vectors[[0, 2]].mean(axis=0)
    fused = Runs(crowded).first(np.array([0]), 3)
    assert fused.vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_the_protocol_gives_the_same_figures_each_time() -> None:
    def measured() -> dict[str, Figure]:
        cells = (Cell(5, 1, 1), Cell(5, 3, 2))
        return openset.figures(list(openset.identify(crowd([6] * 60, noise=0.4), lambda _: 0.5, cells)))

    assert measured() == measured()
    assert len(measured()["fnir_at_fpir_5_n5_t1_f1"].values) == 10
    assert "fnir_at_fpir_0.3_n5_t3_f2" not in measured(), "165 probes of strangers cannot show 0.3 %"


def test_cells_that_the_data_cannot_fill_are_printed_as_such() -> None:
    crowded = crowd([4] * 20 + [1] * 200)
    cells = (Cell(30, 3, 1), Cell(20, 1, 3), Cell(10, 3, 1))
    few, nobody_left, filled = openset.identify(crowded, lambda _: 0.5, cells)
    assert "30         3      1  cannot be filled: only 20 people have 4 photographs" in openset.line(few)
    assert "cannot be filled: nobody with 3 photographs would be left" in openset.line(nobody_left)
    assert "cannot" not in openset.line(filled)
    assert openset.line(filled).split()[-2:] == ["10", "240"], "counts of probes and of strangers"
    assert " - " in openset.line(filled), "0.3 % of 240 is less than one"
    assert set(openset.figures([few, filled])) == {
        "fnir_at_fpir_5_n10_t3_f1",
        "fnir_at_fpir_1_n10_t3_f1",
        "fnir_at_rank_1_n10_t3_f1",
        "fnir_at_threshold_n10_t3_f1",
        "fpir_at_threshold_n10_t3_f1",
        "probes_n10_t3_f1",
        "strangers_n10_t3_f1",
    }


def test_the_protocol_asks_for_every_cell_of_the_design() -> None:
    assert len(set(openset.CELLS)) == 4 * 2 * 3
    assert f"fnir_at_fpir_{openset.FPIRS[-1]:g}_{Cell(200, 3, 1)}" == "fnir_at_fpir_0.3_n200_t3_f1"


def test_the_value_of_repetitions_with_other_data_is_their_mean(tmp_path: Path) -> None:
    """Of ten seeds with one miss among them, the median would say that there was none."""
    file = tmp_path / "figures.json"
    write_json(file, "openset", {"fnir": Figure("%", (0.0, 0.0, 3.0), average="mean")})
    written = json.loads(file.read_text())["figures"]["fnir"]
    assert (written["value"], written["median"], written["max"], written["n"]) == (1.0, 0.0, 3.0, 3)


# Intervals


def test_people_are_drawn_alike_at_every_call_and_each_draw_has_as_many() -> None:
    draws = draw_people(7, replicates=50)
    assert np.array_equal(draws, draw_people(7, replicates=50))
    assert (draws.sum(axis=1) == 7).all()
    assert len(np.unique(draws, axis=0)) > 40


def test_an_interval_holds_95_percent_of_the_draws_and_leaves_out_those_that_gave_nothing() -> None:
    assert interval(np.array([*range(101), np.nan], float)) == pytest.approx((2.5, 97.5))


def test_no_case_among_a_hundred_people_may_hide_3_6_percent() -> None:
    """Clopper and Pearson: the rate at which a hundred misses of the chance have a probability of 2.5 %."""
    assert none_among(100) == pytest.approx(0.0362, abs=1e-4)
    assert (1 - none_among(100)) ** 100 == pytest.approx(0.025)


def test_an_interval_is_over_people_not_over_photographs() -> None:
    """The same forty misses of a thousand: one each of forty people, or all of two."""
    strangers = np.linspace(0, 0.5, 1001, dtype=np.float32)
    missed = np.where(np.arange(1000) < 40, 0.1, 0.9).astype(np.float32)
    rivals, others = np.zeros(1000, np.float32), np.arange(1001) + 1000
    one_each = Trial(missed, rivals, strangers, np.concatenate([np.arange(40), np.arange(960) % 100]), others)
    of_two = Trial(missed, rivals, strangers, np.arange(1000) // 20, others)
    weights = draw_people(2001)
    (low, high), (wide_low, wide_high) = (
        interval(seen.redrawn_fnir_at(0.6, weights)) for seen in (one_each, of_two)
    )
    assert one_each.fnir_at(0.6) == of_two.fnir_at(0.6) == pytest.approx(4)
    assert low < 4 < high
    assert wide_high - wide_low > 1.5 * (high - low)


def test_drawing_everybody_once_gives_the_figure_itself() -> None:
    generator = np.random.default_rng(3)
    seen = Trial(
        generator.normal(0.6, 0.2, 300).astype(np.float32),
        generator.normal(0.1, 0.2, 300).astype(np.float32),
        generator.normal(0.2, 0.1, 700).astype(np.float32),
        np.arange(300) // 3,
        100 + np.arange(700) // 7,
    )
    once = np.ones((1, 200), np.float32)
    for fpir in (5.0, 1.0):
        assert seen.redrawn_fnir(fpir, once)[0] == pytest.approx(seen.fnir(fpir))
    assert seen.redrawn_fnir_at(0.5, once)[0] == pytest.approx(seen.fnir_at(0.5))
    assert seen.redrawn_fpir_at(0.3, once)[0] == pytest.approx(seen.fpir_at(0.3))


def test_a_draw_with_more_of_the_strong_strangers_has_a_higher_threshold() -> None:
    """A hundred strangers; the strongest ten are one person, who is drawn not at all, once, or five times."""
    strangers = np.linspace(0, 0.99, 100, dtype=np.float32)
    who = np.where(np.arange(100) < 90, np.arange(100), 90)
    mated = np.linspace(0, 1, 101, dtype=np.float32)
    seen = Trial(mated, mated - 2, strangers, np.full(101, 91), who)
    weights = np.ones((3, 92), np.float32)
    weights[:, 90] = (0, 1, 5)
    never, once, often = seen.redrawn_fnir(5.0, weights)
    assert never < once < often
    assert once == pytest.approx(seen.fnir(5.0))


def test_hardly_any_case_still_has_an_upper_end() -> None:
    (outcome,) = openset.identify(crowd([5] * 20 + [1] * 300, noise=0.01), lambda _: 0.5, (Cell(10, 3, 1),))
    assert outcome.shipped_fnir == (0.0,) * 10
    low, high = outcome.shipped_fnir_interval
    assert low == 0
    assert high == pytest.approx(100 * none_among(20), abs=0.01)
    figure = openset.figures([outcome])["fnir_at_threshold_n10_t3_f1"]
    assert figure.interval == outcome.shipped_fnir_interval


def test_the_accuracy_lies_within_its_interval_and_true_matches_in_theirs() -> None:
    crowded = crowd([6] * 60, noise=0.35)
    generator = np.random.default_rng(0)
    people = generator.permutation(60).reshape(2, 30)
    first = 6 * np.concatenate([people, people], axis=1)
    second = np.concatenate([6 * people + 1, 6 * np.roll(people, 1, axis=1)], axis=1)
    mated = np.arange(60) < 30
    result = lfw.verify(crowded, lfw.Folds(first, second, np.stack([mated, mated])))
    low, high = result.accuracy_interval
    assert low < result.accuracy < high <= 1
    hundredth = result.true_matches[1e-2]
    assert hundredth is not None
    assert hundredth.interval[0] <= hundredth.rate <= hundredth.interval[1]
    assert lfw.figures(result)["accuracy"].interval == (low, high)
    assert f"{result.accuracy:.4f} [{low:.4f}, {high:.4f}]" in lfw.report(result)


def test_an_interval_stands_beside_its_value_in_json_and_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    write_json(file, "openset", {"fnir": one(0.5, "%", (0.25, 1.0)), "probes": one(9, "count")})
    written = json.loads(file.read_text())["figures"]
    assert (written["fnir"]["value"], written["fnir"]["low"], written["fnir"]["high"]) == (0.5, 0.25, 1.0)
    assert "low" not in written["probes"]


# Degraded probes


def test_probes_are_degraded_and_templates_are_not_unless_asked_for() -> None:
    """Photographs of the same people, all turned one way: recognised if they were enrolled so."""
    clean = crowd([6] * 30 + [2] * 200, noise=0.05)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0].astype(np.float32)
    turned = replace(clean, vectors=clean.vectors @ turn)

    def misses(probes: Embeddings, templates: Embeddings | None = None) -> float:
        (outcome,) = openset.identify(probes, lambda _: 0.8, (Cell(20, 3, 1),), templates=templates)
        return float(np.mean(outcome.shipped_fnir))

    assert misses(clean) == misses(turned) == misses(clean, clean) < 1
    assert misses(turned, templates=clean) > 90


# Thresholds


def measurement(enrolled: int, way: tuple[int, int], threshold: float | None) -> thresholds.Measurement:
    return thresholds.Measurement(Cell(enrolled, *way), 1000, threshold)


def test_the_strictest_way_decides_and_thresholds_never_fall() -> None:
    table = thresholds.combine(
        [
            measurement(10, (1, 1), 0.40),
            measurement(10, (3, 3), 0.45001),
            measurement(30, (1, 1), 0.41),
            measurement(30, (3, 3), 0.44),
            measurement(100, (1, 1), 0.5),
            measurement(100, (3, 3), 0.49),
        ]
    )
    assert table == {10: 0.4501, 30: 0.4501, 100: 0.5}


def test_where_the_strictest_way_cannot_be_measured_the_largest_step_of_the_others_counts() -> None:
    ways = [measurement(10, (1, 1), 0.40), measurement(10, (1, 3), 0.41), measurement(10, (3, 3), 0.45)]
    larger = [measurement(30, (1, 1), 0.44), measurement(30, (1, 3), 0.44), measurement(30, (3, 3), None)]
    assert thresholds.combine(ways + larger) == {10: 0.45, 30: 0.49}
    largest = [measurement(100, (1, 1), 0.45), measurement(100, (1, 3), None), measurement(100, (3, 3), None)]
    assert thresholds.combine(ways + larger + largest) == {10: 0.45, 30: 0.49, 100: 0.5}


def test_a_way_that_could_never_be_measured_does_not_count() -> None:
    ways = [measurement(10, (1, 1), 0.40), measurement(10, (3, 3), None)]
    larger = [measurement(30, (1, 1), 0.48), measurement(30, (3, 3), None), measurement(100, (1, 1), None)]
    assert thresholds.combine(ways + larger) == {10: 0.4, 30: 0.48}
    assert thresholds.combine([measurement(10, (1, 1), None)]) == {}


def test_a_threshold_lets_at_most_the_target_of_strangers_pass() -> None:
    runs = Runs(crowd([3] * 400, dimensions=32))
    everyone = np.arange(400)
    result = thresholds.calibrate(runs, thresholds.Roles(everyone, everyone), seeds=range(4))
    assert list(result.thresholds) == [10, 30]
    assert list(result.thresholds.values()) == sorted(result.thresholds.values())
    assert all(check.fpir <= 0.3 for check in result.checks)
    assert max(check.fpir for check in result.checks if check.cell.enrolled == 10) > 0.2
    again = thresholds.calibrate(runs, thresholds.Roles(everyone, everyone), seeds=range(4))
    assert again == result


def test_each_stranger_weighs_the_same_however_often_photographed() -> None:
    runs = Runs(crowd([50] + [1] * 400))
    everyone = np.arange(401)
    result = thresholds.calibrate(runs, thresholds.Roles(everyone, everyone[:0]), seeds=range(2))
    assert result.measurements[0].strangers == 391
    assert result.checks == ()


def test_too_few_people_for_a_threshold_are_refused_with_the_number_needed() -> None:
    everyone = np.arange(50)
    with pytest.raises(InputError, match=r"only 50 people.*at least 344"):
        thresholds.calibrate(Runs(crowd([1] * 50)), thresholds.Roles(everyone, everyone[:0]), seeds=range(1))


def test_who_is_only_in_view_2_chooses_no_threshold(tmp_path: Path) -> None:
    album = make_album(tmp_path, {"Ann": 2, "Bob": 2, "Cat": 2, "Dan": 1})
    assert list(thresholds.assign_roles(album, tmp_path).choosing) == [0, 1, 2, 3]
    (tmp_path / "pairs.txt").write_text(TWO_FOLDS)
    with pytest.raises(InputError, match="pairsDevTrain"):
        thresholds.assign_roles(album, tmp_path)
    (tmp_path / "pairsDevTrain.txt").write_text("1\nBob\t1\t2\nBob\t1\tCat\t1\n")
    (tmp_path / "pairsDevTest.txt").write_text("1\nBob\t1\t2\nBob\t2\tCat\t2\n")
    roles = thresholds.assign_roles(album, tmp_path)
    assert list(roles.checking) == [0], "Ann; Bob is in View 1 too, Cat and Dan are not in View 2"
    assert list(roles.choosing) == [1, 2, 3]


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell(stream: io.StringIO, step_s: float) -> str:
    times = iter(np.arange(0, 1000, step_s))
    with Progress("embedding", 4, stream, lambda: float(next(times))) as progress:
        for _ in range(4):
            progress.step()
    return stream.getvalue()


def test_a_terminal_gets_a_bar_and_a_log_a_line_now_and_then() -> None:
    assert "\rembedding [#######" in tell(Terminal(), 1)
    assert tell(Terminal(), 1).endswith("\n")
    assert tell(io.StringIO(), 1) == ""
    assert "embedding: 2 of 4" in tell(io.StringIO(), 16)
    assert "\r" not in tell(io.StringIO(), 16)


@pytest.mark.parametrize(("columns", "letters"), [(10, 0), (40, 10), (60, 30), (200, 30)])
def test_a_bar_is_no_longer_than_a_narrow_terminal(
    columns: int, letters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it was always as long, and each update of it began another line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    last = tell(Terminal(), 1).split("\r")[-1]
    assert last.startswith(f"embedding [{'#' * letters}] 4 of 4")


# The command


def run(*arguments: str | Path) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    options.act(options)


def figures_of(file: Path) -> dict[str, float]:
    return {key: figure["value"] for key, figure in json.loads(file.read_text())["figures"].items()}


def test_help_needs_neither_opencv_nor_numpy_nor_an_interpreter() -> None:
    program = (
        "import sys, edge.evaluate.cli\n"
        "loaded = {'cv2', 'numpy', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("threads", ["0", "17", "two", "١"])
def test_an_impossible_number_of_threads_is_refused(threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("lfw", "somewhere", "--threads", threads)
    assert "must be a whole number from 1 to 16" in capsys.readouterr().err


@pytest.mark.parametrize("measure", ["lfw", "openset", "thresholds"])
def test_a_folder_that_is_not_there_is_named_before_any_model_is_loaded(measure: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: there is no such folder"):
        run(measure, tmp_path / "absent", "--models-dir", tmp_path)


@pytest.mark.parametrize("measure", ["lfw", "openset", "thresholds", "calibration"])
def test_a_place_where_figures_cannot_be_written_is_named_before_anything_is_measured(
    measure: str, tmp_path: Path
) -> None:
    """Regression: of --json it was noticed at the end."""
    with pytest.raises(InputError, match=r"figures\.json: cannot be written"):
        run(measure, tmp_path / "absent", "--json", tmp_path / "nowhere" / "figures.json")


def test_a_report_never_takes_the_place_of_a_device(tmp_path: Path) -> None:
    """Regression: as root, `--html /dev/null` would have left a report of people there."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="pipe: is no ordinary file"):
        run("openset", tmp_path / "absent", "--html", pipe)
    assert pipe.is_fifo()


def test_too_few_people_to_calibrate_are_counted(tmp_path: Path) -> None:
    make_album(tmp_path, {"Ann": 4, "Bob": 3})
    with pytest.raises(InputError, match=r"1 people have four photographs; .* need at least 51"):
        run("calibration", tmp_path, "--cache", tmp_path / "cache")


def test_files_that_are_no_pictures_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: whoever photographs with a telephone that writes HEIC was left out without a word."""
    make_album(tmp_path, {"Ann": 1})
    for name in ("Bob/1.HEIC", "Bob/2.heic", "Ann/notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"something")
    with pytest.raises(HadirError, match="no embedder"):
        run("openset", tmp_path, "--embedder", "none")
    assert (
        "left out, because they are no pictures that can be read: 2 .heic, 1 no suffix"
        in capsys.readouterr().out
    )


def test_an_unknown_embedder_is_refused_by_name(tmp_path: Path) -> None:
    make_album(tmp_path, {"Ann": 1})
    with pytest.raises(HadirError, match='no embedder "arcface"; there are: facenet, facenet'):
        run("openset", tmp_path, "--embedder", "arcface", "--cache", tmp_path / "cache")


def test_the_sample_people_are_told_apart_by_the_daemons_own_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command on two people: portraits that everybody may use, and a pairs file for them."""
    for who, paths in sample_people().items():
        (tmp_path / "images" / who).mkdir(parents=True)
        for number, path in enumerate(paths, start=1):
            (tmp_path / "images" / who / f"{who}_{number:04d}.jpg").symlink_to(path.resolve())
    (tmp_path / "pairs.txt").write_text("2\t1\nP44\t1\t2\nP44\t1\tP46\t1\nP44\t2\t3\nP44\t2\tP46\t1\n")
    file = tmp_path / "figures.json"
    common = ("--cache", tmp_path / "cache", "--json", file)

    run("lfw", tmp_path, *common)
    printed = capsys.readouterr().out
    assert "4 photographs of 2 people; no face found in 0" in printed
    assert "View 2: accuracy 1.0000" in printed
    assert "not reported: below one impostor pair" in printed
    assert figures_of(file)["accuracy"] == 1
    assert figures_of(file)["photographs_without_face"] == 0

    run("openset", tmp_path, *common)
    assert capsys.readouterr().out.count("cannot be filled") == 24

    with pytest.raises(InputError, match="pairsDevTrain"):
        run("thresholds", tmp_path, *common)
    with pytest.raises(InputError, match="cannot be written"):
        run("lfw", tmp_path, "--cache", tmp_path / "cache", "--json", tmp_path / "absent" / "figures.json")


@pytest.mark.skipif(not (LFW / "pairs.txt").is_file(), reason="HADIR_DATA names no folder with lfw/pairs.txt")
def test_people_of_lfw_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty people with six photographs each; the whole of LFW is measured by hand (docs/figures.md)."""
    people = [folder for folder in sorted((LFW / "images").iterdir()) if len(list(folder.iterdir())) == 6]
    (tmp_path / "images").mkdir()
    for folder in people[:20]:
        (tmp_path / "images" / folder.name).symlink_to(folder)
    names = [folder.name for folder in people[:20]]
    mated = [f"{name}\t1\t2" for name in names]
    other = [f"{name}\t3\t{names[at - 1]}\t4" for at, name in enumerate(names)]
    lines = ["2\t10", *mated[:10], *other[:10], *mated[10:], *other[10:]]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    file = tmp_path / "figures.json"
    run("lfw", tmp_path, "--cache", tmp_path / "cache", "--json", file)
    measured = figures_of(file)
    assert measured["accuracy"] >= 0.95
    assert measured["tmr_at_fmr_1e-3"] >= 0.9
    assert "tmr_at_fmr_1e-5" not in measured, "6,840 impostor pairs cannot show it"
    assert measured["photographs_without_face"] == 0


def test_the_later_photograph_of_an_impostor_pair_is_the_one_from_the_door() -> None:
    enrolled = np.eye(3, dtype=np.float32)
    door = np.array([[0, 1, 0], [1, 0, 0], [0.6, 0.8, 0]], np.float32)
    found = strongest_impostors(enrolled, np.arange(3), keep=3, others=door)
    pairs = zip(found.first.tolist(), found.second.tolist(), found.similarities.tolist(), strict=True)
    assert list(pairs) == [(0, 1, pytest.approx(1)), (1, 2, pytest.approx(0.8)), (0, 2, pytest.approx(0.6))]


def test_degraded_verification_compares_a_photograph_as_it_is_with_one_from_the_door() -> None:
    seen = crowd([2] * 40)
    door = crowd([2] * 40, noise=0.6, seed=0)
    first, second = np.arange(0, 80, 2), np.arange(1, 80, 2)
    mated = np.tile([True, False], 40).reshape(2, -1)
    other = np.stack([second, np.roll(second, 1)], axis=1)
    folds = lfw.Folds(np.repeat(first, 2).reshape(2, -1), other.reshape(2, -1), mated)
    clear, degraded = lfw.verify(seen, folds), lfw.verify(seen, folds, door)
    assert degraded.similarities[0][0] == pytest.approx(float(seen.vectors[0] @ door.vectors[1]), abs=1e-6)
    assert clear.impostor_pairs == degraded.impostor_pairs
    assert clear.accuracy > degraded.accuracy
