"""The HTML report of an evaluation: figures, curves, who was missed and who was taken for somebody, and why.

Everything is computed from what the command measured; only the thumbnails are read again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.evaluate import lfw, page, plots
from edge.evaluate.conditions import CONDITIONS
from edge.evaluate.dataset import BOX, NO_SIMILARITY, STAGES_MS, Embeddings, FindsFaces, open_photograph
from edge.evaluate.figures import commit, machine
from edge.evaluate.openset import (
    FPIRS,
    SEEDS,
    Cell,
    Draw,
    Outcome,
    Runs,
    Trial,
    compare,
    draw,
    rate_text,
    run_trial,
)
from edge.evaluate.rates import threshold_admitting
from edge.recognition.manifest import EmbedderSpec

SHOWN = 12
"""Pairs of thumbnails in each section."""

LIKE_ENROLLED, LIKE_TEMPLATES = 200, 3
"""The cell that is looked into is the one nearest to this, with one frame, so that each miss is one photograph."""

CURVE_POINTS = 120

SEEN_AS = {
    "door": "as a door camera sees them",
    "scarf": "in headscarves",
    "mask": "in masks",
    "glasses": "in glasses",
}


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


@dataclass(frozen=True, slots=True)
class Seen:
    """One comparison for the thumbnails."""

    row: int
    """Of the probe's photograph."""
    similarity: float
    other_row: int
    """Of the photograph that it was compared with; of several fused, the first."""
    note: str


def openset_report(
    context: Context, probes: Embeddings, templates: Embeddings, outcomes: Sequence[Outcome]
) -> str:
    """The page for `evaluate openset`."""
    filled = [outcome for outcome in outcomes if not outcome.unfilled]
    title = f"Who is recognised, and who is not: {context.folder}"
    if probes.degradation:
        title += f", {SEEN_AS[probes.degradation]}"
    body = [_openset_summary(filled), _openset_table(filled, outcomes)]
    looked_into = _cell_to_look_into(filled)
    if looked_into is not None:
        body += _looked_into(context, probes, templates, looked_into)
    body += [_times(probes), _choices(context), _about(context, probes, templates)]
    return page.page(title, _below(context, probes), body)


def lfw_report(context: Context, embeddings: Embeddings, folds: lfw.Folds, result: lfw.Verification) -> str:
    """The page for `evaluate lfw`."""
    title = f"Are two photographs of one person? {context.folder}"
    low, high = result.accuracy_interval
    summary = page.section(
        "In short",
        page.paragraph(
            f"Of {result.pairs:,} pairs, {100 * result.accuracy:.2f} % were judged rightly "
            f"(95 % interval {100 * low:.2f} to {100 * high:.2f} %), each fold at the threshold that is best on "
            f"the {result.folds - 1} others.",
            "lead",
        ),
        _true_match_table(result),
    )
    mated = result.similarities[folds.mated]
    non_mated = result.similarities[~folds.mated]
    threshold = statistics.mean(result.thresholds)
    body = [
        summary,
        page.section("True matches against false matches", _roc(mated, result)),
        page.section(
            "How alike pairs look",
            _histogram(
                ("one person", mated),
                ("two people", non_mated),
                [plots.Mark(f"threshold {threshold:.3f}", threshold)],
                "View 2's pairs; where the two areas overlap, no threshold is right for both.",
            ),
        ),
        _lfw_pairs(context, embeddings, folds, result),
        _lfw_conditions(embeddings, folds, result),
        _times(embeddings),
        _choices(context),
        _about(context, embeddings, embeddings),
    ]
    return page.page(title, _below(context, embeddings), body)


def _below(context: Context, embeddings: Embeddings) -> str:
    album = embeddings.album
    return (
        f"{context.spec.name} ({context.spec.id[:16]}), {len(album.files):,} photographs of "
        f"{len(album.people):,} people, {datetime.now(UTC):%Y-%m-%d}"
    )


# Identification


def _openset_summary(filled: Sequence[Outcome]) -> str:
    cell = _cell_to_look_into(filled)
    if cell is None:
        return page.section(
            "In short",
            page.paragraph("The folder has too few people for any figure; see --enrolled.", "lead"),
        )
    rows = [_summarised(outcome) for outcome in filled if _same_gallery(outcome.cell, cell)]
    heads = (
        "frames fused",
        "missed at the shipped threshold, %",
        "strangers who pass it, %",
        *(f"missed where {fpir:g} % of strangers pass, %" for fpir in FPIRS[-1:]),
    )
    return page.section(
        "In short",
        page.paragraph(
            f"With {cell.enrolled:,} people enrolled from {_counted(cell.templates, 'photograph')} each, this share "
            "of them walks past unrecognised, and this share of strangers is given somebody's name:",
            "lead",
        ),
        page.table(
            heads, rows, "In brackets 95 % intervals: what other people of the same kind might have given"
        ),
    )


def _summarised(outcome: Outcome) -> tuple[str, ...]:
    strict = FPIRS[-1]
    return (
        str(outcome.cell.frames),
        rate_text(outcome.shipped_fnir, outcome.shipped_fnir_interval),
        rate_text(outcome.shipped_fpir, outcome.shipped_fpir_interval),
        rate_text(outcome.fnir[strict], outcome.intervals[strict])
        if strict in outcome.fnir
        else "too few strangers",
    )


def _counted(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"


def _same_gallery(one: Cell, other: Cell) -> bool:
    return (one.enrolled, one.templates) == (other.enrolled, other.templates)


def _cell_to_look_into(filled: Sequence[Outcome]) -> Cell | None:
    cells = [outcome.cell for outcome in filled if outcome.cell.frames == 1]
    return min(
        cells,
        key=lambda cell: (abs(cell.templates - LIKE_TEMPLATES), abs(cell.enrolled - LIKE_ENROLLED)),
        default=None,
    )


def _openset_table(filled: Sequence[Outcome], outcomes: Sequence[Outcome]) -> str:
    heads = (
        "enrolled",
        "photographs each",
        "frames",
        *(f"FNIR % at FPIR {fpir:g} %" for fpir in FPIRS),
        "shipped: FNIR %",
        "FPIR %",
        "probes",
        "strangers",
    )
    rows = [
        (
            f"{outcome.cell.enrolled:,}",
            str(outcome.cell.templates),
            str(outcome.cell.frames),
            *(
                rate_text(outcome.fnir[fpir], outcome.intervals[fpir]) if fpir in outcome.fnir else "–"
                for fpir in FPIRS
            ),
            rate_text(outcome.shipped_fnir, outcome.shipped_fnir_interval),
            rate_text(outcome.shipped_fpir, outcome.shipped_fpir_interval),
            f"{outcome.probes:,.0f}",
            f"{outcome.strangers:,.0f}",
        )
        for outcome in filled
    ]
    unfilled = [f"{_named(outcome.cell)}: {outcome.unfilled}" for outcome in outcomes if outcome.unfilled]
    left_out = page.paragraph("Not measured: " + "; ".join(unfilled) + ".", "soft") if unfilled else ""
    return page.section(
        "Every setting",
        page.paragraph(
            "FNIR: the share of probes of enrolled people that are not ranked first above the threshold. FPIR: "
            "the share of strangers' probes that pass it. Rates and counts are means of ten draws of who is "
            "enrolled. A dash: that rate would be less than one stranger. Shipped: the threshold that the daemon "
            "takes for so many enrolled."
        ),
        page.table(heads, rows, "FNIR and FPIR in percent, with 95 % intervals over people", "dense"),
        left_out,
    )


def _named(cell: Cell) -> str:
    return f"{cell.enrolled:,} enrolled, {_counted(cell.templates, 'photograph')}, {_counted(cell.frames, 'frame')}"


def _looked_into(context: Context, probes: Embeddings, templates: Embeddings, cell: Cell) -> list[str]:
    seen = Runs(probes)
    enrolled = seen if templates is probes else Runs(templates)
    draws = [draw(seen, enrolled, cell, seed) for seed in SEEDS]
    trials = [run_trial(drawn) for drawn in draws]
    shipped = context.threshold(cell.enrolled)
    pictures = _Pictures(probes, context.detector), _Pictures(templates, context.detector)
    mated, strangers = (
        np.concatenate([getattr(trial, kind) for trial in trials]) for kind in ("mated", "strangers")
    )
    marks = [plots.Mark(f"shipped threshold {shipped:.3f}", shipped)]
    return [
        page.section("Misses against strangers who pass", _det(seen, enrolled, cell)),
        page.section(
            "How alike people look to their own template, and strangers to anybody's",
            _histogram(
                ("enrolled, own template", mated),
                ("strangers, most alike", strangers),
                marks,
                f"{_named(cell)}; probes without a face are left out.",
            ),
        ),
        page.section(
            "The worst misses",
            page.paragraph(
                f"{_named(cell)}, at the shipped threshold of {shipped:.3f}: those who looked least like "
                "themselves, each person once."
            ),
            _shown(_worst_misses(probes, draws, trials, shipped), *pictures, ("at the door", "enrolled")),
        ),
        page.section(
            "The worst false accepts",
            page.paragraph(
                "Strangers who looked most like somebody enrolled, each two people once. Above "
                f"{shipped:.3f} they would have been taken for that person in a single frame."
            ),
            _shown(_worst_strangers(probes, draws, trials, shipped), *pictures, ("stranger", "taken for")),
        ),
        _openset_conditions(probes, draws, trials, shipped, cell),
    ]


def _det(seen: Runs, enrolled: Runs, cell: Cell) -> str:
    series = []
    least = 100.0
    for style, frames in enumerate((1, 3, 5), start=1):
        fused = Cell(cell.enrolled, cell.templates, frames)
        if np.sum(seen.sizes >= fused.templates + frames) < fused.enrolled:
            continue
        trials = [run_trial(draw(seen, enrolled, fused, seed)) for seed in SEEDS]
        strangers = min(len(trial.strangers) for trial in trials)
        if strangers == 0:
            continue
        points = _det_points(trials, strangers)
        least = min([least, *(up for _, up in points if up > 0)])
        # On a scale of powers of ten the curve ends where nobody is missed any more.
        shown = [point for point in points if point[1] > 0]
        label = _counted(frames, "frame") + ("" if shown else ": nobody missed")
        series.append(plots.Series(label, shown, style))
    floor = min(10.0, 10 ** np.floor(np.log10(least)))
    chart = plots.chart(
        "det",
        "Misses against false accepts",
        f"FNIR over FPIR, both in percent, for {_named(cell)} and for more frames. Lower is better.",
        plots.Axis("strangers who pass, FPIR %", 0.01, 100, log=True),
        plots.Axis("enrolled who are missed, FNIR %", float(floor), 100, log=True),
        series,
    )
    return page.figure(
        chart,
        f"{cell.enrolled:,} enrolled from {cell.templates} photographs; mean of ten draws. A curve begins at one "
        "stranger and ends where nobody was missed.",
    )


def _det_points(trials: Sequence[Trial], strangers: int) -> list[tuple[float, float]]:
    counts = np.unique(np.geomspace(1, strangers, CURVE_POINTS).astype(int))
    points = []
    for count in counts[counts < strangers]:
        missed = [
            trial.fnir_at(threshold_admitting(trial.strangers, int(count * len(trial.strangers) / strangers)))
            for trial in trials
        ]
        points.append((100 * float(count) / strangers, statistics.mean(missed)))
    return points


def _worst_misses(
    probes: Embeddings, draws: Sequence[Draw], trials: Sequence[Trial], threshold: float
) -> Iterable[Seen]:
    worst: dict[int, Seen] = {}
    names = list(probes.album.people)
    for drawn, trial in zip(draws, trials, strict=True):
        compared = compare(drawn.probes, drawn.references)
        own = {int(owner): at for at, owner in enumerate(drawn.references.owners)}
        for at in np.flatnonzero(~trial.hits_at(threshold)):
            owner, similarity = int(trial.owners[at]), float(trial.mated[at])
            if owner in worst and worst[owner].similarity <= similarity:
                continue
            similarities = compared[at].copy()
            similarities[own[owner]] = NO_SIMILARITY  # anybody else
            rival = int(similarities.argmax())
            note = f"{similarity:.3f} to the own template"
            note += f", {similarities[rival]:.3f} to {names[drawn.references.owners[rival]]}"
            if not probes.found[drawn.probes.rows[at, 0]]:
                note = "No face was found in this photograph."
            row = int(drawn.references.rows[own[owner], 0])
            worst[owner] = Seen(int(drawn.probes.rows[at, 0]), similarity, row, note)
    return sorted(worst.values(), key=lambda one: one.similarity)


def _worst_strangers(
    probes: Embeddings, draws: Sequence[Draw], trials: Sequence[Trial], threshold: float
) -> Iterable[Seen]:
    worst: dict[tuple[int, int], Seen] = {}
    for drawn, trial in zip(draws, trials, strict=True):
        matches = compare(drawn.strangers, drawn.references).argmax(axis=1)
        for at in np.argsort(-trial.strangers)[: 4 * SHOWN]:
            match = int(matches[at])
            two = int(drawn.strangers.owners[at]), int(drawn.references.owners[match])
            similarity = float(trial.strangers[at])
            if two in worst and worst[two].similarity >= similarity:
                continue
            verdict = "passes" if similarity >= threshold else "is kept out"
            worst[two] = Seen(
                int(drawn.strangers.rows[at, 0]),
                similarity,
                int(drawn.references.rows[match, 0]),
                f"{similarity:.3f}: {verdict}",
            )
    return sorted(worst.values(), key=lambda one: -one.similarity)


def _openset_conditions(
    probes: Embeddings, draws: Sequence[Draw], trials: Sequence[Trial], threshold: float, cell: Cell
) -> str:
    rows = np.concatenate([drawn.probes.rows[:, 0] for drawn in draws])
    missed = np.concatenate([~trial.hits_at(threshold) for trial in trials])
    return page.section(
        "What the missed photographs have in common",
        page.paragraph(
            f"{_named(cell)}, at the shipped threshold of {threshold:.3f}: FNIR by how the probe was taken. A "
            "photograph counts once in each of the ten draws that enrolled its person. Bins with few photographs "
            "say little."
        ),
        _bins(probes, rows, missed, "missed %"),
    )


# Verification


def _true_match_table(result: lfw.Verification) -> str:
    rows = []
    for rate, matches in result.true_matches.items():
        if matches is not None:
            rows.append(
                (
                    f"{rate:g}".replace("e-0", "e-"),
                    f"{matches.rate:.4f} {lfw.interval_text(matches.interval)}",
                    f"{matches.threshold:.4f}",
                    f"{matches.admitted:,}",
                )
            )
    return page.table(
        ("false-match rate", "true-match rate", "similarity", "impostor pairs that pass"),
        rows,
        f"{result.mated_pairs:,} pairs of one person; {result.impostor_pairs:,} pairs of different people; "
        "95 % intervals over people",
    )


def _roc(mated: NDArray[np.float32], result: lfw.Verification) -> str:
    impostors = result.impostors.similarities
    counts = np.unique(np.geomspace(1, max(1, len(impostors) - 1), CURVE_POINTS).astype(int))
    points = [
        (
            float(count) / result.impostor_pairs,
            float(np.mean(mated > impostors[min(count, len(impostors) - 1)])),
        )
        for count in counts
    ]
    least = 10 ** np.floor(np.log10(points[0][0]))
    low = max(0.0, np.floor(10 * min(up for _, up in points)) / 10)
    chart = plots.chart(
        "roc",
        "True matches against false matches",
        "The share of pairs of one person that match, over the share of pairs of two people that do. Higher is better.",
        plots.Axis("false-match rate", float(least), max(1e-2, points[-1][0]), log=True),
        plots.Axis("true-match rate", float(min(low, 0.9)), 1.0),
        [plots.Series(f"{result.mated_pairs:,} pairs of one person", points, 1)],
    )
    return page.figure(chart, "Impostors are all pairs of photographs of different people in the folder.")


def _lfw_pairs(context: Context, embeddings: Embeddings, folds: lfw.Folds, result: lfw.Verification) -> str:
    pictures = _Pictures(embeddings, context.detector)
    mated = folds.mated.ravel()
    first, second = folds.first.ravel()[mated], folds.second.ravel()[mated]
    similarities = result.similarities.ravel()[mated]
    alike = [
        Seen(int(first[at]), float(similarities[at]), int(second[at]), f"{similarities[at]:.3f}")
        for at in np.argsort(similarities)[:SHOWN]
    ]
    impostors = result.impostors
    different: dict[tuple[int, int], Seen] = {}
    labels = embeddings.album.labels
    for one, other, similarity in zip(impostors.first, impostors.second, impostors.similarities, strict=True):
        two = int(labels[one]), int(labels[other])
        different.setdefault(two, Seen(int(one), float(similarity), int(other), f"{similarity:.3f}"))
        if len(different) == SHOWN:
            break
    return page.section(
        "The hardest pairs",
        "<h3>One person, least alike</h3>",
        _shown(alike, pictures, pictures, ("first", "second")),
        "<h3>Two people, most alike</h3>",
        page.paragraph(
            "Of all pairs in the folder, each two people once. Wrong labels show here first.", "soft"
        ),
        _shown(different.values(), pictures, pictures, ("first", "second")),
    )


def _lfw_conditions(embeddings: Embeddings, folds: lfw.Folds, result: lfw.Verification) -> str:
    threshold = statistics.mean(result.thresholds)
    wrong = (result.similarities >= threshold) != folds.mated
    rows = np.concatenate([folds.first.ravel(), folds.second.ravel()])
    return page.section(
        "What wrongly judged pairs have in common",
        page.paragraph(
            f"At {threshold:.3f}; each pair counts once for each of its photographs. Bins with few photographs "
            "say little."
        ),
        _bins(embeddings, rows, np.tile(wrong.ravel(), 2), "wrong %"),
    )


# Both


class _Pictures:
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


def _shown(found: Iterable[Seen], probes: _Pictures, others: _Pictures, roles: tuple[str, str]) -> str:
    shown = [
        page.pair((probes.shot(one.row, roles[0]), others.shot(one.other_row, roles[1])), one.note)
        for one in islice(found, SHOWN)
    ]
    return page.pairs(shown) if shown else page.paragraph("There were none.")


def _histogram(
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


def _bins(embeddings: Embeddings, rows: NDArray[np.int64], wrong: NDArray[np.bool_], what: str) -> str:
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


def _times(embeddings: Embeddings) -> str:
    rows = []
    for name, what in zip(STAGES_MS, ("find the face", "align it", "embed it"), strict=True):
        times = embeddings.measures[name][embeddings.found]
        if times.size:
            rows.append((what, *(f"{value:.2f}" for value in np.percentile(times, (50, 95)))))
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


def _choices(context: Context) -> str:
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
            "Trained by others, on other data (models/README.md); alignment points are those of their training.",
        ),
        (
            f"shares of the models, {', '.join(f'{weight:g}' for weight in spec.weights)}",
            "Taken from a prototype that was measured on LFW, so that LFW's own figures may flatter them a little.",
        ),
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


def _about(context: Context, probes: Embeddings, templates: Embeddings) -> str:
    spec = context.spec
    models = [(model.key, f"{model.file}, sha256 {model.sha256}") for model in (spec.detector, *spec.models)]
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
