"""Measures a fleet's gallery and writes into it the thresholds that its own people ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.assembly import Eyes
from edge.errors import InputError
from edge.evaluate.dataset import open_album
from edge.evaluate.site import (
    MIN_PEOPLE,
    Alike,
    Matrix,
    advice,
    non_mated,
    raised_thresholds,
    site_thresholds,
    too_alike,
)
from edge.recognition.gallery import Gallery
from edge.recognition.match import template_of
from edge.recognition.thresholds import Thresholds
from provisioning.enrol import embed_portraits

MAX_LISTED = 50
"""Pairs that are printed; the most alike come first."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The gallery with its new thresholds, and what an administrator should know about them."""

    gallery: Gallery
    shipped: float
    """What the models' manifest asks for."""
    threshold: float
    """What holds from now on."""
    fpir_target: float
    alike: tuple[Alike, ...]


def calibrate(
    gallery: Gallery,
    shipped: Thresholds,
    fpir_target: float,
    strangers: Sequence[Matrix] = (),
    *,
    lookalikes_only: bool = False,
) -> Calibration:
    """The next version of a gallery, calibrated.

    Args:
        gallery: as it is.
        shipped: the manifest's thresholds.
        fpir_target: the share of strangers that may pass.
        strangers: vectors of people who are not to be recognised; nothing of them is kept.
        lookalikes_only: leave the general threshold as it is, for which there may be too few people.

    Raises InputError where there are too few people to say anything.
    """
    if lookalikes_only and len(gallery.people) + len(strangers) < 2:  # noqa: PLR2004
        raise InputError(f"{len(gallery.people)} people enrolled: nobody to be mistaken for somebody else")
    enrolled = len(gallery.people)
    own = gallery.thresholds if lookalikes_only else site_thresholds(gallery.matrix, shipped, fpir_target)
    threshold = (own or shipped).at(enrolled, fpir_target)
    raised = raised_thresholds(gallery, threshold, strangers)
    return Calibration(
        gallery=replace(gallery, version=gallery.version + 1, thresholds=own, raised=raised),
        shipped=shipped.at(enrolled, fpir_target),
        threshold=threshold,
        fpir_target=fpir_target,
        alike=too_alike(gallery, threshold),
    )


def embed_strangers(eyes: Eyes, folder: Path) -> list[Matrix]:
    """(1, dimensions) for each person of a folder `person/image`.

    Raises:
        InputError: no such folder, nobody in it, or a photograph cannot be read.
        NotEnrollable: a photograph shows no face, several, or one that is no use.
    """
    album = open_album(folder)
    return [
        template_of(embed_portraits(eyes, [album.folder / album.files[row] for row in rows]).vectors)[
            np.newaxis
        ]
        for rows in album.people.values()
    ]


def entry(calibration: Calibration) -> dict[str, Any]:
    """For the audit: what was asked for, what holds now, and whose ids need more than that."""
    return {
        "fpir_target": calibration.fpir_target,
        "threshold": round(calibration.threshold, 4),
        "raised": sorted(calibration.gallery.raised),
    }


def report(calibration: Calibration) -> str:
    """For an administrator: how alike people are here, what holds now, who is too alike and what to do."""
    gallery, percent = calibration.gallery, 100 * calibration.fpir_target
    lines = [f"{len(gallery.people)} people, gallery version {gallery.version}"]
    if len(gallery.people) >= MIN_PEOPLE:
        pairs = non_mated(gallery.matrix)
        middle, high = np.quantile(pairs, [0.5, 0.99])
        lines.append(
            f"similarity of {len(pairs):,} pairs of different people: median {middle:.3f}, one in a hundred "
            f"{high:.3f}, most {pairs.max():.3f}"
        )
    lines.append(
        f"at most {percent:g} % of strangers pass from similarity {calibration.threshold:.4f}; "
        f"the models' own threshold for so many people: {calibration.shipped:.4f}"
    )
    lines.append(f"{len(gallery.raised)} of them resemble somebody and need more")
    for pair in calibration.alike[:MAX_LISTED]:
        lines.append(f"too alike: {advice(pair, gallery.raised)}")
    if len(calibration.alike) > MAX_LISTED:
        lines.append(f"and {len(calibration.alike) - MAX_LISTED:,} more pairs")
    return "\n".join(lines)
