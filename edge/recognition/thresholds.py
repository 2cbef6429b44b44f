"""From which similarity a match may count: by how many are enrolled, and how many strangers may pass."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The similarity that lets at most `fpir_target` of strangers pass, by number enrolled."""

    fpir_target: float
    enrolled: tuple[int, ...]
    """Rising strictly, at least one."""
    similarity: tuple[float, ...]
    """Never falling: more people enrolled means more chances for a stranger."""
    measured_by: str

    def at(self, enrolled: int, fpir_target: float | None = None) -> float:
        """The similarity for so many enrolled and such a share of strangers; the measured share by default.

        Linear in log10(enrolled) between the measured sizes, because the best of n strangers'
        similarities grows about with log n; at or below the smallest size its value; above the
        largest the last slope goes on, which never lowers the threshold.

        Another share of strangers counts as another size. Where each of n comparisons lets a
        share FMR pass independently, FPIR = 1 - (1 - FMR)^n, about n FMR (Daugman, "How iris
        recognition works", IEEE Trans. CSVT 14, 2004), so what matters is n / FPIR: 100 enrolled at
        0.1 % are as 300 at 0.3 %. Below the smallest size the first slope goes on then. How well that
        holds on LFW: docs/decisions/thresholds.md.
        """
        if len(self.enrolled) == 1:
            return self.similarity[0]
        wanted = self.fpir_target if fpir_target is None else fpir_target
        as_if = max(enrolled, self.enrolled[0]) * (self.fpir_target / wanted)
        inner = range(1, len(self.enrolled) - 1)
        right = next((i for i in inner if as_if <= self.enrolled[i]), len(self.enrolled) - 1)
        lower, upper = math.log10(self.enrolled[right - 1]), math.log10(self.enrolled[right])
        share = (math.log10(as_if) - lower) / (upper - lower)
        low, high = self.similarity[right - 1 : right + 1]
        return max(-1.0, min(1.0, low + share * (high - low)))
