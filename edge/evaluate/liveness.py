"""How well live people are told from pictures of people: `hadir-edge evaluate liveness`.

Errors are counted at three levels: single frames; windows of as many frames as a decision
needs at least, and takes at most; and whole tracks as the daemon would have decided them.
The daemon never decides on a single frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge.config import LivenessConfig
from edge.evaluate.attack_rates import (
    NEVER,
    Operating,
    Rate,
    Values,
    acer,
    apcer,
    bpcer,
    equal_errors,
    fewest_errors,
    undecided,
)
from edge.evaluate.figures import Figure, one
from edge.evaluate.looks import Look, Seen, Track
from edge.evaluate.presentations import LIVE
from edge.recognition.liveness import verdict_of
from edge.records import Verdict


@dataclass(frozen=True, slots=True)
class Item:
    """What an error rate counts: a frame, a window, a track."""

    track: Track
    first: int
    """The look it begins with."""
    liveness: float | None


def frames(tracks: Iterable[Track]) -> Iterator[Item]:
    """Each look by itself."""
    for track in tracks:
        for number, look in enumerate(track.looks):
            yield Item(track, number, look.liveness)


def windows(tracks: Iterable[Track], length: int, least: int) -> Iterator[Item]:
    """Runs of so many looks, one after the other; judged where at least `least` of them could be."""
    for track in tracks:
        for first in range(0, len(track.looks) - length + 1, length):
            yield Item(track, first, _mean(track.looks[first : first + length], least))


def _mean(looks: Sequence[Look], least: int) -> float | None:
    judged = [look.liveness for look in looks if look.liveness is not None]
    return float(np.mean(judged)) if len(judged) >= least else None


def decisions(tracks: Iterable[Track], live_from: float, config: LivenessConfig) -> Iterator[Item]:
    """What the daemon would have said of each track that is long enough: 1 is live, 0 an attack, None undecided."""
    words = {Verdict.LIVE: 1.0, Verdict.ATTACK: 0.0, Verdict.UNDECIDED: None}
    for track in tracks:
        if len(track.looks) >= config.min_frames:
            yield Item(track, 0, words[_decided(track, live_from, config)])


def _decided(track: Track, live_from: float, config: LivenessConfig) -> Verdict:
    judged = [look.liveness for look in track.looks if look.liveness is not None]
    verdicts = (
        verdict_of(judged[:end][-config.max_frames :], live_from, config) for end in range(1, len(judged) + 1)
    )
    return next((verdict for verdict in verdicts if verdict is not Verdict.UNDECIDED), Verdict.UNDECIDED)


@dataclass(frozen=True, slots=True)
class Level:
    """Error rates over one kind of item at one threshold."""

    name: str
    items: tuple[Item, ...]
    live_from: float
    by_kind: Mapping[str, Rate]
    """APCER of each kind of attack."""
    apcer: Rate
    """Of all attacks together."""
    bpcer: Rate
    undecided_live: Rate
    undecided_attacks: Rate

    @property
    def acer_percent(self) -> float:
        return acer(tuple(self.by_kind.values()), self.bpcer)


def values_of(items: Iterable[Item]) -> Values:
    """Liveness as numbers, NEVER for undecided."""
    return np.array([NEVER if item.liveness is None else item.liveness for item in items], np.float64)


def level_of(name: str, items: Iterable[Item], live_from: float) -> Level:
    """Count the errors."""
    kept = tuple(items)
    kinds: dict[str, list[Item]] = defaultdict(list)
    for item in kept:
        kinds[item.track.presentation.kind].append(item)
    live = values_of(kinds.pop(LIVE, []))
    attacks = values_of(item for kind in kinds.values() for item in kind)
    return Level(
        name=name,
        items=kept,
        live_from=live_from,
        by_kind={kind: apcer(values_of(kinds[kind]), live_from) for kind in sorted(kinds)},
        apcer=apcer(attacks, live_from),
        bpcer=bpcer(live, live_from),
        undecided_live=undecided(live),
        undecided_attacks=undecided(attacks),
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """A threshold that one part of the presentations chose, and what the other part says of it."""

    chosen: Operating
    level: Level


@dataclass(frozen=True, slots=True)
class Result:
    """All levels at the shipped threshold, and how well another choice would have done."""

    live_from: float
    frame: Level
    windows: tuple[Level, ...]
    """Of the least and of the largest number of frames."""
    track: Level
    eer: Operating | None
    """Of the longest windows or, where there are too few, of frames."""
    checked: tuple[Checked, ...]
    """Frames, then windows; those for which both parts have live ones and attacks."""

    @property
    def levels(self) -> tuple[Level, ...]:
        return (self.frame, *self.windows, self.track)


def parts(tracks: Sequence[Track]) -> tuple[list[Track], list[Track]]:
    """Every second group to choose with, the others to report on: nobody is in both."""
    groups = list(dict.fromkeys(track.presentation.group for track in tracks))
    choosing = set(groups[::2])
    return (
        [track for track in tracks if track.presentation.group in choosing],
        [track for track in tracks if track.presentation.group not in choosing],
    )


def measure(seen: Seen, live_from: float, config: LivenessConfig) -> Result:
    """Count errors at all levels."""
    lengths = sorted({config.min_frames, config.max_frames})
    least = config.min_frames
    window_levels = [
        level_of(f"windows of {length} frames", windows(seen.tracks, length, least), live_from)
        for length in lengths
    ]
    frame = level_of("single frames", frames(seen.tracks), live_from)
    judged = [level for level in (frame, *window_levels) if level.apcer.trials and level.bpcer.trials]
    choosing, reporting = parts(seen.tracks)
    checked = [
        _checked("single frames", list(frames(choosing)), list(frames(reporting))),
        *(
            _checked(
                f"windows of {n} frames",
                list(windows(choosing, n, least)),
                list(windows(reporting, n, least)),
            )
            for n in lengths
        ),
    ]
    return Result(
        live_from=live_from,
        frame=frame,
        windows=tuple(window_levels),
        track=level_of("tracks as the daemon decides", decisions(seen.tracks, live_from, config), 0.5),
        eer=equal_errors(*divided(judged[-1].items)) if judged else None,
        checked=tuple(one for one in checked if one is not None),
    )


def divided(items: Iterable[Item]) -> tuple[Values, Values]:
    """Attacks, live ones."""
    kept = list(items)
    return (
        values_of(item for item in kept if not item.track.presentation.live),
        values_of(item for item in kept if item.track.presentation.live),
    )


def _checked(name: str, choosing: list[Item], reporting: list[Item]) -> Checked | None:
    chosen = fewest_errors(*divided(choosing))
    if chosen is None or fewest_errors(*divided(reporting)) is None:
        return None
    return Checked(chosen, level_of(name, reporting, chosen.live_from))


def figures(result: Result) -> dict[str, Figure]:
    """For `--json`: percent. Without a suffix: single frames, except EER."""
    found = _level_figures(result.frame, "")
    for level in result.windows:
        length = level.name.split()[2]
        found |= _level_figures(level, f"_window{length}")
    found |= _level_figures(result.track, "_track")
    if result.eer is not None:
        found["eer"] = one(result.eer.percent, "%")
        found["eer_upper"] = one(result.eer.upper_percent, "%")
        found["eer_live_from"] = one(result.eer.live_from, "liveness")
    found["live_from"] = one(result.live_from, "liveness")
    for checked in result.checked[-1:]:
        found["chosen_live_from"] = one(checked.chosen.live_from, "liveness")
        found |= _level_figures(checked.level, "_chosen")
    return found


def _level_figures(level: Level, suffix: str) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    rates = {"apcer": level.apcer, "bpcer": level.bpcer, "undecided": level.undecided_live}
    rates |= {f"apcer_{kind}": rate for kind, rate in level.by_kind.items()}
    for name, rate in rates.items():
        if rate.trials:
            found[f"{name}{suffix}"] = one(rate.percent, "%")
            found[f"{name}{suffix}_upper"] = one(rate.upper_percent, "%")
            found[f"{name}{suffix}_trials"] = one(rate.trials, "count")
    if level.by_kind and level.bpcer.trials:
        found[f"acer{suffix}"] = one(level.acer_percent, "%")
    return found


def report(seen: Seen, result: Result) -> str:
    """For people."""
    live = sum(presentation.live for presentation in seen.presentations)
    lines = [
        f"{live} live presentations, {len(seen.presentations) - live} attacks; faces in {len(seen.tracks)} tracks. "
        "In brackets: errors, trials, and what the rate is below with 95 % confidence.",
        *(f"  no usable face: {name}" for name in seen.faceless),
    ]
    if seen.unfit:
        told = ", ".join(f"{count} {reason}" for reason, count in seen.unfit.most_common())
        lines.append(f"Faces that the daemon would not have looked at: {told}")
    for level in result.levels:
        lines += _level_lines(level, result.live_from)
    if result.eer is not None:
        lines.append(
            f"EER {result.eer.percent:.1f} % (below {result.eer.upper_percent:.1f} %) at {result.eer.live_from:.3f}"
        )
    for checked in result.checked:
        lines.append(f"Threshold {checked.chosen.live_from:.3f}, chosen on one half, on the other:")
        lines += _level_lines(checked.level, checked.chosen.live_from)
    return "\n".join(lines)


def _level_lines(level: Level, live_from: float) -> list[str]:
    if not level.items:
        return [f"{level.name}: none"]
    lines = [f"{level.name}, live from {live_from:g}:"]
    lines += [f"  APCER {kind}: {rate}" for kind, rate in level.by_kind.items()]
    lines.append(f"  BPCER: {level.bpcer}; of these undecided: {level.undecided_live}")
    if level.undecided_attacks.errors:
        lines.append(f"  attacks undecided: {level.undecided_attacks}")
    if level.by_kind and level.bpcer.trials:
        lines.append(f"  ACER: {level.acer_percent:.2f} %")
    return lines
