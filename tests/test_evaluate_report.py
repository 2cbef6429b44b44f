"""The report: one private file that needs nothing else, shows who was missed, and says so to everybody."""

from __future__ import annotations

import argparse
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from demo.people import sample_people
from demo.walkpast import empty_corridor, render_walkpast, write_clip
from edge.assembly import open_eyes
from edge.camera.pictures import read_picture
from edge.config import RecognitionConfig
from edge.errors import InputError
from edge.evaluate import openset, page, plots
from edge.evaluate.cli import add_commands
from edge.evaluate.conditions import NAMES
from edge.evaluate.dataset import BOX, MEASURES, Embeddings, open_album
from edge.evaluate.openset import Cell
from edge.evaluate.openset_report import openset_report
from edge.evaluate.report import Context
from edge.recognition.align import ARCFACE_POINTS
from edge.recognition.manifest import load_manifest
from edge.records import Box, Face, Image

VOID = {"meta", "img", "br", "wbr", "link", "hr", "input"}


class Reading(HTMLParser):
    """Which elements a page has, and whether each is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


# Charts

LINEAR, LOG = plots.Axis("share", 0, 1), plots.Axis("rate", 0.01, 100, log=True)


def test_a_chart_is_well_formed_and_says_what_it_shows() -> None:
    line = plots.Series("<b> & friends", [(0.01, 0.1), (100, 1)], 1)
    picture = plots.chart("one", "A title", "A & B", LOG, LINEAR, [line], [plots.Mark("here", 1.0)])
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    name = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "one-title one-text"
    assert root.findtext(f"{name}title") == "A title"
    assert root.findtext(f"{name}desc") == "A & B"
    assert "<b> & friends" in [text.text for text in root.iter(f"{name}text")]


def test_a_chart_places_values_by_its_axes() -> None:
    assert LINEAR.share(0.25) == pytest.approx(0.25)
    assert LOG.share(1.0) == pytest.approx(0.5)
    assert LOG.share(0.0) == 0, "below the axis is held at its edge"
    assert LINEAR.share(7) == 1


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (LOG, [0.01, 0.1, 1, 10, 100]),
        (LINEAR, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (plots.Axis("", -0.3, 1), [0, 0.5, 1]),
        (plots.Axis("", 0, 17), [0, 5, 10, 15]),
    ],
)
def test_ticks_are_round_and_inside(axis: plots.Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_a_histogram_is_drawn_as_steps() -> None:
    assert plots.steps([0, 1, 2], [5, 3]) == [(0, 5), (1, 5), (1, 3), (2, 3)]


def test_a_line_without_points_draws_nothing() -> None:
    empty = plots.Series("nobody", [], 2)
    ElementTree.fromstring(plots.chart("one", "t", "d", LOG, LINEAR, [empty]))  # noqa: S314


# The page


def test_text_is_escaped_wherever_it_stands() -> None:
    evil = '<script>alert("x")</script>'
    shown = page.page(
        evil,
        evil,
        [
            page.section(evil, page.paragraph(evil), page.figure("", evil)),
            page.table((evil,), [(evil, evil)], evil),
            page.pair([page.shot("", evil, evil), page.shot("data:,", evil, evil)], evil),
        ],
    )
    assert not Reading(shown).all("script")
    assert "<script" not in shown


def test_a_table_has_headers_for_its_columns_and_rows() -> None:
    seen = Reading(page.table(("face width", "missed"), [("below 48", "3")], "a caption"))
    assert [head.get("scope") for head in seen.all("th")] == ["col", "col", "row"]
    assert seen.all("caption")


@pytest.mark.parametrize(
    "box", [(40, 30, 60, 60), (-15, -10, 20, 30), (85, 60, 130, 120), (2000, 0, 2100, 90)]
)
def test_a_thumbnail_is_a_small_jpeg_even_at_the_edge_of_a_picture(
    box: tuple[float, float, float, float],
) -> None:
    image: Image = np.full((80, 100, 3), 90, np.uint8)
    if box[0] > 1000:
        box = (60.0, 20.0, 99.0, 79.0)
    assert page.thumbnail(image, box).startswith("data:image/jpeg;base64,/9j/")


def test_a_report_is_its_owners_alone_and_replaces_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("old")
    file.chmod(0o644)
    page.write_private(file, b"new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file], "nothing half-written is left"
    with pytest.raises(InputError, match="cannot be written"):
        page.write_private(tmp_path / "absent" / "report.html", b"new")


def test_a_photograph_whose_name_is_no_utf_8_is_reported_all_the_same(tmp_path: Path) -> None:
    """Regression: `person/\\xff.jpg` ended the report with a traceback after everything was measured."""
    page.write_page(tmp_path / "report.html", page.shot("", os.fsdecode(b"Ann/\xff.jpg"), "missed"))
    assert "\\udcff.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


# The whole report, on made-up vectors and grey pictures


class OneFace:
    """A detector that sees the same face everywhere."""

    min_confidence = 0.6

    def detect(self, image: Image) -> tuple[Face, ...]:
        return (Face(Box(30, 30, 130, 150), np.array(ARCFACE_POINTS, np.float32) + 20, 0.9),)


def album_with_vectors(folder: Path, sizes: list[int], noise: float) -> Embeddings:
    generator = np.random.default_rng(0)
    rows = []
    for person, count in enumerate(sizes):
        centre = generator.normal(size=16)
        (folder / f"P{person:03d}").mkdir()
        for number in range(count):
            picture: Image = np.full((160, 160, 3), 40 + person, np.uint8)
            cv2.imwrite(str(folder / f"P{person:03d}" / f"{number}.png"), picture)
            rows.append(centre / np.linalg.norm(centre) + noise * generator.normal(size=16))
    vectors = np.array(rows, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.ones(len(rows), np.bool_)
    measures = {name: generator.uniform(0, 1, len(rows)).astype(np.float32) for name in MEASURES}
    measures |= {
        name: np.full(len(rows), value, np.float32)
        for name, value in zip(BOX, (30, 30, 130, 150), strict=True)
    }
    found[3] = False  # the first person's fourth photograph
    vectors[3] = 0
    for values in measures.values():
        values[3] = np.nan
    return Embeddings(open_album(folder), vectors, found, measures)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    embeddings = album_with_vectors(tmp_path_factory.mktemp("people"), [5] * 12 + [1] * 120, noise=0.3)
    spec = load_manifest(None).embedder("facenet+sface")
    cells = (Cell(8, 3, 1), Cell(8, 1, 3), Cell(200, 3, 1))
    outcomes = list(openset.identify(embeddings, spec.threshold, cells))
    larger = load_manifest(None).models["yunet_480x640"]
    context = Context("hadir-edge evaluate openset people", spec, OneFace(), "people", spec.threshold, larger)
    return openset_report(context, embeddings, embeddings, outcomes)


def test_the_report_is_well_formed_and_needs_nothing_but_itself(report: str) -> None:
    seen = Reading(report)
    sources = [image["src"] or "" for image in seen.all("img")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not seen.all("script")
    assert not seen.all("link")
    addresses = re.findall(r"https?://[^\"'\s<]+", report)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}, "a name of SVG's, which nothing fetches"
    assert "url(" not in report
    (policy,) = (meta["content"] for meta in seen.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_report_can_be_read_by_those_who_do_not_see_it(report: str) -> None:
    seen = Reading(report)
    assert seen.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in seen.all("img"))
    charts = seen.all("svg")
    assert len(charts) == 2
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for chart in charts:
        assert set((chart["aria-labelledby"] or "").split()) <= set(ids)
    assert len(seen.all("caption")) == len(seen.all("table"))


def test_the_report_follows_light_and_dark_and_paper(report: str) -> None:
    assert "prefers-color-scheme: dark" in report
    assert "@media print" in report


def test_the_report_warns_that_it_shows_people(report: str) -> None:
    assert "contains pictures of people" in Reading(report).text


def test_the_report_says_what_was_run_and_which_data_chose_what(report: str) -> None:
    text = Reading(report).text
    spec = load_manifest(None).embedder("facenet+sface")
    assert "hadir-edge evaluate openset people" in text
    detectors = (
        spec.detector.sha256,
        spec.refiner.sha256,
        load_manifest(None).models["yunet_480x640"].sha256,
    )
    for needed in (spec.id, *(model.sha256 for model in spec.models), *detectors):
        assert needed in text
    assert "View 1" in text
    assert "second and closer looks of the detector" in text
    assert "Not measured: 200 enrolled, 3 photographs, one frame: only 12 people have 4 photographs" in text
    assert "Time per image" in text


def test_the_report_breaks_misses_down_by_every_condition_and_by_no_face(report: str) -> None:
    text = Reading(report).text
    for needed in ("face width", "yaw", "roll", "brightness", "contrast", "side light", "sharpness"):
        assert needed in text
    assert len(NAMES) == 7
    assert "no face found" in text


def test_a_photograph_without_a_face_is_shown_as_such_among_the_misses(report: str) -> None:
    assert "No face was found in this photograph." in report
    assert '<div class="none">no face found</div>' in report


def test_every_rate_of_the_report_has_its_interval(report: str) -> None:
    rates = re.findall(
        r"<td>(\d+\.\d\d)( \[\d+\.\d\d, \d+\.\d\d\])?<", report.partition("What the missed")[0]
    )
    assert len(rates) >= 8
    assert all(within for _, within in rates)


# The command


def run(*arguments: str | Path) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    options.act(options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for who, paths in sample_people().items():
        (tmp_path / "people" / who).mkdir(parents=True)
        for number, path in enumerate(paths, start=1):
            (tmp_path / "people" / who / f"{number}.jpg").symlink_to(path.resolve())
    return tmp_path / "people"


def test_two_people_are_enough_for_a_report_of_the_daemons_own_stages(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One enrolled, one a stranger; seen as they are, then in glasses, for which the templates stay as they are."""
    cache, file = tmp_path / "cache", tmp_path / "report.html"
    run("openset", folder, "--enrolled", "1", "--cache", cache, "--html", file)
    assert "contains pictures of people" in capsys.readouterr().out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "P44/<wbr>1.jpg" in file.read_text()

    run("openset", folder, "--enrolled", "1", "--cache", cache, "--html", file, "--degrade", "glasses")
    assert capsys.readouterr().out.count("4 photographs of 2 people") == 2, (
        "probes, and templates as they are"
    )
    assert "in glasses" in file.read_text()
    assert "photographs to enrol with left as they are" in file.read_text()

    run("openset", folder, "--enrolled", "1", "--cache", cache, "--degrade", "glasses", "--degrade-templates")
    assert capsys.readouterr().out.count("4 photographs of 2 people") == 1


def test_the_report_of_lfw_shows_the_hardest_pairs(folder: Path, tmp_path: Path) -> None:
    for person in folder.iterdir():
        for path in sorted(person.iterdir()):
            path.rename(person / f"{person.name}_000{path.stem}.jpg")
    (folder / "pairs.txt").write_text("2\t1\nP44\t1\t2\nP44\t1\tP46\t1\nP44\t2\t3\nP44\t2\tP46\t1\n")
    file = tmp_path / "report.html"
    run("lfw", folder, "--cache", tmp_path / "cache", "--html", file)
    seen = Reading(file.read_text())
    assert len(seen.all("svg")) == 2
    assert "Of 4 pairs, 100.00 % were judged rightly" in seen.text
    assert "One person, least alike" in seen.text


def test_a_report_that_could_not_be_written_is_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "absent" / "report.html"):
        with pytest.raises(InputError, match="cannot be written"):
            run("openset", folder, "--models-dir", tmp_path / "none", "--html", file)


def test_photographs_are_collected_from_a_clip_as_the_daemon_would_use_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portrait = sample_people()["P44"][0]
    face = Box(0, 0, 1, 1)
    for found in open_eyes(RecognitionConfig()).detector.detect(read_picture(portrait)):
        face = found.box
    clip = tmp_path / "clip.avi"
    write_clip(clip, render_walkpast(portrait, face, seed=3), frames_per_s=12)
    person = tmp_path / "people" / "E1"
    run("collect", clip, person, "--most", "4")
    assert "4 photographs from" in capsys.readouterr().out
    files = sorted(person.iterdir())
    assert [file.name for file in files] == ["0001.png", "0002.png", "0003.png", "0004.png"]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert stat.S_IMODE(person.stat().st_mode) == 0o700
    run("collect", clip, person, "--most", "1")
    assert (person / "0005.png").exists(), "numbered on, and nothing overwritten"
    (person / "office_17.jpg").write_bytes(portrait.read_bytes())
    run("collect", clip, person, "--most", "1")
    assert (person / "0018.png").exists(), "what was there before stays first, whatever it is called"

    run("openset", tmp_path / "people", "--enrolled", "1", "--cache", tmp_path / "cache")
    assert "7 photographs of 1 people; no face found in 0" in capsys.readouterr().out


def test_a_clip_that_gives_nothing_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.avi"
    write_clip(clip, empty_corridor(seed=3, frames=6), frames_per_s=12)
    run("collect", clip, tmp_path / "E1")
    printed = capsys.readouterr().out
    assert "0 photographs from" in printed
    assert "frames not used: nobody" in printed
    assert not (tmp_path / "E1").exists()


def test_a_few_volunteers_are_judged_at_the_threshold_of_the_whole_company(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, file = load_manifest(None).embedder("facenet+sface"), tmp_path / "report.html"
    cache = tmp_path / "cache"
    run("openset", folder, "--enrolled", "1", "--as-if-enrolled", "300", "--cache", cache, "--html", file)
    capsys.readouterr()
    assert f"shipped threshold of {spec.threshold(300):.3f}" in file.read_text()
    assert spec.threshold(300) > spec.threshold(1)


def test_templates_are_not_degraded_alone(folder: Path) -> None:
    with pytest.raises(InputError, match="--degrade-templates"):
        run("openset", folder, "--degrade-templates")


@pytest.mark.parametrize("sizes", ["0", "ten", "5,,6", "", "100001", "-3"])
def test_an_impossible_number_enrolled_is_refused(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("openset", "somewhere", f"--enrolled={sizes}")
    assert "must be whole numbers from 1 to 100,000" in capsys.readouterr().err


def test_every_degradation_of_the_command_exists() -> None:
    from edge.evaluate.cli import DEGRADATIONS  # noqa: PLC0415
    from edge.evaluate.degrade import CHANGES  # noqa: PLC0415
    from edge.evaluate.openset_report import SEEN_AS  # noqa: PLC0415

    assert set(DEGRADATIONS) == set(CHANGES) == set(SEEN_AS)
