"""What the HTML reports of all evaluations share: pictures, histograms, misses by condition, times and origins.

Everything is computed from what the command measured; only the thumbnails are read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.evaluate import page, plots
from edge.evaluate.conditions import CONDITIONS
from edge.evaluate.dataset import BOX, STAGES_MS, Embeddings, FindsFaces, open_photograph
from edge.evaluate.figures import commit, machine
from edge.recognition.manifest import EmbedderSpec, ModelSpec

SHOWN = 12
"""Pairs of thumbnails in each section."""

CURVE_POINTS = 120
"""Of a drawn line, one in every five pixels of a chart. Set, not measured."""


@dataclass(frozen=True, slots=True)
class Context:
    """What was run, by what, on what."""

    command: str
    spec: EmbedderSpec
    detector: FindsFaces
    folder: str
    """Its name, for people."""
    threshold: Callable[[int], float]
    """The similarity at which the daemon would decide, by number enrolled."""
    larger: ModelSpec | None = None
    """The detector that photographs larger than a frame were looked at with."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One comparison for the thumbnails."""

    row: int
    """Of the probe's photograph."""
    similarity: float
    other_row: int
    """Of the photograph that it was compared with; of several fused, the first."""
    note: str


def below(context: Context, embeddings: Embeddings) -> str:
    album = embeddings.album
    return (
        f"{context.spec.name} ({context.spec.id[:16]}), {len(album.files):,} photographs of "
        f"{len(album.people):,} people, {datetime.now(UTC):%Y-%m-%d}"
    )


class Pictures:
    """Thumbnails of an album's photographs as they were embedded."""

    def __init__(self, embeddings: Embeddings, detector: FindsFaces) -> None:
        self._embeddings = embeddings
        self._detector = detector

    def shot(self, row: int, role: str) -> str:
        """A photograph with its name and its part in the comparison."""
        embeddings = self._embeddings
        return page.shot(self._thumbnail(row), embeddings.album.files[row], role)

    def _thumbnail(self, row: int) -> str:
        embeddings = self._embeddings
        if not embeddings.found[row]:
            return ""
        x1, y1, x2, y2 = (float(embeddings.measures[name][row]) for name in BOX)
        image = open_photograph(embeddings.album, row, self._detector, embeddings.degradation)
        return page.thumbnail(image, (x1, y1, x2, y2))


def shown(found: Iterable[Seen], probes: Pictures, others: Pictures, roles: tuple[str, str]) -> str:
    found_pairs = [
        page.pair((probes.shot(one.row, roles[0]), others.shot(one.other_row, roles[1])), one.note)
        for one in islice(found, SHOWN)
    ]
    return page.pairs(found_pairs) if found_pairs else page.paragraph("There were none.")


def histogram(
    mates: tuple[str, NDArray[np.float32]],
    strangers: tuple[str, NDArray[np.float32]],
    marks: Sequence[plots.Mark],
    caption: str,
) -> str:
    edges = np.linspace(-0.3, 1, 66)
    series = []
    for style, (label, similarities) in enumerate((mates, strangers), start=1):
        # Without a face the similarity is -1, left of the chart.
        counts = np.histogram(similarities[similarities >= edges[0]], edges)[0]
        shares = 100 * counts / max(1, len(similarities))
        series.append(plots.Series(label, plots.steps(edges.tolist(), shares.tolist()), style, filled=True))
    highest = max(up for one in series for _, up in one.points)
    chart = plots.chart(
        "similarities",
        "Similarities",
        f"Two histograms of similarities: {mates[0]}, and {strangers[0]}. The farther apart, the better.",
        plots.Axis("similarity (cosine)", -0.3, 1.0),
        plots.Axis("share of comparisons, %", 0, max(1.0, 1.1 * highest)),
        series,
        marks,
    )
    return page.figure(chart, caption)


def bins(embeddings: Embeddings, rows: NDArray[np.int64], wrong: NDArray[np.bool_], what: str) -> str:
    """One table a condition: photographs, comparisons, and the share that went wrong."""
    found = embeddings.found[rows]
    tables = []
    for condition in CONDITIONS:
        places = condition.place(np.nan_to_num(embeddings.measures[condition.name][rows]))
        lines = [
            _bin(name, rows, wrong, found & (places == place)) for place, name in enumerate(condition.bins())
        ]
        if not found.all():
            lines.append(_bin("no face found", rows, wrong, ~found))
        heads = (condition.title.split(",")[0], "photographs", "probes", what, "")
        tables.append(page.table(heads, lines, condition.title))
    return '<div class="bins">\n' + "\n".join(f"<div>{one}</div>" for one in tables) + "\n</div>"


def _bin(
    name: str, rows: NDArray[np.int64], wrong: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> tuple[str, ...]:
    count = int(chosen.sum())
    if count == 0:
        return (name, "0", "0", "–", "")
    share = float(wrong[chosen].mean())
    return (name, f"{len(np.unique(rows[chosen])):,}", f"{count:,}", f"{100 * share:.2f}", page.bar(share))


def times(embeddings: Embeddings) -> str:
    rows = []
    for name, what in zip(STAGES_MS, ("find the face", "align it", "embed it"), strict=True):
        taken = embeddings.measures[name][embeddings.found]
        if taken.size:
            rows.append((what, *(f"{value:.2f}" for value in np.percentile(taken, (50, 95)))))
    total = np.sum([embeddings.measures[name][embeddings.found] for name in STAGES_MS], axis=0)
    if total.size:
        rows.append(("all three", *(f"{value:.2f}" for value in np.percentile(total, (50, 95)))))
    return page.section(
        "Time per image",
        page.table(("stage", "median, ms", "95 % within, ms"), rows, "As the photographs were embedded"),
        page.paragraph(
            "Taken when the vectors were made, which may have been an earlier run on this machine; reading and "
            "degrading the photograph are not counted.",
            "soft",
        ),
    )


def choices(context: Context) -> str:
    spec = context.spec
    thresholds = spec.thresholds
    rows = [
        (
            "thresholds of the models",
            "People of LFW who are in View 1, or not in View 2; checked on those who are in View 2 only "
            f"({thresholds.measured_by}).",
        ),
        (
            "models, alignment",
            "Trained by others, on other data (models/README.md). Where FaceNet's face lies in its crop was chosen on "
            "LFW's View 1 and people outside View 2.",
        ),
        (
            f"shares of the models, {', '.join(f'{weight:g}' for weight in spec.weights)}",
            "LFW's View 1 and people outside View 2 (docs/decisions/recognition.md).",
        ),
        (
            "second and closer looks of the detector",
            "The same photographs, as a door sees them (docs/decisions/recognition.md); how photographs are looked at, "
            "group pictures laid together from LFW's.",
        ),
        ("what is taken from every vector", "The mean of LFW's people outside View 2."),
        (
            "thresholds at an FPIR, of a fold",
            "An FPIR's threshold is chosen by this report's own strangers, a fold's by the other folds. The shipped "
            "threshold knows nothing of this folder, unless the folder is LFW.",
        ),
        ("degradations and conditions", "Ranges by what is known of cameras; nothing was fitted to results."),
    ]
    table = page.table(("parameter", "chosen by"), rows, "Which data chose which parameter", "text")
    shipped = page.table(
        ("enrolled", *(f"{size:,}" for size in thresholds.enrolled)),
        [("similarity", *(f"{value:.4f}" for value in thresholds.similarity))],
        f"Shipped thresholds: at most {100 * thresholds.fpir_target:g} % of strangers pass",
    )
    return page.section("What chose what", table, shipped)


def about(context: Context, probes: Embeddings, templates: Embeddings) -> str:
    spec = context.spec
    as_photographs = context.larger is not None and "" in (probes.degradation, templates.degradation)
    larger = (context.larger,) if as_photographs else ()
    used = (spec.detector, *larger, spec.refiner, *spec.models)
    models = [(model.key, f"{model.file}, sha256 {model.sha256}") for model in used]
    changed = probes.degradation or "nothing"
    enrolled = "as the probes" if templates.degradation == probes.degradation else "left as they are"
    rows = [
        ("command", context.command),
        ("commit", commit()),
        ("machine", f"{machine()}, OpenCV {cv2.__version__}"),
        ("embedder", f"{spec.name}, id {spec.id}"),
        *models,
        ("detector's least confidence", f"{context.detector.min_confidence:g}"),
        ("rendered onto the probes", f"{changed}; photographs to enrol with {enrolled}"),
        ("no face found", f"{len(probes.missing):,} of {len(probes.album.files):,}; they count as misses"),
    ]
    return page.section("About this report", page.table(("what", "which"), rows, "What was run", "text"))
