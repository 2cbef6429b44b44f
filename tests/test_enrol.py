"""From photographs to a template: what makes one, and what is refused with what to do."""

from __future__ import annotations

import fcntl
import threading
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
import pytest

from demo.boards import configured_board
from edge.assembly import Eyes
from edge.camera.pictures import read_picture
from edge.errors import BadImage, GalleryError, InputError, NotEnrollable
from edge.recognition.gallery import Gallery, make_gallery
from edge.recognition.match import template_of
from edge.records import Image
from provisioning.cli import main
from provisioning.enrol import MAX_PHOTOS, Enrolment, _refuse_unfit, embed_portraits, enrol
from provisioning.fleet import Fleet, open_fleet
from provisioning.galleries import current_gallery, publish, with_person
from tests.conftest import People


@pytest.fixture
def nobody(eyes: Eyes) -> Gallery:
    return make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, {})


def saved(path: Path, image: Image) -> Path:
    cv2.imwrite(str(path), image)
    return path


def test_a_template_is_made_of_all_of_a_persons_photographs(
    eyes: Eyes, people: People, nobody: Gallery
) -> None:
    photos = people["P44"]
    enrolment = enrol(eyes, "P44", photos, nobody)
    fused = template_of(embed_portraits(eyes, photos).vectors)
    assert float(enrolment.template @ fused) == pytest.approx(1, abs=1e-5)
    assert float(np.linalg.norm(enrolment.template)) == pytest.approx(1, abs=1e-5)
    assert enrolment.photos == len(photos)
    assert enrolment.least_similarity > 0.7


def test_two_people_are_unlike_and_one_persons_pictures_are_alike(eyes: Eyes, people: People) -> None:
    first, second, third = embed_portraits(eyes, people["P44"]).vectors
    (other,) = embed_portraits(eyes, people["P46"][:1]).vectors
    assert min(float(first @ second), float(second @ third)) > 0.6
    assert max(float(vector @ other) for vector in (first, second, third)) < 0.3


def test_the_same_picture_given_again_counts_once(
    eyes: Eyes, people: People, tmp_path: Path, nobody: Gallery
) -> None:
    """Regression: three copies of one photograph were three photographs, and outvoted every other."""
    one, other, _ = people["P44"]
    copied = tmp_path / "copied.jpg"
    copied.write_bytes(one.read_bytes())
    converted = saved(tmp_path / "converted.png", read_picture(one))
    enrolment = enrol(eyes, "P44", [one, copied, other, converted], nobody)
    assert enrolment.photos == 2
    assert enrolment.repeated == {copied: one, converted: one}
    np.testing.assert_array_equal(enrolment.template, enrol(eyes, "P44", [one, other], nobody).template)


def test_it_is_said_which_photographs_are_the_same(
    fleet: Fleet, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(people["P44"][0])
    assert main(["enrol", str(fleet.folder), "P44", one, one, one]) == 0
    told = capsys.readouterr().out
    assert f"{one}: the same picture as {one}; counted once" in told
    assert "enrolled P44 from 1 photograph(s)" in told


@pytest.mark.parametrize("person", ["", "Budi Santoso", "../E1", "E" * 65, "E1\n"])
def test_an_id_that_must_not_travel_is_refused(
    eyes: Eyes, people: People, nobody: Gallery, person: str
) -> None:
    with pytest.raises(InputError, match="must match"):
        enrol(eyes, person, people["P44"], nobody)


def test_a_picture_without_a_face_is_refused_by_name(eyes: Eyes, tmp_path: Path, nobody: Gallery) -> None:
    wall = saved(tmp_path / "wall.png", np.full((300, 300, 3), 128, np.uint8))
    with pytest.raises(NotEnrollable, match="no face found") as refusal:
        enrol(eyes, "E1", [wall], nobody)
    assert str(wall) in str(refusal.value)


def test_a_picture_with_two_people_is_refused(
    eyes: Eyes, people: People, tmp_path: Path, nobody: Gallery
) -> None:
    pair = [cv2.resize(read_picture(people[person][0]), (400, 500)) for person in ("P44", "P46")]
    together = saved(tmp_path / "pair.png", np.hstack(pair).astype(np.uint8))
    with pytest.raises(NotEnrollable, match="2 faces of similar size; crop the picture"):
        enrol(eyes, "E1", [together], nobody)


def test_a_face_that_is_too_small_is_refused(
    eyes: Eyes, people: People, tmp_path: Path, nobody: Gallery
) -> None:
    small = cv2.resize(read_picture(people["P44"][0]), (160, 200), interpolation=cv2.INTER_AREA)
    with pytest.raises(NotEnrollable, match="at least 80 px are needed"):
        enrol(eyes, "E1", [saved(tmp_path / "small.png", small.astype(np.uint8))], nobody)


def test_no_photograph_and_a_whole_album_are_refused(eyes: Eyes, people: People, nobody: Gallery) -> None:
    for photos in ([], [people["P44"][0]] * (MAX_PHOTOS + 1)):
        with pytest.raises(InputError, match=f"E1: {len(photos)} photographs; give 1 to {MAX_PHOTOS}"):
            enrol(eyes, "E1", photos, nobody)


@pytest.mark.parametrize("kind", ["to the side", "down onto a shoulder"])
def test_a_face_that_is_turned_away_is_refused(eyes: Eyes, people: People, kind: str) -> None:
    """The detector finds few of them, and none reliably, so its keypoints are moved here."""
    photo = people["P44"][0]
    image = read_picture(photo)
    (face,) = eyes.detector.detect(image)
    _refuse_unfit(image, face, photo)
    middle = face.keypoints.mean(axis=0)
    if kind == "to the side":
        turned = face.keypoints.copy()
        turned[2] = turned[0]  # the nose over the right eye
    else:
        angle = np.deg2rad(40)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned = ((face.keypoints - middle) @ turn + middle).astype(np.float32)
    with pytest.raises(
        NotEnrollable, match=f"{photo.name}: the face is turned away; take a picture from the fr"
    ):
        _refuse_unfit(image, replace(face, keypoints=turned), photo)


def test_a_photograph_of_somebody_else_among_the_others_is_refused_by_name(
    eyes: Eyes, people: People, nobody: Gallery
) -> None:
    with pytest.raises(NotEnrollable, match="is it somebody else") as refusal:
        enrol(eyes, "P44", [*people["P44"], people["P46"][0]], nobody)
    assert "biden" in str(refusal.value)


def test_two_photographs_of_two_people_are_refused(eyes: Eyes, people: People, nobody: Gallery) -> None:
    with pytest.raises(NotEnrollable, match="is it somebody else"):
        enrol(eyes, "E9", [people["P44"][2], people["P46"][0]], nobody)


def test_who_is_removed_is_gone_and_who_was_never_there_is_named(eyes: Eyes, fleet: Fleet) -> None:
    axis = np.eye(1, eyes.embedder.dimensions, dtype=np.float32)[0]
    publish(fleet, with_person(with_person(current_gallery(fleet, eyes), "E1", axis), "E2", axis))
    assert main(["remove", str(fleet.folder), "E1"]) == 0
    gallery = current_gallery(fleet, eyes)
    assert (gallery.people, gallery.version) == (("E2",), 3)
    assert main(["remove", str(fleet.folder), "E1"]) == InputError.exit_code


def test_of_two_commands_at_once_neither_undoes_the_other(
    eyes: Eyes, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: both began from the same version, both said "done", and one person was in the gallery again."""
    axis = np.eye(1, eyes.embedder.dimensions, dtype=np.float32)[0]
    publish(fleet, with_person(with_person(current_gallery(fleet, eyes), "E1", axis), "E2", axis))
    codes: list[int] = []
    second = threading.Thread(target=lambda: codes.append(main(["remove", str(fleet.folder), "E2"])))
    waits, flock = threading.Event(), fcntl.flock

    def locking(file: TextIO, operation: int) -> None:
        if threading.current_thread() is second:
            waits.set()
        flock(file, operation)

    def publishing(fleet: Fleet, gallery: Gallery, *what: str) -> tuple[Path, ...]:
        if threading.current_thread() is not second:
            second.start()
            while second.is_alive() and not waits.wait(0.01):
                pass
        return publish(fleet, gallery, *what)

    monkeypatch.setattr("provisioning.galleries.fcntl.flock", locking)
    monkeypatch.setattr("provisioning.galleries.publish", publishing)
    assert main(["remove", str(fleet.folder), "E1"]) == 0
    second.join()
    assert codes == [0]
    gallery = current_gallery(fleet, eyes)
    assert (gallery.people, gallery.version) == ((), 4)


def test_an_id_that_somebody_has_is_not_given_to_somebody_else(
    eyes: Eyes, people: People, nobody: Gallery
) -> None:
    """Regression: one mistyped digit, and the template of who was there before was gone without a word."""
    first = enrol(eyes, "E1", people["P44"][:2], nobody)
    gallery = with_person(nobody, "E1", first.template)
    assert first.to_earlier is None
    with pytest.raises(NotEnrollable, match="enrolled under this id already, and looks different"):
        enrol(eyes, "E1", people["P46"], gallery)
    again = enrol(eyes, "E1", people["P44"][2:], gallery)
    assert again.to_earlier == pytest.approx(float(first.template @ again.template))


def test_a_picture_that_is_too_small_to_be_looked_at_is_named(
    eyes: Eyes, people: People, tmp_path: Path, nobody: Gallery
) -> None:
    """Regression: of three photographs, it was not said which."""
    dot = saved(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(BadImage, match=r"dot\.png: a picture of 1x1 pixels"):
        enrol(eyes, "E1", [*people["P44"], dot], nobody)


def test_the_same_person_under_two_ids_is_noticed(eyes: Eyes, people: People, nobody: Gallery) -> None:
    first: Enrolment = enrol(eyes, "P44", people["P44"][:2], nobody)
    gallery = with_person(nobody, "P44", first.template)
    again = enrol(eyes, "E9", people["P44"][2:], gallery)
    assert again.lookalike is not None
    assert again.lookalike[0] == "P44"
    assert enrol(eyes, "P44", people["P44"][2:], gallery).lookalike is None, (
        "being like oneself is no warning"
    )
    assert enrol(eyes, "P46", people["P46"], gallery).lookalike is None


def test_enrolling_raises_the_version_and_reaches_every_board(eyes: Eyes, fleet: Fleet) -> None:
    axis = np.eye(1, eyes.embedder.dimensions, dtype=np.float32)[0]
    gallery = current_gallery(fleet, eyes)
    assert (gallery.version, gallery.people) == (0, ())
    for version, person in enumerate(("E1", "E2", "E1"), 1):
        gallery = with_person(current_gallery(fleet, eyes), person, axis)
        boards = publish(fleet, gallery)
        assert current_gallery(fleet, eyes).version == version
        assert sorted(path.parent.name for path in boards) == ["door-01", "door-02"]
        assert {path.read_bytes() for path in boards} == {(fleet.folder / "gallery.hadir").read_bytes()}
    assert current_gallery(fleet, eyes).people == ("E1", "E2")
    assert not list(fleet.folder.rglob("*.new")), "nothing half-written is left"


def test_a_gallery_of_other_models_is_not_extended(eyes: Eyes, fleet: Fleet) -> None:
    publish(fleet, make_gallery(1, "f" * 64, 128, {}))
    with pytest.raises(GalleryError, match="made by embedder ffffffffffffffff"):
        current_gallery(fleet, eyes)


def test_the_commands_make_a_board_and_say_what_they_made(
    tmp_path: Path, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = tmp_path / "fleet"
    assert main(["init", str(fleet), "--site", "hq"]) == 0
    configured_board(open_fleet(fleet), "door-01", broker_url="mqtt://127.0.0.1", sources=[])
    assert main(["enrol", str(fleet), "P44", *map(str, people["P44"])]) == 0
    said = capsys.readouterr().out
    assert "board door-01: " + str(fleet / "boards/door-01/gallery.hadir") in said
    assert "enrolled P44 from 3 photograph(s)" in said
    assert "gallery version 1, 1 people" in said
    assert sorted(path.name for path in (fleet / "boards/door-01").iterdir()) == [
        "device.pem",
        "edge.toml",
        "gallery.hadir",
        "keys.jws",
    ]


def test_enrolling_somebody_under_a_second_id_is_done_and_warned_of(
    fleet: Fleet, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    """The administrator decides: twins are no mistake."""
    assert main(["enrol", str(fleet.folder), "P44", str(people["P44"][0])]) == 0
    assert capsys.readouterr().err == ""
    assert main(["enrol", str(fleet.folder), "E9", str(people["P44"][1])]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: E9 looks like P44 (similarity 0.")
    assert "the same person under two ids?" in said.err
    assert "gallery version 2, 2 people" in said.out


@pytest.mark.parametrize(
    ("others", "calibrated", "told"), [(29, False, True), (28, False, False), (29, True, False)]
)
def test_a_gallery_that_is_large_enough_and_not_calibrated_is_told_of(
    others: int,
    *,
    calibrated: bool,
    told: bool,
    eyes: Eyes,
    fleet: Fleet,
    people: People,
    capsys: pytest.CaptureFixture[str],
) -> None:
    axes = np.eye(others, eyes.embedder.dimensions, dtype=np.float32)
    own = eyes.spec.thresholds if calibrated else None
    enrolled = {f"E{number}": axis for number, axis in enumerate(axes)}
    publish(fleet, make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, enrolled, own))
    assert main(["enrol", str(fleet.folder), "P44", *map(str, people["P44"])]) == 0
    assert (f"`hadir-provision calibrate {fleet.folder}`" in capsys.readouterr().out) is told


def test_the_audit_tells_whose_id_was_enrolled_and_removed_and_by_whom(
    fleet: Fleet, people: People, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: it told that there was another version of the gallery, and not whom it was about."""
    monkeypatch.setenv("SUDO_USER", "ana")
    for photo in people["P44"][:2]:
        assert main(["enrol", str(fleet.folder), "P44", str(photo)]) == 0
    assert main(["remove", str(fleet.folder), "P44"]) == 0
    first, again, gone = list(fleet.registry.audit())[-3:]
    assert [(entry.action, entry.subject) for entry in (first, again, gone)] == [
        ("enrol", "P44"),
        ("enrol", "P44"),
        ("remove", "P44"),
    ]
    assert {entry.who.split("@")[0] for entry in (first, again, gone)} == {"ana"}
    assert first.detail == {"version": 1, "photos": 1, "replaced": False}
    assert again.detail == {"version": 2, "photos": 1, "replaced": True}
    assert gone.detail == {"version": 3}
    capsys.readouterr()
    assert main(["audit", str(fleet.folder)]) == 0
    assert '  remove  P44  {"version": 3}' in capsys.readouterr().out


def test_a_removal_that_was_refused_is_not_in_the_audit_as_done(fleet: Fleet) -> None:
    before = list(fleet.registry.audit())
    assert main(["remove", str(fleet.folder), "E404"]) == InputError.exit_code
    assert list(fleet.registry.audit()) == before


def test_a_command_that_cannot_be_carried_out_says_why_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enrol", str(tmp_path / "nowhere"), "E1", "photo.jpg"]) == 78
    said = capsys.readouterr().err
    assert said.startswith("hadir-provision: ")
    assert said.count("\n") == 1
    assert "nowhere" in said


def test_init_over_an_existing_fleet_destroys_nothing(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()}
    assert main(["init", str(fleet.folder), "--site", "hq"]) != 0
    assert {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()} == before
    assert str(fleet.folder) in capsys.readouterr().err
