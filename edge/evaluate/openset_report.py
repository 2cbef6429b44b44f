"""The HTML report of `evaluate openset`: who was missed, who was taken for somebody, and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from edge.evaluate import page, plots
from edge.evaluate.dataset import NO_SIMILARITY, Embeddings
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
from edge.evaluate.report import (
    CURVE_POINTS,
    SHOWN,
    Context,
    Pictures,
    Seen,
    about,
    below,
    bins,
    choices,
    histogram,
    shown,
    times,
)

LIKE_ENROLLED, LIKE_TEMPLATES = 200, 3
"""The cell that is looked into is the one nearest to this, with one frame, so that each miss is one photograph."""

SEEN_AS = {
    "door": "as a door camera sees them",
    "small": "made small",
    "scarf": "in headscarves",
    "mask": "in masks",
    "glasses": "in glasses",
}


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
    body += [times(probes), choices(context), about(context, probes, templates)]
    return page.page(title, below(context, probes), body)


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
        "FNIR % at rank 1",
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
            rate_text(outcome.rank_1_fnir, outcome.rank_1_interval),
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
            "FNIR: the share of probes of enrolled people that are not ranked first above the threshold, at rank 1 "
            "without one. FPIR: the share of strangers' probes that pass it. Rates and counts are means of ten draws "
            "of who is enrolled. A dash: that rate would be less than one stranger. Shipped: the threshold that the "
            "daemon takes for so many enrolled."
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
    pictures = Pictures(probes, context.detector), Pictures(templates, context.detector)
    mated, strangers = (
        np.concatenate([getattr(trial, kind) for trial in trials]) for kind in ("mated", "strangers")
    )
    marks = [plots.Mark(f"shipped threshold {shipped:.3f}", shipped)]
    return [
        page.section("Misses against strangers who pass", _det(seen, enrolled, cell)),
        page.section(
            "How alike people look to their own template, and strangers to anybody's",
            histogram(
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
            shown(_worst_misses(probes, draws, trials, shipped), *pictures, ("at the door", "enrolled")),
        ),
        page.section(
            "The worst false accepts",
            page.paragraph(
                "Strangers who looked most like somebody enrolled, each two people once. Above "
                f"{shipped:.3f} they would have been taken for that person in a single frame."
            ),
            shown(_worst_strangers(probes, draws, trials, shipped), *pictures, ("stranger", "most like")),
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
        drawable = [point for point in points if point[1] > 0]
        label = _counted(frames, "frame") + ("" if drawable else ": nobody missed")
        series.append(plots.Series(label, drawable, style))
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
        bins(probes, rows, missed, "missed %"),
    )
