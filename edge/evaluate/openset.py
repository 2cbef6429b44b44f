"""Open-set identification: who of N enrolled people is this, or nobody? (ISO/IEC 19795-1)

The protocol, fixed so that figures compare: for each seed 0 to 9, numpy's
`default_rng(seed)` permutes the sorted list of the people with at least
templates + frames photographs, and the first N are enrolled. A reference is the
template (`edge.recognition.match.template_of`) of a person's lowest-numbered `templates` photographs; each
further disjoint run of `frames` photographs, fused, is a mated probe. Every such run of
everyone who is not enrolled, from their first photograph on, is a stranger's probe. The
threshold lets at most the given share of strangers' probes pass (FPIR); FNIR is the share
of mated probes whose own reference is not ranked first, or not above the threshold. A tie
for the first rank is a miss: the daemon calls it ambiguous.

FNIR is the mean of the ten seeds; so is each count of probes. An FPIR that admits less
than one stranger's probe is not reported. Its interval draws people anew, the same ones in
all ten seeds: whose probes count how often, and with the strangers' probes the threshold.
Who is enrolled stays as each seed has it.

With `--degrade`, probes are degraded, the mated and the strangers', and references are not,
unless that is asked for as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.evaluate.bootstrap import Interval, Weights, draw_people, interval, none_among, reach_descending
from edge.evaluate.dataset import NO_SIMILARITY, Embeddings
from edge.evaluate.figures import Figure, one
from edge.evaluate.rates import Similarities, admitted, passing, threshold_admitting
from edge.recognition.match import fuse, template_of
from edge.records import Vector

SEEDS = range(10)
"""Draws of who is enrolled, whose mean is told. Set: how much people matter is told by the intervals, not by these."""

FEW = 5
"""With fewer people who were ever missed, or who ever passed, drawing anew does not show the whole spread. Reckoned:
a draw has none of k such people with a chance of exp(-k), one in 20 with three, and the interval then ends at zero."""

FPIRS = (5.0, 1.0, 0.3)
"""Percent; the last is the daemon's target."""

NO_THRESHOLD = NO_SIMILARITY - 1
"""Everybody passes: what is missed then is not ranked first (rank 1 of ISO/IEC 19795-1)."""

ENROLLED = (100, 200, 500, 1000)
TEMPLATES = (1, 3)
FRAMES = (1, 3, 5)
"""People enrolled, photographs of a template, frames of a probe: what sites have, and what LFW has people for."""


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


def cells(enrolled: Sequence[int]) -> tuple[Cell, ...]:
    """The protocol's templates and frames for these numbers enrolled."""
    return tuple(
        Cell(size, templates, frames) for frames in FRAMES for templates in TEMPLATES for size in enrolled
    )


CELLS = cells(ENROLLED)


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Vectors of runs of photographs."""

    vectors: NDArray[np.float32]
    """(runs, dimensions): unit length, or zeros where no photograph of the run shows a face."""
    owners: NDArray[np.int64]
    """(runs,): the number of the person, in the order of the album's people."""
    rows: NDArray[np.int64]
    """(runs, photographs): the album's rows that were fused."""

    def of(self, people: NDArray[np.int64]) -> Fused:
        """Only the runs of these people."""
        chosen = np.isin(self.owners, people)
        return Fused(self.vectors[chosen], self.owners[chosen], self.rows[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The similarities of one seed, from which every rate follows."""

    mated: Similarities
    """(probes,): of each mated probe to its own reference."""
    rivals: Similarities
    """(probes,): of the same probe to the most similar reference of anybody else."""
    strangers: Similarities
    """(strangers' probes,): to the most similar reference."""
    owners: NDArray[np.int64]
    """(probes,): the number of the person on each mated probe."""
    stranger_owners: NDArray[np.int64]

    def hits_at(self, threshold: float | Similarities) -> NDArray[np.bool_]:
        """(probes,): whose own reference is ranked first and above the threshold."""
        return np.asarray((self.mated > self.rivals) & (self.mated >= threshold))

    def missed_at(self, threshold: float) -> NDArray[np.int64]:
        """Whose probes are missed, once for each."""
        return self.owners[~self.hits_at(threshold)]

    def fnir_at(self, threshold: float) -> float:
        """Percent of mated probes whose own reference is not ranked first and above the threshold."""
        return 100 * float(np.mean(~self.hits_at(threshold)))

    def fpir_at(self, threshold: float) -> float:
        """Percent of strangers' probes that pass."""
        return 100 * passing(self.strangers, threshold)

    def fnir(self, fpir: float) -> float | None:
        """FNIR in percent at an FPIR in percent; None where that admits less than one stranger's probe."""
        threshold = self.threshold(fpir)
        return None if threshold is None else self.fnir_at(threshold)

    def threshold(self, fpir: float) -> float | None:
        """The lowest that at most this percentage of strangers' probes pass; None as for `fnir`."""
        count = admitted(len(self.strangers), fpir) // 100
        return None if count < 1 else threshold_admitting(self.strangers, count)

    def redrawn_fnir(self, fpir: float, weights: Weights) -> NDArray[np.float64]:
        """FNIR in percent of each draw of people, each at the threshold that its strangers give."""
        order = np.argsort(-self.strangers, kind="stable")
        probes = np.bincount(self.stranger_owners, minlength=weights.shape[1]).astype(np.float32)
        allowed = weights @ probes * (fpir / 100)
        keep = min(len(order), 64 + 2 * int(len(order) * fpir / 100))
        while True:
            strongest = order[:keep]
            passing_count = reach_descending(weights[:, self.stranger_owners[strongest]], allowed)
            if keep == len(order) or passing_count.max() < keep:
                break
            keep = min(len(order), 2 * keep)
        refused = self.strangers[strongest[np.minimum(passing_count, keep - 1)]]
        return self._redrawn(np.nextafter(refused, np.float32(np.inf)), weights)

    def redrawn_fnir_at(self, threshold: float, weights: Weights) -> NDArray[np.float64]:
        """The same at a threshold that was given."""
        return self._redrawn(np.full(len(weights), threshold, np.float32), weights)

    def redrawn_fpir_at(self, threshold: float, weights: Weights) -> NDArray[np.float64]:
        """FPIR in percent of each draw of people at a threshold that was given."""
        return _share(self.strangers >= threshold, self.stranger_owners, weights)

    def _redrawn(self, thresholds: Similarities, weights: Weights) -> NDArray[np.float64]:
        # A probe is found up to a certain threshold, so that sorting them by it answers all draws at once.
        found_up_to = np.where(self.mated > self.rivals, self.mated, np.float32(-np.inf))
        order = np.argsort(found_up_to, kind="stable")
        own = weights[:, self.owners[order]]
        missed = np.concatenate([np.zeros((len(own), 1)), np.cumsum(own, axis=1, dtype=np.float64)], axis=1)
        place = np.searchsorted(found_up_to[order], thresholds, side="left")
        with np.errstate(invalid="ignore"):  # nobody who is enrolled was drawn
            return np.asarray(100 * missed[np.arange(len(own)), place] / missed[:, -1], np.float64)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cell over all seeds, or why the data cannot fill it."""

    cell: Cell
    fnir: Mapping[float, tuple[float, ...]]
    """By FPIR, both in percent: one value a seed; left out where an FPIR is not reported."""
    shipped_fnir: tuple[float, ...] = ()
    """At the manifest's threshold for so many enrolled; percent, one value a seed."""
    shipped_fpir: tuple[float, ...] = ()
    intervals: Mapping[float, Interval] = field(default_factory=dict)
    """Of FNIR, by FPIR."""
    rank_1_fnir: tuple[float, ...] = ()
    """Without a threshold: whose own reference is not ranked first; percent, one value a seed."""
    rank_1_interval: Interval = (0.0, 0.0)
    shipped_fnir_interval: Interval = (0.0, 0.0)
    shipped_fpir_interval: Interval = (0.0, 0.0)
    probes: float = 0
    """Mated probes, mean of the seeds."""
    strangers: float = 0
    """Strangers' probes, mean of the seeds."""
    unfilled: str = ""


def identify(
    probes: Embeddings,
    threshold: Callable[[int], float],
    cells: Sequence[Cell] = CELLS,
    seeds: Sequence[int] = SEEDS,
    templates: Embeddings | None = None,
) -> Iterator[Outcome]:
    """Run the protocol, one cell after the other.

    Args:
        probes: the album as it is seen at the door.
        threshold: the manifest's, by number enrolled.
        cells: the settings to run.
        seeds: of the draws of who is enrolled.
        templates: the same album as it is enrolled; as the probes where it is left out.
    """
    seen = Runs(probes)
    enrolled = seen if templates is None else Runs(templates)
    weights = draw_people(len(probes.album.people))
    for cell in cells:
        reason = _cannot_fill(seen, cell)
        if reason:
            yield Outcome(cell, {}, unfilled=reason)
            continue
        trials = [run_trial(draw(seen, enrolled, cell, seed)) for seed in seeds]
        yield _outcome(cell, trials, threshold(cell.enrolled), weights)


def _outcome(cell: Cell, trials: Sequence[Trial], shipped: float, weights: Weights) -> Outcome:
    mated = len(np.unique(np.concatenate([trial.owners for trial in trials])))
    strangers = len(np.unique(np.concatenate([trial.stranger_owners for trial in trials])))
    rates = _rates(trials)
    within = {
        fpir: _interval(
            [trial.redrawn_fnir(fpir, weights) for trial in trials],
            [trial.missed_at(trial.threshold(fpir) or np.inf) for trial in trials],
            mated,
        )
        for fpir in rates
    }
    return Outcome(
        cell,
        rates,
        shipped_fnir=tuple(trial.fnir_at(shipped) for trial in trials),
        shipped_fpir=tuple(trial.fpir_at(shipped) for trial in trials),
        intervals=within,
        rank_1_fnir=tuple(trial.fnir_at(NO_THRESHOLD) for trial in trials),
        rank_1_interval=_interval(
            [trial.redrawn_fnir_at(NO_THRESHOLD, weights) for trial in trials],
            [trial.missed_at(NO_THRESHOLD) for trial in trials],
            mated,
        ),
        shipped_fnir_interval=_interval(
            [trial.redrawn_fnir_at(shipped, weights) for trial in trials],
            [trial.missed_at(shipped) for trial in trials],
            mated,
        ),
        shipped_fpir_interval=_interval(
            [trial.redrawn_fpir_at(shipped, weights) for trial in trials],
            [trial.stranger_owners[trial.strangers >= shipped] for trial in trials],
            strangers,
        ),
        probes=statistics.mean(len(trial.mated) for trial in trials),
        strangers=statistics.mean(len(trial.strangers) for trial in trials),
    )


def _interval(
    redrawn: Sequence[NDArray[np.float64]], cases: Sequence[NDArray[np.int64]], people: int
) -> Interval:
    """Of the mean of the seeds, in percent, from the draws and from whose probes were cases.

    Drawing anew from hardly anybody knows no spread; then the upper end is at least what may
    hide behind nobody at all.
    """
    low, high = interval(np.mean(redrawn, axis=0))
    if len(np.unique(np.concatenate(cases))) < FEW:
        high = max(high, 100 * none_among(people))
    return low, high


def _share(cases: NDArray[np.bool_], owners: NDArray[np.int64], weights: Weights) -> NDArray[np.float64]:
    """Percent of cases in each draw of people."""
    people = weights.shape[1]
    counted = np.bincount(owners, weights=cases, minlength=people)
    with np.errstate(invalid="ignore"):
        return np.asarray(
            100 * (weights @ counted) / (weights @ np.bincount(owners, minlength=people)), np.float64
        )


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Who takes which part in one seed of a cell."""

    references: Fused
    probes: Fused
    """Of those who are enrolled."""
    strangers: Fused


def draw(seen: Runs, enrolled: Runs, cell: Cell, seed: int) -> Draw:
    """One seed of a cell that the data can fill."""
    eligible = np.flatnonzero(seen.sizes >= cell.templates + cell.frames)
    people = np.random.default_rng(seed).permutation(eligible)[: cell.enrolled]
    return Draw(
        references=enrolled.references(people, cell.templates),
        probes=seen.fused(cell.templates, cell.frames).of(people),
        strangers=seen.fused(0, cell.frames).of(np.setdiff1d(np.arange(len(seen.sizes)), people)),
    )


def run_trial(drawn: Draw) -> Trial:
    """Compare every probe with every reference."""
    probes, strangers = drawn.probes, drawn.strangers
    similarities = compare(probes, drawn.references)
    own = probes.owners[:, np.newaxis] == drawn.references.owners
    return Trial(
        mated=similarities[own],
        rivals=np.where(own, np.float32(NO_SIMILARITY), similarities).max(axis=1),
        strangers=compare(strangers, drawn.references).max(axis=1),
        owners=probes.owners,
        stranger_owners=strangers.owners,
    )


class Runs:
    """Runs of an album's photographs, fused; kept, since seeds and cells share most of them."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._rows = tuple(embeddings.album.people.values())
        self.sizes = np.array([len(rows) for rows in self._rows])
        """(people,): photographs of each."""
        self.fused = lru_cache(maxsize=None)(self._fused)

    def first(self, people: NDArray[np.int64], photographs: int) -> Fused:
        """The first run of each of these people; whoever has fewer photographs is left out."""
        everyone = self.fused(0, photographs)
        first = np.unique(everyone.owners, return_index=True)[1]
        return Fused(everyone.vectors[first], everyone.owners[first], everyone.rows[first]).of(people)

    def references(self, people: NDArray[np.int64], photographs: int) -> Fused:
        """The templates of these people, of each one's first photographs; whoever has fewer is left out."""
        first = self.first(people, photographs)
        vectors = [self._fuse(rows, template_of) for rows in first.rows]
        return Fused(np.array(vectors, np.float32).reshape(first.vectors.shape), first.owners, first.rows)

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
            np.array(vectors, np.float32).reshape(shape),
            np.array([owner for owner, _ in runs], np.int64),
            np.array([rows for _, rows in runs], np.int64).reshape(len(runs), frames),
        )

    def _fuse(
        self, rows: Iterable[int], how: Callable[[Sequence[Vector]], Vector] = fuse
    ) -> NDArray[np.float32]:
        found = [self._embeddings.vectors[row] for row in rows if self._embeddings.found[row]]
        return how(found) if found else np.zeros(self._embeddings.vectors.shape[1], np.float32)


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
        who = {0: "nobody has", 1: "only one person has"}.get(eligible, f"only {eligible:,} people have")
        return f"{who} {needed} photographs"
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
        if outcome.unfilled:
            continue
        rates = {
            **{
                f"fnir_at_fpir_{at:g}": (values, outcome.intervals[at]) for at, values in outcome.fnir.items()
            },
            "fnir_at_rank_1": (outcome.rank_1_fnir, outcome.rank_1_interval),
            "fnir_at_threshold": (outcome.shipped_fnir, outcome.shipped_fnir_interval),
            "fpir_at_threshold": (outcome.shipped_fpir, outcome.shipped_fpir_interval),
        }
        for name, (values, within) in rates.items():
            measured[f"{name}_{outcome.cell}"] = Figure("%", values, average="mean", interval=within)
        measured[f"probes_{outcome.cell}"] = one(outcome.probes, "mean of seeds")
        measured[f"strangers_{outcome.cell}"] = one(outcome.strangers, "mean of seeds")
    return measured


RATE_WIDTH = 20
"""Of a column, in characters."""

HEADING = (
    "FNIR in percent at three FPIRs and at rank 1 (who is not ranked first, whatever the similarity), then FNIR and\n"
    "FPIR in percent at the threshold that the daemon takes from the manifest; means of ten seeds, as are the counts\n"
    "of probes. In brackets 95 % intervals over people.\n"
    f"{'enrolled':>8} {'templates':>9} {'frames':>6}"
    + "".join(f" {f'at {fpir:g} %':>{RATE_WIDTH}}" for fpir in FPIRS)
    + "".join(f" {name:>{RATE_WIDTH}}" for name in ("at rank 1", "shipped: FNIR", "FPIR"))
    + f" {'probes':>7} {'strangers':>9}"
)


def line(outcome: Outcome) -> str:
    """One cell for people, under HEADING; `-` stands for an FPIR of less than one stranger."""
    cell = outcome.cell
    begin = f"{cell.enrolled:>8,} {cell.templates:>9} {cell.frames:>6}"
    if outcome.unfilled:
        return f"{begin}  cannot be filled: {outcome.unfilled}"
    rates = [
        rate_text(outcome.fnir[fpir], outcome.intervals[fpir]) if fpir in outcome.fnir else "-"
        for fpir in FPIRS
    ]
    rates.append(rate_text(outcome.rank_1_fnir, outcome.rank_1_interval))
    shipped = (
        rate_text(outcome.shipped_fnir, outcome.shipped_fnir_interval),
        rate_text(outcome.shipped_fpir, outcome.shipped_fpir_interval),
    )
    return (
        begin
        + "".join(f" {rate:>{RATE_WIDTH}}" for rate in (*rates, *shipped))
        + f" {outcome.probes:>7,.0f} {outcome.strangers:>9,.0f}"
    )


def rate_text(values: Sequence[float], within: Interval) -> str:
    """A rate in percent and its interval, as every table has it: `0.56 [0.31, 0.94]`."""
    return f"{statistics.mean(values):.2f} [{within[0]:.2f}, {within[1]:.2f}]"
