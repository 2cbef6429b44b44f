"""Does a track still show the person whom it showed before?

A tracker follows places. Somebody who steps into another's place within a moment, or two
who cross, can carry one number on; then the looks that were good enough to embed tell.
They are compared with the latest looks of the same track, a second or two old, in the same
light and by the same camera: far more alike than two photographs of one person are, so
that a look which would not pass even for the other of two such photographs is doubted.
One doubtful look may be a hand or a blur. Two that agree with each other are another person.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from edge.records import Vector

REMEMBERED = 5
"""Latest looks that a new one is compared with: their mean follows somebody who turns the head. Set; what it makes of
people who change places is measured by `python -m benchmarks.switches` (docs/decisions/tracks.md)."""

PROOF = 2
"""Doubtful looks in a row, alike among themselves, that are another person. With one, every hand before a
face would end a track; with three, somebody who hurries past could be gone. Reasoned, and measured as it is
(`python -m benchmarks.switches`, docs/decisions/tracks.md)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a new look says about its track."""

    accepted: tuple[Vector, ...] = ()
    """Looks that now count as those of the person of the track; none while in doubt."""
    dismissed: tuple[Vector, ...] = ()
    """Doubtful looks that stayed alone, now that another came which is not like them."""
    another: bool = False
    """`accepted` show another person than all looks before them."""


@dataclass(slots=True)
class Appearance:
    """The latest looks at the person of one track."""

    looks: deque[Vector] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    doubtful: tuple[Vector, ...] = ()

    def compare(self, vector: Vector, same: float) -> Comparison:
        """Take in one more look; `same` is the similarity from which two looks are one person's."""
        if not self.looks or alike(vector, self.looks, same):
            dismissed, self.doubtful = self.doubtful, ()
            self.looks.append(vector)
            return Comparison(accepted=(vector,), dismissed=dismissed)
        if not self.doubtful or not alike(vector, self.doubtful, same):
            dismissed, self.doubtful = self.doubtful, (vector,)
            return Comparison(dismissed=dismissed)
        self.doubtful = (*self.doubtful, vector)
        if len(self.doubtful) < PROOF:
            return Comparison()
        accepted, self.doubtful = self.doubtful, ()
        self.looks.clear()
        self.looks.extend(accepted)
        return Comparison(accepted=accepted, another=True)


def alike(vector: Vector, looks: deque[Vector] | tuple[Vector, ...], same: float) -> bool:
    """Whether a look is as similar to the mean of others as those of one person are."""
    mean = np.sum(np.stack(looks), axis=0)
    return float(vector @ mean) >= same * float(np.linalg.norm(mean))
