"""Calibrating a fleet's gallery: measured, signed, used by the board, refused where it says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.assembly import Eyes, threshold_for
from edge.config import DecideConfig
from edge.errors import InputError
from edge.recognition.gallery import GALLERY_TYP, Gallery, make_gallery, read_gallery
from provisioning.calibrate import MAX_LISTED, calibrate, embed_strangers, report
from provisioning.cli import main
from provisioning.fleet import Fleet
from provisioning.galleries import current_gallery, publish, with_person, without_person
from tests.conftest import People


def gallery_of(eyes: Eyes, count: int, twins: int = 0, seed: int = 2) -> Gallery:
    """Random people of whom the first `twins` pairs are alike to about 0.65."""
    rows = np.random.default_rng(seed).normal(size=(count, eyes.embedder.dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for pair in range(twins):
        rows[2 * pair + 1] = 0.86 * rows[2 * pair] + rows[2 * pair + 1]
        rows[2 * pair + 1] /= np.linalg.norm(rows[2 * pair + 1])
    return make_gallery(
        4, eyes.embedder.id, rows.shape[1], {f"E{row:03}": row_ for row, row_ in enumerate(rows)}
    )


@pytest.fixture
def enrolled(fleet: Fleet, eyes: Eyes) -> Fleet:
    """A fleet with sixty people, two of them alike."""
    publish(fleet, gallery_of(eyes, 60, twins=1))
    return fleet


def on_board(fleet: Fleet, eyes: Eyes) -> Gallery:
    path = fleet.boards()[0] / "gallery.hadir"
    keys = fleet.keys.verification_keys(GALLERY_TYP)
    return read_gallery(path, keys, audience=fleet.audience, embedder=eyes.embedder.id)


def test_the_boards_get_a_signed_gallery_with_thresholds_and_who_needs_more(
    enrolled: Fleet, eyes: Eyes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(enrolled.folder)]) == 0
    told = capsys.readouterr().out
    gallery = on_board(enrolled, eyes)
    assert gallery.version == 5
    assert gallery.thresholds is not None
    assert set(gallery.raised) == {"E000", "E001"}
    threshold = threshold_for(DecideConfig(), eyes.spec, gallery)
    assert f"at most 0.3 % of strangers pass from similarity {threshold:.4f}" in told
    assert "too alike: E000 and E001: similarity 0.6" in told
    assert "1,770 pairs" in told


def test_the_audit_tells_of_a_calibration_whose_ids_need_more(enrolled: Fleet) -> None:
    """Regression: it told that there was another version of the gallery, and nothing of what was done."""
    assert main(["calibrate", str(enrolled.folder)]) == 0
    *_, last = enrolled.registry.audit()
    assert (last.action, last.subject) == ("calibrate", enrolled.site)
    assert last.detail.keys() == {"version", "fpir_target", "threshold", "raised"}
    assert (last.detail["version"], last.detail["fpir_target"]) == (5, 0.003)
    assert last.detail["raised"] == ["E000", "E001"]


def test_a_dry_run_writes_nothing(enrolled: Fleet, eyes: Eyes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(enrolled.folder), "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert on_board(enrolled, eyes).version == 4
    assert [entry.action for entry in enrolled.registry.audit()].count("calibrate") == 0


def test_too_few_people_are_refused_and_the_gallery_stays(
    fleet: Fleet, eyes: Eyes, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(fleet, gallery_of(eyes, 12, twins=1))
    assert main(["calibrate", str(fleet.folder)]) == InputError.exit_code
    assert "12 people enrolled: a threshold of their own needs at least 30" in capsys.readouterr().err
    assert on_board(fleet, eyes).thresholds is None
    assert main(["calibrate", str(fleet.folder), "--lookalikes-only"]) == 0
    gallery = on_board(fleet, eyes)
    assert gallery.thresholds is None, "the models' own threshold holds"
    assert set(gallery.raised) == {"E000", "E001"}


@pytest.mark.parametrize("count", [0, 1])
def test_with_nobody_to_be_mistaken_there_is_nothing_to_calibrate(eyes: Eyes, count: int) -> None:
    with pytest.raises(InputError, match=f"{count} people enrolled: nobody to be mistaken"):
        calibrate(gallery_of(eyes, count), eyes.spec.thresholds, 0.003, lookalikes_only=True)


@pytest.mark.parametrize("share", ["0", "1", "nan", "many"])
def test_a_share_that_is_none_is_refused(
    fleet: Fleet, share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", str(fleet.folder), "--fpir-target", share])
    assert "from 0.0001 to 0.5" in capsys.readouterr().err


def test_another_target_gives_another_threshold_to_every_board(enrolled: Fleet, eyes: Eyes) -> None:
    assert main(["calibrate", str(enrolled.folder), "--fpir-target", "0.001"]) == 0
    gallery = on_board(enrolled, eyes)
    assert gallery.thresholds is not None
    assert gallery.thresholds.fpir_target == 0.001
    strict, usual = (
        threshold_for(DecideConfig(fpir_target=share), eyes.spec, gallery) for share in (0.001, 0.003)
    )
    assert strict > usual >= eyes.spec.threshold(60) - 1e-3


def test_who_is_enrolled_or_removed_later_leaves_what_was_calibrated(eyes: Eyes) -> None:
    calibrated = calibrate(gallery_of(eyes, 60, twins=1), eyes.spec.thresholds, 0.003).gallery
    grown = with_person(calibrated, "E999", gallery_of(eyes, 1, seed=9).matrix[0])
    assert (grown.thresholds, grown.raised) == (calibrated.thresholds, calibrated.raised)
    smaller = without_person(grown, "E000")
    assert set(smaller.raised) == {"E001"}, "nothing is kept about who is gone"
    again = calibrate(smaller, eyes.spec.thresholds, 0.003).gallery
    assert again.raised == {}


def test_a_stranger_of_whom_there_are_pictures_raises_whom_they_resemble_and_is_not_kept(
    fleet: Fleet, eyes: Eyes, people: People, tmp_path: Path
) -> None:
    visitor = tmp_path / "strangers" / "visitor"
    visitor.mkdir(parents=True)
    for photo in people["P44"]:
        (visitor / photo.name).write_bytes(photo.read_bytes())
    (vector,) = embed_strangers(eyes, visitor.parent)
    crowd = gallery_of(eyes, 40)
    double = 0.6 * vector[0] + 0.8 * crowd.matrix[7]
    publish(fleet, with_person(crowd, "E007", double / np.linalg.norm(double)))
    assert main(["calibrate", str(fleet.folder), "--strangers", str(visitor.parent)]) == 0
    gallery = on_board(fleet, eyes)
    assert list(gallery.raised) == ["E007"]
    assert len(gallery.people) == 40


def test_a_gallery_full_of_twins_is_told_in_a_page(eyes: Eyes) -> None:
    told = report(calibrate(gallery_of(eyes, 200, twins=60), eyes.spec.thresholds, 0.003))
    assert told.count("too alike: ") == MAX_LISTED
    assert "and 10 more pairs" in told


def test_a_gallery_from_before_thresholds_is_calibrated_like_any_other(fleet: Fleet, eyes: Eyes) -> None:
    publish(fleet, gallery_of(eyes, 40))
    assert current_gallery(fleet, eyes).thresholds is None
    assert main(["calibrate", str(fleet.folder)]) == 0
    assert current_gallery(fleet, eyes).thresholds is not None
