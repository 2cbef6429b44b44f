"""What liveness adds to the frames on which it looks: crops, quality, and the models' invocations.

`share_of_embedding` compares it with embedding the same frames (a second look at the face,
alignment and the embedding models), each measured in turn with the other in one loop.
Needs the models of `make liveness`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.road import in_turn
from benchmarks.run import main, note
from benchmarks.site import one_face_640x480
from edge.assembly import Eyes, open_eyes
from edge.config import LivenessConfig, RecognitionConfig
from edge.evaluate.figures import Figure
from edge.evaluate.liveness_cli import open_observer
from edge.recognition.liveness import LivenessModels, TrackLiveness
from edge.records import Image, Sighting

LOOPS = 200


def measure(runs: int) -> Mapping[str, Figure]:
    """All figures, each the median of a run, over so many runs."""
    eyes = open_eyes(RecognitionConfig())
    models = open_observer(None).models
    picture = one_face_640x480(eyes)
    collected: dict[str, list[float]] = {}
    for run in range(runs):
        note(f"run {run + 1} of {runs}")
        for key, value in stages(eyes, models, picture).items():
            collected.setdefault(key, []).append(value)
    units = {"share_of_embedding": "%"}
    return {key: Figure(units.get(key, "ms"), tuple(values)) for key, values in collected.items()}


def stages(eyes: Eyes, models: LivenessModels, picture: Image) -> dict[str, float]:
    """Medians over one frame with one face."""
    face = eyes.detector.detect(picture)[0]
    sighting, elsewhere = Sighting(1, face, 0), Sighting(2, face, 0)
    liveness = TrackLiveness(models, LivenessConfig(min_frames=3, max_frames=3))
    crops = models.crops(picture, face.box)

    def look_and_judge() -> None:
        """A frame that is looked at and judged, as on a track that is about to become an attendance."""
        liveness.look(picture, sighting)
        liveness.judge(1)

    for _ in range(3):
        look_and_judge()
    steps = {
        "look_ms": lambda: liveness.look(picture, elsewhere),
        "models_ms": lambda: models.liveness(crops),
        "added_ms": look_and_judge,
        "embedding_ms": lambda: eyes.embedder.embed(eyes.embedder.crops(picture, face)),
    }
    medians = {name: statistics.median(times) for name, times in in_turn(steps, LOOPS).items()}
    return medians | {"share_of_embedding": 100 * medians["added_ms"] / medians["embedding_ms"]}


if __name__ == "__main__":
    main("liveness", measure)
