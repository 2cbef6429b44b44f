"""What liveness must reach on real people, real prints and rendered replays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.evaluate.attack_rates import Rate
from edge.evaluate.liveness import Result, frames, measure
from edge.evaluate.liveness_cli import open_observer
from edge.evaluate.looks import Observer, Seen, observe, together
from edge.evaluate.presentations import Presentation, open_presentations
from edge.evaluate.replay_attacks import rendered_replays
from models.recipe.minifasnet.__main__ import PUBLISHED, run
from models.recipe.minifasnet.network import convert
from models.recipe.minifasnet.torchfile import read_tensors

REPLAYS = 48
"""Enough for some thirty windows, in half a minute; `evaluate liveness --replays` renders any number."""


@pytest.fixture(scope="module")
def observer(live_models: Path) -> Observer:
    return open_observer(live_models)


@pytest.fixture(scope="module")
def prints(data: Path, observer: Observer) -> Seen:
    """Real people, and prints of them."""
    return observe(open_presentations(data / "pad-print"), observer)


@pytest.fixture(scope="module")
def clips(data: Path, observer: Observer, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Real people in clips."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "live").symlink_to(data / "video")
    return observe(open_presentations(folder), observer)


def judged(seen: Seen, observer: Observer) -> Result:
    return measure(seen, observer.models.spec.live_from, observer.config)


def test_every_print_is_refused_and_hardly_a_live_frame(prints: Seen, observer: Observer) -> None:
    result = judged(prints, observer)
    assert result.frame.apcer == Rate(0, 175)
    assert result.frame.bpcer.trials == 175, "no live frame was left out"
    assert result.frame.bpcer.percent <= 0.5
    five = result.windows[0]
    assert five.bpcer.trials > 20
    assert (five.apcer.errors, five.bpcer.errors) == (0, 0)


def test_live_people_in_clips_are_not_called_attacks(clips: Seen, observer: Observer) -> None:
    ten = judged(clips, observer).windows[1]
    assert ten.bpcer.trials > 50
    assert ten.bpcer.errors - ten.undecided_live.errors <= 1, "rejected as attack"
    assert ten.undecided_live.percent <= 10


def test_rendered_replays_are_refused_at_a_price_that_live_people_can_pay(
    clips: Seen, observer: Observer
) -> None:
    replays = rendered_replays(clips, REPLAYS, observer.detector)
    ten = judged(together(clips, observe(replays, observer)), observer).windows[1]
    assert ten.apcer.trials > 20
    assert ten.apcer.percent <= 5
    assert ten.bpcer.percent <= 5


def crops_of(seen: Seen, observer: Observer, count: int) -> list[np.ndarray]:
    """The second model's crops, which is the wider one, of so many real faces."""
    chosen = [item for number, item in enumerate(frames(seen.tracks)) if number % 3 == 0][:count]
    by_presentation: dict[str, Presentation] = {
        item.track.presentation.name: item.track.presentation for item in chosen
    }
    pictures = {name: [image for _, image in one.frames()] for name, one in by_presentation.items()}
    looks = [(item.track.presentation.name, item.track.looks[item.first]) for item in chosen]
    return [observer.models.crops(pictures[name][look.frame], look.box)[1] for name, look in looks]


def test_half_precision_says_what_the_published_networks_say(
    prints: Seen, observer: Observer, minifasnet: Path, live_models: Path
) -> None:
    crops = crops_of(prints, observer, 100)
    assert len(crops) == 100
    pictures = np.array(crops, np.float32)
    for published in PUBLISHED:
        tensors = read_tensors((minifasnet / published.file).read_bytes())
        exact = run(convert(tensors, "test", half=False), pictures)
        shipped = run((live_models / f"{published.key}.tflite").read_bytes(), pictures)
        assert np.abs(exact - shipped).max() <= 5e-3
