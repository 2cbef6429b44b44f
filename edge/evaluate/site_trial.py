"""What calibrating a gallery is worth, measured on a labelled folder.

Who is enrolled, who is a stranger and what is a probe are those of `edge.evaluate.openset`, with
three photographs a reference. Each gallery is then judged four times:

- `shipped`: the models' threshold for so many enrolled;
- `general`: the threshold that the gallery's own people ask for (`edge.evaluate.site`);
- `raised`: the same, and more for those who resemble somebody who is enrolled;
- `known`: the same, and more for those who resemble a stranger whose first three photographs
  are known, as after `hadir-provision calibrate --strangers`.

So that all four compare, strangers' probes begin after those three photographs, and
strangers with no further photograph are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.evaluate.dataset import NO_SIMILARITY
from edge.evaluate.figures import Figure
from edge.evaluate.openset import SEEDS, Cell, Fused, Runs, compare
from edge.evaluate.site import MIN_PEOPLE, raised_thresholds, site_thresholds
from edge.recognition.gallery import Gallery
from edge.recognition.thresholds import Thresholds

TEMPLATES = 3

SIZES = (50, 100, 200)
FRAMES = (1, 3, 5)

WAYS = ("shipped", "general", "raised", "known")

Needed = NDArray[np.float32]
"""(enrolled,): the similarity that each needs."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one gallery at one way of judging, in percent."""

    fnir: float
    """Of mated probes."""
    fpir: float
    """Of strangers' probes."""
    fnir_of_raised: float | None
    """Of mated probes of those who need more than the others; None where nobody does."""


@dataclass(frozen=True, slots=True)
class Trials:
    """A cell over all seeds."""

    cell: Cell
    by_way: dict[str, tuple[Rates, ...]]
    raised: dict[str, float]
    """How many need more than the general threshold, mean of the seeds, by way."""
    strangers: float
    """Strangers' probes, mean of the seeds."""


def run_trials(
    seen: Runs,
    enrolled: Runs,
    shipped: Thresholds,
    fpir_target: float,
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Trials]:
    """Every cell that the data can fill, one after the other."""
    for frames in FRAMES:
        eligible = np.flatnonzero(seen.sizes >= TEMPLATES + frames)
        for size in sizes:
            if MIN_PEOPLE <= size < len(eligible):
                cell = Cell(size, TEMPLATES, frames)
                yield _trials(seen, enrolled, shipped, fpir_target, cell, seeds)


def _trials(
    seen: Runs, enrolled: Runs, shipped: Thresholds, fpir_target: float, cell: Cell, seeds: Sequence[int]
) -> Trials:
    by_way: dict[str, list[Rates]] = {way: [] for way in WAYS}
    raised: dict[str, list[int]] = {way: [] for way in WAYS}
    strangers = []
    for seed in seeds:
        eligible = np.flatnonzero(seen.sizes >= TEMPLATES + cell.frames)
        people = np.random.default_rng(seed).permutation(eligible)[: cell.enrolled]
        rest = np.setdiff1d(np.arange(len(seen.sizes)), people)
        references = enrolled.first(people, TEMPLATES)
        known = seen.first(rest, TEMPLATES)
        judge = _judge(references, seen.fused(TEMPLATES, cell.frames), people, rest)
        strangers.append(int(np.isin(seen.fused(TEMPLATES, cell.frames).owners, rest).sum()))
        for way, needed in needed_similarities(references, known, shipped, fpir_target).items():
            by_way[way].append(judge(needed))
            raised[way].append(int(np.sum(needed > needed.min())))
    return Trials(
        cell,
        {way: tuple(rates) for way, rates in by_way.items()},
        {way: statistics.mean(counts) for way, counts in raised.items()},
        statistics.mean(strangers),
    )


def needed_similarities(
    references: Fused, known: Fused, shipped: Thresholds, fpir_target: float
) -> dict[str, Needed]:
    """The similarity that each reference needs, by way of judging."""
    people = tuple(str(owner) for owner in references.owners)
    gallery = Gallery(1, "", people, references.vectors)
    general = site_thresholds(references.vectors, shipped, fpir_target).at(len(people), fpir_target)
    bars = {
        "shipped": (shipped.at(len(people), fpir_target), {}),
        "general": (general, {}),
        "raised": (general, raised_thresholds(gallery, general)),
        "known": (general, raised_thresholds(gallery, general, [known.vectors])),
    }
    return {
        way: np.array([max(least, raised.get(person, least)) for person in people], np.float32)
        for way, (least, raised) in bars.items()
    }


def _judge(
    references: Fused, probes: Fused, people: NDArray[np.int64], rest: NDArray[np.int64]
) -> Callable[[Needed], Rates]:
    """Compares once; what it gives says the rates for any similarities that are needed."""
    mated, strangers = probes.of(people), probes.of(rest)
    similarities = compare(mated, references)
    own = mated.owners[:, np.newaxis] == references.owners
    mine = similarities[own]
    rivals = np.where(own, np.float32(NO_SIMILARITY), similarities).max(axis=1)
    place = own.argmax(axis=1)
    foreign = compare(strangers, references)
    taken_for = foreign.argmax(axis=1)
    nearest = foreign.max(axis=1)

    def rates(needed: Needed) -> Rates:
        missed = ~((mine > rivals) & (mine >= needed[place]))
        of_raised = missed[needed[place] > needed.min()]
        return Rates(
            fnir=100 * float(missed.mean()),
            fpir=100 * float(np.mean(nearest >= needed[taken_for])),
            fnir_of_raised=100 * float(of_raised.mean()) if len(of_raised) else None,
        )

    return rates


def figures(trials: Sequence[Trials]) -> dict[str, Figure]:
    """For `--json`: percent, one value a seed."""
    measured = {}
    for each in trials:
        for way, rates in each.by_way.items():
            for name in ("fnir", "fpir"):
                values = tuple(getattr(rate, name) for rate in rates)
                measured[f"{name}_{way}_{each.cell}"] = Figure("%", values, average="mean")
    return measured


HEADING = (
    "FNIR and FPIR in percent at the models' threshold, at the gallery's own, with more for those who resemble\n"
    "somebody enrolled, and with more for those who resemble a known stranger; means of ten seeds.\n"
    f"{'enrolled':>8} {'frames':>6}"
    + "".join(f" {way + ': FNIR':>14} {'FPIR':>6}" for way in WAYS)
    + f" {'raised':>7} {'known':>6} {'strangers':>9}"
)


def line(trials: Trials) -> str:
    """One cell for people, under HEADING."""
    means = [
        (statistics.mean(rate.fnir for rate in rates), statistics.mean(rate.fpir for rate in rates))
        for rates in trials.by_way.values()
    ]
    return (
        f"{trials.cell.enrolled:>8} {trials.cell.frames:>6}"
        + "".join(f" {fnir:>14.2f} {fpir:>6.2f}" for fnir, fpir in means)
        + f" {trials.raised['raised']:>7.1f} {trials.raised['known']:>6.1f} {trials.strangers:>9,.0f}"
    )
