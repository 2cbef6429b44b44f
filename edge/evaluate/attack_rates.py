"""Error rates of presentation attack detection, as ISO/IEC 30107-3 defines them, with exact bounds.

APCER: share of attacks of one kind that were taken for live. BPCER: share of live
presentations that were not. Undecided is not live: of an attack it is no error, of a live
presentation it is one. ACER, which the standard no longer has, is the mean of BPCER and the
worst kind's APCER. EER: where the APCER of all attacks together equals the BPCER.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Of the upper bound of a rate, one-sided: the convention of the field."""

NEVER = -1.0
"""Stands for undecided in an array of liveness: below every threshold."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """Errors among trials."""

    errors: int
    trials: int

    @property
    def percent(self) -> float:
        """NaN without a trial."""
        return 100 * self.errors / self.trials if self.trials else math.nan

    @property
    def upper_percent(self) -> float:
        """What the true rate is below with 95 % confidence; 100 without a trial."""
        return 100 * upper_bound(self.errors, self.trials)

    def __str__(self) -> str:
        """`2.0 % (1 of 50, below 9.1 %)`."""
        if not self.trials:
            return "no trials"
        return f"{self.percent:.1f} % ({self.errors} of {self.trials}, below {self.upper_percent:.1f} %)"


def upper_bound(errors: int, trials: int) -> float:
    """The one-sided exact bound of a rate, 0 to 1 (Clopper and Pearson, Biometrika 26, 1934).

    The rate at which so few errors, or fewer, would be seen in one of twenty such trials:
    0.393 for none of six.
    """
    if errors >= trials:
        return 1.0
    low, high = errors / trials, 1.0
    for _ in range(60):  # halving: 1e-18
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(errors, trials, middle) > 1 - CONFIDENCE else (low, middle)
    return high


def _at_most(errors: int, trials: int, rate: float) -> float:
    """Probability of so many errors or fewer of trials that each fail with this rate, between 0 and 1."""
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(rate)
        + (trials - count) * math.log1p(-rate)
        for count in range(errors + 1)
    ]
    return math.fsum(map(math.exp, logs))


def apcer(attacks: Values, live_from: float) -> Rate:
    """Of attacks of one kind, by their liveness."""
    return Rate(int(np.sum(attacks >= live_from)), len(attacks))


def bpcer(live: Values, live_from: float) -> Rate:
    """Of live presentations, by their liveness; undecided ones are errors."""
    return Rate(int(np.sum(live < live_from)), len(live))


def undecided(values: Values) -> Rate:
    """How many could not be judged."""
    return Rate(int(np.sum(values == NEVER)), len(values))


def acer(kinds: Sequence[Rate], live: Rate) -> float:
    """In percent; NaN without a kind or without a live presentation."""
    worst = max((rate.percent for rate in kinds), default=math.nan)
    return (worst + live.percent) / 2


@dataclass(frozen=True, slots=True)
class Operating:
    """A threshold, and both kinds of error at it."""

    live_from: float
    room: float
    """Width of the range of thresholds with just these errors."""
    attacks: Rate
    live: Rate

    @property
    def percent(self) -> float:
        """The mean of both."""
        return (self.attacks.percent + self.live.percent) / 2

    @property
    def upper_percent(self) -> float:
        """The larger of the two bounds."""
        return max(self.attacks.upper_percent, self.live.upper_percent)


def equal_errors(attacks: Values, live: Values) -> Operating | None:
    """None without attacks or without live presentations."""
    if not len(attacks) or not len(live):
        return None
    return min(_all_errors(attacks, live), key=lambda at: abs(at.attacks.percent - at.live.percent))


def fewest_errors(attacks: Values, live: Values) -> Operating | None:
    """The threshold with the least sum of both rates; None without attacks or without live presentations.

    Of several that are equally good, in the middle of the widest range: with room to both sides.
    """
    if not len(attacks) or not len(live):
        return None
    found = _all_errors(attacks, live)
    least = min(at.attacks.percent + at.live.percent for at in found)
    return max(
        (at for at in found if at.attacks.percent + at.live.percent <= least + 1e-9), key=lambda at: at.room
    )


def _all_errors(attacks: Values, live: Values) -> list[Operating]:
    """Every way in which a threshold can divide the values, each in the middle of its thresholds."""
    levels = np.unique(np.concatenate([attacks, live, [0.0, 1.0]]))
    levels = np.append(levels[levels >= 0], np.nextafter(1.0, 2.0))
    middles = [0.0, *((levels[:-1] + levels[1:]) / 2).tolist()]
    room = [0.0, *np.diff(levels).tolist()]
    accepted = len(attacks) - np.searchsorted(np.sort(attacks), middles, side="left")
    refused = np.searchsorted(np.sort(live), middles, side="left")
    return [
        Operating(middle, width, Rate(int(taken), len(attacks)), Rate(int(lost), len(live)))
        for middle, width, taken, lost in zip(middles, room, accepted, refused, strict=True)
    ]


def threshold_at_bpcer(live: Values, most_percent: float) -> float:
    """The highest threshold at which no more than this share of live presentations is refused."""
    allowed = math.floor(len(live) * most_percent / 100 + 1e-9)
    return float(np.sort(live)[min(allowed, len(live) - 1)])
