"""What calibrating a gallery is worth, measured on a labelled folder.

Who is enrolled, who is a stranger and what is a probe are those of `edge.evaluate.openset`, with
three photographs a reference. Each gallery is then judged four times:

- `shipped`: the models' threshold for so many enrolled;
- `general`: the threshold that the gallery's own people ask for (`edge.evaluate.site`);
- `raised`: the same, and more for those who resemble somebody who is enrolled;
- `known`: the same, and more for those whom a stranger resembles who passed at `general`, by that
  stranger's first three photographs: as after `hadir-provision calibrate --strangers` with everybody
  whom the door once took for an employee.

So that all four compare, strangers' probes begin after those three photographs, and
strangers with no further photograph are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
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
"""Photographs of a template, people enrolled, frames of a probe: the shipped thresholds' own, and what LFW has
strangers for beside them."""

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
    probes = seen.fused(TEMPLATES, cell.frames)
    by_way: dict[str, list[Rates]] = {way: [] for way in WAYS}
    raised: dict[str, list[int]] = {way: [] for way in WAYS}
    strangers = []
    for seed in seeds:
        eligible = np.flatnonzero(seen.sizes >= TEMPLATES + cell.frames)
        people = np.random.default_rng(seed).permutation(eligible)[: cell.enrolled]
        references = enrolled.references(people, TEMPLATES)
        compared = _compare(references, probes, people)
        needed = needed_similarities(references, shipped, fpir_target)
        passed = compared.strangers_passing(needed["general"])
        needed["known"] = needed_knowing(
            references, enrolled.references(passed, TEMPLATES), needed["general"]
        )
        for way, similarities in needed.items():
            by_way[way].append(compared.rates(similarities))
            raised[way].append(int(np.sum(similarities > similarities.min())))
        strangers.append(len(compared.strangers))
    return Trials(
        cell,
        {way: tuple(rates) for way, rates in by_way.items()},
        {way: statistics.mean(counts) for way, counts in raised.items()},
        statistics.mean(strangers),
    )


def needed_similarities(references: Fused, shipped: Thresholds, fpir_target: float) -> dict[str, Needed]:
    """The similarity that each reference needs, by way of judging; all but `known`."""
    count = len(references.owners)
    general = site_thresholds(references.vectors, shipped, fpir_target).at(count, fpir_target)
    return {
        "shipped": np.full(count, shipped.at(count, fpir_target), np.float32),
        "general": np.full(count, general, np.float32),
        "raised": _raised(references, general, []),
    }


def needed_knowing(references: Fused, strangers: Fused, general: Needed) -> Needed:
    """The same where these strangers are known."""
    return _raised(references, float(general.max()), [strangers.vectors])


def _raised(references: Fused, general: float, strangers: Sequence[NDArray[np.float32]]) -> Needed:
    people = tuple(str(owner) for owner in references.owners)
    raised = raised_thresholds(Gallery(1, "", people, references.vectors), general, strangers)
    return np.array([max(general, raised.get(person, general)) for person in people], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Everything of one seed that does not depend on what is needed."""

    mine: NDArray[np.float32]
    """(mated probes,): to the own reference."""
    rivals: NDArray[np.float32]
    """(mated probes,): to the most similar reference of anybody else."""
    place: NDArray[np.int64]
    """(mated probes,): the own reference's number."""
    strangers: NDArray[np.float32]
    """(strangers' probes,): to the most similar reference."""
    taken_for: NDArray[np.int64]
    """(strangers' probes,): its number."""
    owners: NDArray[np.int64]
    """(strangers' probes,): whose they are."""

    def rates(self, needed: Needed) -> Rates:
        found = (self.mine > self.rivals) & (self.mine >= needed[self.place])
        passed = self.strangers >= needed[self.taken_for]
        return Rates(fnir=100 * float(np.mean(~found)), fpir=100 * float(np.mean(passed)))

    def strangers_passing(self, needed: Needed) -> NDArray[np.int64]:
        """The people of whom a probe passes."""
        return np.unique(self.owners[self.strangers >= needed[self.taken_for]])


def _compare(references: Fused, probes: Fused, people: NDArray[np.int64]) -> Compared:
    mated = probes.of(people)
    strangers = probes.of(np.setdiff1d(probes.owners, people))
    similarities, foreign = compare(mated, references), compare(strangers, references)
    own = mated.owners[:, np.newaxis] == references.owners
    return Compared(
        mine=similarities[own],
        rivals=np.where(own, np.float32(NO_SIMILARITY), similarities).max(axis=1),
        place=own.argmax(axis=1),
        strangers=foreign.max(axis=1),
        taken_for=foreign.argmax(axis=1),
        owners=strangers.owners,
    )


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
    "somebody enrolled, and with more for whom a stranger resembles who passed; means of ten seeds.\n"
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
