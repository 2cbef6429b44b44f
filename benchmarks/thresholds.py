"""Two rules for thresholds against what LFW says: any target from one table, and a gallery's own people.

On the people who choose the manifest's thresholds, in the strictest way they are measured:
three photographs a template, three frames a probe. `measured` is the similarity that lets a
share of strangers pass, over DRAWS draws of who is enrolled, each stranger one probe in
each. `rule` is what the manifest's row for 0.3 % foretells for other shares
(`edge.recognition.thresholds`). `foretold` is what the templates of the enrolled alone
foretell for 0.3 %, mean of the draws, and `spread` its standard deviation over them.
`two_people_most_alike` and `one_person_least_alike` are of templates: of any two people, and of one
person's first three and next three photographs.

Takes the embeddings of `hadir-edge evaluate`, and its cache.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import numpy as np

from benchmarks.clips import data_folder
from benchmarks.run import main, note
from benchmarks.tails import FORETOLD
from edge.assembly import open_eyes
from edge.config import RecognitionConfig
from edge.evaluate.dataset import default_cache, embed_album, open_album
from edge.evaluate.figures import Figure, one
from edge.evaluate.openset import Cell, Runs
from edge.evaluate.rates import admitted, threshold_admitting
from edge.evaluate.site import non_mated
from edge.evaluate.thresholds import FPIR_TARGET, People, assign_roles, draw_references, draw_strangers

DRAWS = range(60)
SIZES = (20, 50, 100, 200, 300)
TARGETS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
TEMPLATES = FRAMES = 3


def measure(runs: int) -> Mapping[str, Figure]:
    """One run is enough: everything follows from the seeds."""
    eyes = open_eyes(RecognitionConfig())
    folder = data_folder("lfw")
    album = open_album(folder)
    seen = Runs(embed_album(album, eyes.stills, eyes.embedder, default_cache()))
    people = assign_roles(album, folder).choosing
    figures = likeness(seen, people)
    for size in SIZES:
        note(f"{size} enrolled")
        cell = Cell(size, TEMPLATES, FRAMES)
        strangers = np.concatenate([draw_strangers(seen, people, cell, seed) for seed in DRAWS])
        for target in TARGETS:
            name = f"n{size}_at_{100 * target:g}"
            passing = admitted(len(strangers), target)
            figures[f"measured_{name}"] = one(threshold_admitting(strangers, passing), "similarity")
            figures[f"rule_{name}"] = one(eyes.spec.threshold(size, target), "similarity")
        figures |= foretold(seen, people, size)
    return figures


def likeness(seen: Runs, people: People) -> dict[str, Figure]:
    """Where the templates of two people end, and where those of one begin."""
    first, nexts = seen.references(people, TEMPLATES), seen.fused(TEMPLATES, TEMPLATES).of(people)
    owners, places = np.unique(nexts.owners, return_index=True)
    own = np.einsum("rd,rd->r", first.of(owners).vectors, nexts.vectors[places])
    return {
        "two_people_most_alike": one(float(non_mated(first.vectors).max()), "similarity"),
        "one_person_least_alike": one(float(own.min()), "similarity"),
        "people_with_two_templates": one(len(owners), ""),
    }


def foretold(seen: Runs, people: People, size: int) -> dict[str, Figure]:
    """What each way foretells from the same galleries, for the share that the manifest is measured for."""
    galleries = [draw_references(seen, people, Cell(size, TEMPLATES, FRAMES), seed).vectors for seed in DRAWS]
    figures = {}
    for name, foretell in FORETOLD.items():
        found = [foretell(matrix, FPIR_TARGET) for matrix in galleries]
        figures[f"foretold_n{size}_{name}"] = one(statistics.mean(found), "similarity")
        figures[f"spread_n{size}_{name}"] = one(statistics.stdev(found), "similarity")
    return figures


if __name__ == "__main__":
    main("thresholds", measure)
