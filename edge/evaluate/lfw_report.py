"""The HTML report of `evaluate lfw`: curves, the hardest pairs, and what wrongly judged pairs have in common."""

from __future__ import annotations

import statistics

import numpy as np
from numpy.typing import NDArray

from edge.evaluate import lfw, page, plots
from edge.evaluate.dataset import Embeddings
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


def lfw_report(
    context: Context, embeddings: Embeddings, probes: Embeddings, folds: lfw.Folds, result: lfw.Verification
) -> str:
    """The page for `evaluate lfw`; the second photograph of each pair is the probes'."""
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
            histogram(
                ("one person", mated),
                ("two people", non_mated),
                [plots.Mark(f"threshold {threshold:.3f}", threshold)],
                "View 2's pairs; where the two areas overlap, no threshold is right for both.",
            ),
        ),
        _lfw_pairs(context, embeddings, probes, folds, result),
        _lfw_conditions(embeddings, probes, folds, result),
        times(probes),
        choices(context),
        about(context, probes, embeddings),
    ]
    return page.page(title, below(context, probes), body)


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


def _lfw_pairs(
    context: Context, embeddings: Embeddings, probes: Embeddings, folds: lfw.Folds, result: lfw.Verification
) -> str:
    pictures = Pictures(embeddings, context.detector), Pictures(probes, context.detector)
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
        shown(alike, *pictures, ("first", "second")),
        "<h3>Two people, most alike</h3>",
        page.paragraph(
            "Of all pairs in the folder, each two people once. Wrong labels show here first.", "soft"
        ),
        shown(different.values(), *pictures, ("first", "second")),
    )


def _lfw_conditions(
    embeddings: Embeddings, probes: Embeddings, folds: lfw.Folds, result: lfw.Verification
) -> str:
    threshold = statistics.mean(result.thresholds)
    wrong = (result.similarities >= threshold) != folds.mated
    both = embeddings is probes
    rows = np.concatenate([folds.first.ravel(), folds.second.ravel()]) if both else folds.second.ravel()
    counted = (
        "for each of its photographs" if both else f"for its second photograph, with {probes.degradation}"
    )
    return page.section(
        "What wrongly judged pairs have in common",
        page.paragraph(
            f"At {threshold:.3f}; each pair counts once {counted}. Bins with few photographs say little."
        ),
        bins(probes, rows, np.tile(wrong.ravel(), 2 if both else 1), "wrong %"),
    )
