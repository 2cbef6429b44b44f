"""The similarities that keep strangers out, by number enrolled: what the manifest's thresholds are made of.

For N enrolled, the threshold is the lowest similarity at which at most 0.3 % of strangers'
probes pass as any of the N. It must hold for whatever way people were enrolled and seen,
so it is the highest of four measurements: references of one and of three photographs,
probes of one and of three frames. Means are the stricter case: averaging takes the noise
from both sides, and two people who look alike come closer.

People are drawn anew a hundred times (numpy's `default_rng`, seeds 0 to 99): N of those
with enough photographs are enrolled, everybody else is a stranger with *one* probe, the
first photographs. So nobody weighs more than another: LFW has 530 photographs of one
man, and who happens to look like him would decide the threshold otherwise. The strangers'
similarities of all draws are pooled.

Where the folder has LFW's pairs files, the people of View 1, which is there to tune on,
and those whom View 2 does not use choose the thresholds; View 1 people who are not in
View 2 would be 630 with 698 photographs, too few for references or probes of three. The
people who are in View 2 only have chosen nothing, and the rate that really passes is
measured on them. Without pairs files everybody chooses, and nobody is left to check.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.evaluate.dataset import VIEW_2, Album, people_of_pairs
from edge.evaluate.figures import Figure, one
from edge.evaluate.openset import Cell, Fused, Runs, compare
from edge.evaluate.progress import Progress
from edge.evaluate.rates import Similarities, admitted, passing, threshold_admitting

FPIR_TARGET = 0.003
"""The share of strangers that may pass; `decide.fpir_target` of the daemon."""

SIZES = (10, 30, 100, 300, 1000)
"""People enrolled: the rows of the manifest, two to each power of ten."""

WAYS = ((1, 1), (1, 3), (3, 1), (3, 3))
"""Photographs of a reference, frames of a probe."""

SEEDS = range(100)
"""Draws of who is enrolled. Set, not measured."""

STEPS = 10_000
"""Thresholds are rounded up to a ten-thousandth."""

VIEW_1 = ("pairsDevTrain.txt", "pairsDevTest.txt")

People = NDArray[np.int64]
"""Numbers of people, in the order of the album's."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who chooses the thresholds, and who checks them."""

    choosing: People
    checking: People


@dataclass(frozen=True, slots=True)
class Measurement:
    """The threshold of one cell, or why it cannot be measured."""

    cell: Cell
    strangers: int
    """In the draw that has the fewest: how many are left with enough photographs can differ."""
    threshold: float | None
    """None where the target admits less than one stranger a draw."""


@dataclass(frozen=True, slots=True)
class Check:
    """What passes among people who did not choose the threshold."""

    cell: Cell
    strangers: int
    """In the draw that has the fewest."""
    fpir: float
    """Percent. Where strangers are few it is coarse: one person who looks like another moves it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The thresholds and what they rest on."""

    measurements: tuple[Measurement, ...]
    thresholds: dict[int, float]
    """By number enrolled, never falling."""
    checks: tuple[Check, ...]


def assign_roles(album: Album, folder: Path) -> Roles:
    """Divide the people as LFW's views do. Raises InputError for a pairs file missing or malformed."""
    everyone = np.arange(len(album.people))
    if not any((folder / name).exists() for name in (*VIEW_1, VIEW_2)):
        return Roles(everyone, everyone[:0])
    view_1, view_2 = people_of_pairs([folder / name for name in VIEW_1]), people_of_pairs([folder / VIEW_2])
    checking = [person in view_2 and person not in view_1 for person in album.people]
    return Roles(everyone[np.logical_not(checking)], everyone[checking])


def calibrate(runs: Runs, roles: Roles, seeds: Sequence[int] = SEEDS) -> Calibration:
    """Measure the thresholds, and check them. Raises InputError where there are too few people."""
    cells = [Cell(size, templates, frames) for size in SIZES for templates, frames in WAYS]
    with Progress("measuring", len(cells)) as progress:
        measurements = []
        for cell in cells:
            measurements.append(_measure(runs, roles.choosing, cell, seeds))
            progress.step()
    thresholds = combine(measurements)
    if not thresholds:
        least = math.ceil(1 / FPIR_TARGET) + SIZES[0]
        raise InputError(
            f"only {len(roles.choosing):,} people: thresholds for an FPIR of {FPIR_TARGET:g} need at least {least}"
        )
    checks = [_check(runs, roles.checking, cell, thresholds, seeds) for cell in cells]
    return Calibration(tuple(measurements), thresholds, tuple(check for check in checks if check is not None))


def combine(measurements: Sequence[Measurement]) -> dict[int, float]:
    """The highest threshold of each size, rounded up, never falling as sizes grow.

    A size at which not every way can be measured that could be at the smallest would come out
    too low, the strictest ways needing the most photographs. There the threshold rises from
    the one before by at least the largest step of any way that was measured at both. On
    LFW this foretells the measured thresholds for 300 from those for 100 to -0.001, +0.009
    and +0.005 (facenet+sface, sface, facenet).
    """
    by_size: dict[int, dict[tuple[int, int], float]] = {}
    for each in measurements:
        if each.threshold is not None:
            way = each.cell.templates, each.cell.frames
            by_size.setdefault(each.cell.enrolled, {})[way] = each.threshold
    thresholds: dict[int, float] = {}
    sizes = sorted(by_size)
    for before, size in zip([None, *sizes], sizes, strict=False):
        found = by_size[size]
        threshold = max(found.values())
        if before is not None:
            if found.keys() != by_size[sizes[0]].keys():
                step = max(found[way] - by_size[before][way] for way in found)
                threshold = max(threshold, thresholds[before] + step)
            threshold = max(threshold, thresholds[before])
        thresholds[size] = _rounded_up(threshold)
    return thresholds


def _rounded_up(similarity: float) -> float:
    return math.ceil(round(similarity * STEPS, 6)) / STEPS  # 0.4501 * 10,000 is not quite 4,501


def _measure(runs: Runs, people: People, cell: Cell, seeds: Sequence[int]) -> Measurement:
    draws = _draws(runs, people, cell, seeds)
    strangers = _fewest(draws)
    if admitted(strangers, FPIR_TARGET) < 1:
        return Measurement(cell, strangers, None)
    pooled = np.concatenate(draws)
    return Measurement(cell, strangers, threshold_admitting(pooled, admitted(len(pooled), FPIR_TARGET)))


def _check(
    runs: Runs, people: People, cell: Cell, thresholds: dict[int, float], seeds: Sequence[int]
) -> Check | None:
    draws = _draws(runs, people, cell, seeds) if cell.enrolled in thresholds else []
    strangers = _fewest(draws)
    if strangers == 0:
        return None
    return Check(cell, strangers, 100 * passing(np.concatenate(draws), thresholds[cell.enrolled]))


def _fewest(draws: Sequence[Similarities]) -> int:
    return min((len(draw) for draw in draws), default=0)


def _draws(runs: Runs, people: People, cell: Cell, seeds: Sequence[int]) -> list[Similarities]:
    """Of each seed the strangers; none where people lack."""
    if np.sum(runs.sizes[people] >= cell.templates) < cell.enrolled:
        return []
    return [draw_strangers(runs, people, cell, seed) for seed in seeds]


def draw_references(runs: Runs, people: People, cell: Cell, seed: int) -> Fused:
    """Of those who are enrolled in a draw: of the people with enough photographs as many as the cell says."""
    eligible = people[runs.sizes[people] >= cell.templates]
    enrolled = np.random.default_rng(seed).permutation(eligible)[: cell.enrolled]
    return runs.references(enrolled, cell.templates)


def draw_strangers(runs: Runs, people: People, cell: Cell, seed: int) -> Similarities:
    """(strangers,): in a draw the similarity of everybody else's one probe to the most similar reference."""
    references = draw_references(runs, people, cell, seed)
    strangers = runs.first(np.setdiff1d(people, references.owners), cell.frames)
    return np.asarray(compare(strangers, references).max(axis=1), np.float32)


def figures(result: Calibration) -> dict[str, Figure]:
    """For `--json`."""
    measured = {f"threshold_n{size}": one(value, "similarity") for size, value in result.thresholds.items()}
    return measured | {f"checked_fpir_{check.cell}": one(check.fpir, "%") for check in result.checks}


def report(result: Calibration, roles: Roles, embedder: str, folder: str) -> str:
    """For people: what was measured and checked, then the table for the manifest."""
    checked = [
        f"checked on the {len(roles.checking):,} people who are in View 2 only:",
        f"{'enrolled':>8} {'templates':>9} {'frames':>6} {'FPIR %':>10} {'strangers':>9}",
        *(f"{_cell(each.cell)} {each.fpir:>10.3f} {each.strangers:>9,}" for each in result.checks),
    ]
    return "\n".join(
        [
            f"chosen by {len(roles.choosing):,} people, {len(SEEDS)} draws, at most {100 * FPIR_TARGET:g} % "
            "of strangers pass:",
            f"{'enrolled':>8} {'templates':>9} {'frames':>6} {'similarity':>10} {'strangers':>9}",
            *(_measurement_line(each) for each in result.measurements),
            *(checked if result.checks else ["not checked: nobody was left out of the choice"]),
            "",
            f'[embedders."{embedder}".thresholds]',
            f"fpir_target = {FPIR_TARGET:g}",
            f"enrolled = {list(result.thresholds)}",
            f"similarity = {list(result.thresholds.values())}",
            f'measured_by = "hadir-edge evaluate thresholds --embedder {embedder} {folder}"',
        ]
    )


def _measurement_line(each: Measurement) -> str:
    value = "-" if each.threshold is None else f"{each.threshold:.4f}"
    note = "  too few people" if each.threshold is None else ""
    return f"{_cell(each.cell)} {value:>10} {each.strangers:>9,}{note}"


def _cell(cell: Cell) -> str:
    return f"{cell.enrolled:>8,} {cell.templates:>9} {cell.frames:>6}"
