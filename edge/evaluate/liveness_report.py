"""The HTML report of `evaluate liveness`: errors with their bounds, what a threshold costs, the worst cases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from edge.evaluate import page, plots
from edge.evaluate.attack_rates import NEVER, Rate, Values
from edge.evaluate.figures import commit, machine
from edge.evaluate.liveness import Checked, Item, Level, Result, divided
from edge.evaluate.looks import Seen, with_pictures

SHOWN = 12
"""Worst cases of each label, one a track."""

CONTEXT_WIDTHS = 3.3
"""Of a thumbnail, in widths of the face: what the first model looks at."""

THRESHOLDS = 101
"""Of a curve, from 0 to 1 in steps of a hundredth."""


def liveness_report(command: str, folder: str, seen: Seen, result: Result) -> str:
    """The page."""
    body = [
        page.section("In short", page.paragraph(_lead(result), "lead"), *map(_level_table, result.levels)),
        page.section("What a threshold costs", *map(_curves, _drawable(result))),
        page.section("Chosen on one half, reported on the other", _checked_table(result.checked)),
        _worst(
            "Attacks that looked most alive",
            [item for item in _judged(result) if not _live(item)],
            highest=True,
        ),
        _worst(
            "Live people who looked least alive",
            [item for item in _judged(result) if _live(item)],
            highest=False,
        ),
        page.section("What was looked at", *_looked_at(seen)),
        page.section("Made by", page.paragraph(f"{command}; commit {commit()}, {machine()}")),
    ]
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {len(seen.presentations)} presentations"
    return page.page(f"Live, or a picture? {folder}", made, body)


def _lead(result: Result) -> str:
    level = result.windows[-1] if result.windows[-1].items else result.frame
    return (
        f"{level.name.capitalize()}, live from {result.live_from:g}: of all attacks taken for live "
        f"{level.apcer}; of live people refused {level.bpcer}, "
        f"undecided ones among them: {level.undecided_live}. In brackets: errors, trials, and "
        "what the rate is below with 95 % confidence."
    )


def _level_table(level: Level) -> str:
    rows = [(f"APCER, {kind}", *_cells(rate)) for kind, rate in level.by_kind.items()]
    rows.append(("BPCER", *_cells(level.bpcer)))
    rows.append(("of live ones undecided (in BPCER)", *_cells(level.undecided_live)))
    rows.append(("of attacks undecided (no error)", *_cells(level.undecided_attacks)))
    if level.by_kind and level.bpcer.trials:
        rows.append(("ACER", f"{level.acer_percent:.2f}", "", "", ""))
    return page.table(("", "%", "below, %", "errors", "trials"), rows, level.name)


def _cells(rate: Rate) -> tuple[str, str, str, str]:
    if not rate.trials:
        return "–", "–", "0", "0"
    return f"{rate.percent:.2f}", f"{rate.upper_percent:.2f}", str(rate.errors), str(rate.trials)


def _drawable(result: Result) -> list[Level]:
    return [level for level in (result.frame, *result.windows) if level.apcer.trials and level.bpcer.trials]


def _curves(level: Level) -> str:
    attacks, live = divided(level.items)
    thresholds = np.linspace(0, 1, THRESHOLDS)
    series = [
        plots.Series("APCER", _share(attacks, thresholds, above=True), 2),
        plots.Series("BPCER", _share(live, thresholds, above=False), 1),
    ]
    chart = plots.chart(
        level.name.replace(" ", "-"),
        f"Errors by threshold, {level.name}",
        "Two lines: the share of attacks taken for live falls, that of live people refused rises.",
        plots.Axis("live from", 0, 1),
        plots.Axis("percent", 0, 100),
        series,
        [plots.Mark(f"shipped {level.live_from:g}", level.live_from)],
    )
    return page.figure(chart, f"{level.name}: {len(attacks)} attacks, {len(live)} live.")


def _share(values: Values, thresholds: Values, *, above: bool) -> list[tuple[float, float]]:
    shares = [float(np.mean((values >= at) if above else (values < at))) for at in thresholds]
    return [(float(at), 100 * share) for at, share in zip(thresholds, shares, strict=True)]


def _checked_table(checked: Sequence[Checked]) -> str:
    if not checked:
        return page.paragraph("Too few presentations to divide, or of one label only.")
    rows = [
        (
            one.level.name,
            f"{one.chosen.live_from:.3f}",
            str(one.level.apcer),
            str(one.level.bpcer),
        )
        for one in checked
    ]
    heads = ("", "live from, by one half", "APCER of the other", "BPCER of the other")
    return page.table(heads, rows, "Every second person or clip chooses", "text")


def _live(item: Item) -> bool:
    return item.track.presentation.live


def _judged(result: Result) -> list[Item]:
    return [item for item in result.frame.items if item.liveness is not None]


def _worst(title: str, items: Sequence[Item], *, highest: bool) -> str:
    """One frame of each track, the worst first."""
    worst: dict[int, Item] = {}
    for item in sorted(items, key=lambda item: _order(item, highest=highest)):
        worst.setdefault(id(item.track), item)
    chosen = [(item.track, item.track.looks[item.first]) for item in list(worst.values())[:SHOWN]]
    if not chosen:
        return page.section(title, page.paragraph("None."))
    pictures = {
        (id(track), look.frame): page.thumbnail(
            image, _around(look.box.x1, look.box.y1, look.box.x2, look.box.y2)
        )
        for track, look, image in with_pictures(chosen)
    }
    shown = [
        page.pair(
            [
                page.shot(
                    pictures.get((id(track), look.frame), ""), track.presentation.name, f"frame {look.frame}"
                )
            ],
            f"liveness {look.liveness:.3f}; {track.presentation.kind}; face {look.box.width_px:.0f} px",
        )
        for track, look in chosen
    ]
    return page.section(title, page.pairs(shown))


def _order(item: Item, *, highest: bool) -> float:
    liveness = NEVER if item.liveness is None else item.liveness
    return -liveness if highest else liveness


def _around(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    """A box that makes the thumbnail show as much as a model sees."""
    half = CONTEXT_WIDTHS * (x2 - x1) / (4 * page.THUMBNAIL_REACH)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half, y - half, x + half, y + half


def _looked_at(seen: Seen) -> list[str]:
    counts = [(reason, str(count)) for reason, count in seen.unfit.most_common()]
    parts = [
        page.table(("faces that the daemon would not have looked at", "frames"), counts, "By reason", "text")
    ]
    if seen.faceless:
        parts.append(page.paragraph("Without a face that could be looked at: " + ", ".join(seen.faceless)))
    return parts
