"""Open-set identification: who of N enrolled people is this, or nobody? (ISO/IEC 19795-1)

The protocol, fixed so that figures compare: for each seed 0 to 9, numpy's
`default_rng(seed)` permutes the sorted list of the people with at least
templates + frames photographs, and the first N are enrolled. A reference is the fused
(normalised mean) vector of a person's lowest-numbered `templates` photographs; each
further disjoint run of `frames` photographs, fused, is a mated probe. Every such run of
everyone who is not enrolled, from their first photograph on, is a stranger's probe. The
threshold lets at most the given share of strangers' probes pass (FPIR); FNIR is the share
of mated probes whose own reference is not ranked first, or not above the threshold. A tie
for the first rank is a miss: the daemon calls it ambiguous.

FNIR is the mean of the ten seeds; so is each count of probes. An FPIR that admits less
than one stranger's probe is not reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.evaluate.dataset import NO_SIMILARITY, Embeddings
from edge.evaluate.figures import Figure, one
from edge.evaluate.rates import Similarities, admitted, passing, threshold_admitting
from edge.recognition.match import fuse

SEEDS = range(10)
FPIRS = (5.0, 1.0, 0.3)
"""Percent; the last is the daemon's target."""

ENROLLED = (100, 200, 500, 1000)
TEMPLATES = (1, 3)
FRAMES = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the protocol."""

    enrolled: int
    templates: int
    """Photographs fused into a reference."""
    frames: int
    """Photographs fused into a probe."""

    def __str__(self) -> str:
        return f"n{self.enrolled}_t{self.templates}_f{self.frames}"


CELLS = tuple(
    Cell(enrolled, templates, frames) for frames in FRAMES for templates in TEMPLATES for enrolled in ENROLLED
)


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Vectors of runs of photographs."""

    vectors: NDArray[np.float32]
    """(runs, dimensions): unit length, or zeros where no photograph of the run shows a face."""
    owners: NDArray[np.int64]
    """(runs,): the number of the person, in the order of the album's people."""

    def of(self, people: NDArray[np.int64]) -> Fused:
        """Only the runs of these people."""
        chosen = np.isin(self.owners, people)
        return Fused(self.vectors[chosen], self.owners[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The similarities of one seed, from which every rate follows."""

    mated: Similarities
    """(probes,): of each mated probe to its own reference."""
    rivals: Similarities
    """(probes,): of the same probe to the most similar reference of anybody else."""
    strangers: Similarities
    """(strangers' probes,): to the most similar reference."""

    def fnir_at(self, threshold: float) -> float:
        """Percent of mated probes whose own reference is not ranked first and above the threshold."""
        hits = (self.mated > self.rivals) & (self.mated >= threshold)
        return 100 * float(np.mean(~hits))

    def fpir_at(self, threshold: float) -> float:
        """Percent of strangers' probes that pass."""
        return 100 * passing(self.strangers, threshold)

    def fnir(self, fpir: float) -> float | None:
        """FNIR in percent at an FPIR in percent; None where that admits less than one stranger's probe."""
        count = admitted(len(self.strangers), fpir) // 100
        return None if count < 1 else self.fnir_at(threshold_admitting(self.strangers, count))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cell over all seeds, or why the data cannot fill it."""

    cell: Cell
    fnir: Mapping[float, tuple[float, ...]]
    """By FPIR, both in percent: one value a seed; left out where an FPIR is not reported."""
    shipped_fnir: tuple[float, ...] = ()
    """At the manifest's threshold for so many enrolled; percent, one value a seed."""
    shipped_fpir: tuple[float, ...] = ()
    probes: float = 0
    """Mated probes, mean of the seeds."""
    strangers: float = 0
    """Strangers' probes, mean of the seeds."""
    unfilled: str = ""


def identify(
    embeddings: Embeddings,
    threshold: Callable[[int], float],
    cells: Sequence[Cell] = CELLS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Outcome]:
    """Run the protocol, one cell after the other; `threshold` is the manifest's, by number enrolled."""
    runs = Runs(embeddings)
    for cell in cells:
        reason = _cannot_fill(runs, cell)
        if reason:
            yield Outcome(cell, {}, unfilled=reason)
            continue
        trials = [runs.trial(cell, seed) for seed in seeds]
        shipped = threshold(cell.enrolled)
        yield Outcome(
            cell,
            _rates(trials),
            shipped_fnir=tuple(trial.fnir_at(shipped) for trial in trials),
            shipped_fpir=tuple(trial.fpir_at(shipped) for trial in trials),
            probes=statistics.mean(len(trial.mated) for trial in trials),
            strangers=statistics.mean(len(trial.strangers) for trial in trials),
        )


class Runs:
    """Runs of an album's photographs, fused; kept, since seeds and cells share most of them."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._rows = tuple(embeddings.album.people.values())
        self.sizes = np.array([len(rows) for rows in self._rows])
        """(people,): photographs of each."""
        self.fused = lru_cache(maxsize=None)(self._fused)

    def trial(self, cell: Cell, seed: int) -> Trial:
        """One seed of a cell that the data can fill."""
        eligible = np.flatnonzero(self.sizes >= cell.templates + cell.frames)
        enrolled = np.random.default_rng(seed).permutation(eligible)[: cell.enrolled]
        strangers = np.setdiff1d(np.arange(len(self.sizes)), enrolled)
        references = self.first(enrolled, cell.templates)
        probes = self.fused(cell.templates, cell.frames).of(enrolled)
        similarities = compare(probes, references)
        own = probes.owners[:, np.newaxis] == references.owners
        return Trial(
            mated=similarities[own],
            rivals=np.where(own, np.float32(NO_SIMILARITY), similarities).max(axis=1),
            strangers=compare(self.fused(0, cell.frames).of(strangers), references).max(axis=1),
        )

    def first(self, people: NDArray[np.int64], photographs: int) -> Fused:
        """The first run of each of these people; whoever has fewer photographs is left out."""
        everyone = self.fused(0, photographs)
        first = np.unique(everyone.owners, return_index=True)[1]
        return Fused(everyone.vectors[first], everyone.owners[first]).of(people)

    def _fused(self, skip: int, frames: int) -> Fused:
        """Each person's disjoint runs of `frames` photographs after the first `skip`; a shorter rest is left."""
        runs = [
            (owner, rows[at : at + frames])
            for owner, rows in enumerate(self._rows)
            for at in range(skip, len(rows) - frames + 1, frames)
        ]
        vectors = [self._fuse(rows) for _, rows in runs]
        shape = (len(runs), self._embeddings.vectors.shape[1])
        return Fused(
            np.array(vectors, np.float32).reshape(shape), np.array([owner for owner, _ in runs], np.int64)
        )

    def _fuse(self, rows: tuple[int, ...]) -> NDArray[np.float32]:
        found = [self._embeddings.vectors[row] for row in rows if self._embeddings.found[row]]
        return fuse(found) if found else np.zeros(self._embeddings.vectors.shape[1], np.float32)


def compare(probes: Fused, references: Fused) -> NDArray[np.float32]:
    """(probes, references); `NO_SIMILARITY` where either has no face."""
    similarities = probes.vectors @ references.vectors.T
    similarities[~probes.vectors.any(axis=1)] = NO_SIMILARITY
    similarities[:, ~references.vectors.any(axis=1)] = NO_SIMILARITY
    return similarities


def _cannot_fill(runs: Runs, cell: Cell) -> str:
    """Why the data have too few people for a cell; empty where they suffice."""
    needed = cell.templates + cell.frames
    eligible = int(np.sum(runs.sizes >= needed))
    if eligible < cell.enrolled:
        return f"only {eligible:,} people have {needed} photographs"
    if not np.sum(runs.sizes >= cell.frames) > cell.enrolled:
        return f"nobody with {cell.frames} photographs would be left as a stranger"
    return ""


def _rates(trials: Sequence[Trial]) -> dict[float, tuple[float, ...]]:
    rates = {}
    for fpir in FPIRS:
        values = [trial.fnir(fpir) for trial in trials]
        reported = tuple(value for value in values if value is not None)
        if len(reported) == len(trials):
            rates[fpir] = reported
    return rates


def figures(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """For `--json`: FNIR in percent, one value a seed, and the counts of probes behind it."""
    measured = {}
    for outcome in outcomes:
        for fpir, values in outcome.fnir.items():
            measured[f"fnir_at_fpir_{fpir:g}_{outcome.cell}"] = Figure("%", values, average="mean")
        if not outcome.unfilled:
            measured[f"fnir_at_threshold_{outcome.cell}"] = Figure("%", outcome.shipped_fnir, average="mean")
            measured[f"fpir_at_threshold_{outcome.cell}"] = Figure("%", outcome.shipped_fpir, average="mean")
            measured[f"probes_{outcome.cell}"] = one(outcome.probes, "mean of seeds")
            measured[f"strangers_{outcome.cell}"] = one(outcome.strangers, "mean of seeds")
    return measured


HEADING = (
    "FNIR in percent at three FPIRs, then FNIR and FPIR in percent at the threshold that the daemon takes\n"
    "from the manifest; means of ten seeds, as are the counts of probes\n"
    f"{'enrolled':>8} {'templates':>9} {'frames':>6}"
    + "".join(f" {f'{fpir:g} %':>8}" for fpir in FPIRS)
    + f" {'shipped: FNIR':>14} {'FPIR':>6} {'probes':>7} {'strangers':>9}"
)


def line(outcome: Outcome) -> str:
    """One cell for people, under HEADING; `-` stands for an FPIR of less than one stranger."""
    cell = outcome.cell
    begin = f"{cell.enrolled:>8,} {cell.templates:>9} {cell.frames:>6}"
    if outcome.unfilled:
        return f"{begin}  cannot be filled: {outcome.unfilled}"
    rates = [f"{statistics.mean(outcome.fnir[fpir]):.2f}" if fpir in outcome.fnir else "-" for fpir in FPIRS]
    shipped_fnir, shipped_fpir = statistics.mean(outcome.shipped_fnir), statistics.mean(outcome.shipped_fpir)
    return (
        begin
        + "".join(f" {rate:>8}" for rate in rates)
        + f" {shipped_fnir:>14.2f} {shipped_fpir:>6.2f}"
        + f" {outcome.probes:>7,.0f} {outcome.strangers:>9,.0f}"
    )
