"""The command `hadir-edge evaluate liveness`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import InputError, ModelError

if TYPE_CHECKING:  # --help needs neither OpenCV nor numpy
    from edge.evaluate.liveness import Result
    from edge.evaluate.looks import Observer, Seen

DESCRIPTION = """\
Measure how well live people are told from pictures of people. FOLDER holds live/ and attack/KIND/ with
clips, folders of pictures or pictures, or pictures listed in index.csv (file,label,subject,session)."""

MAX_REPLAYS = 10_000
"""Rendered ones. Set, so that a slip of the pen is told before anything is looked at."""

MAX_CROP_WIDTHS = 10.0
"""Width of a crop, in widths of the face, as liveness.toml has it."""


def add_command(measures: Any) -> None:
    """Add `liveness` to what `evaluate` measures."""
    text = "liveness: APCER and BPCER, for any FOLDER of live/ and attack/KIND/"
    parser = measures.add_parser("liveness", help=text, description=DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--models-dir", type=Path, metavar="FOLDER", help="default: the installed models")
    parser.add_argument(
        "--live-from", type=_share, metavar="X", help="judge at this threshold; default: liveness.toml's"
    )
    parser.add_argument(
        "--crop-widths",
        type=_widths,
        metavar="W,…",
        help="cut the models' crops so wide, in face widths; default: liveness.toml's",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a report with pictures of the worst cases"
    )
    parser.add_argument(
        "--replays", type=_count, default=0, metavar="N", help="add N replays rendered from the live videos"
    )
    parser.add_argument("--stress", action="store_true", help="judge a sample of the frames made worse, too")
    parser.add_argument("--cues", action="store_true", help="try cues of movement beside the models, too")
    parser.set_defaults(act=_liveness)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0 to 1")
    return value


def _widths(text: str) -> tuple[float, ...]:
    try:
        widths = tuple(float(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or not all(1 <= width <= MAX_CROP_WIDTHS for width in widths):
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be numbers from 1 to {MAX_CROP_WIDTHS:g}, one for each model, with commas between them"
        )
    return widths


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > MAX_REPLAYS:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 0 to {MAX_REPLAYS:,}")
    return int(text)


def _liveness(options: argparse.Namespace) -> None:
    from edge.evaluate import liveness  # noqa: PLC0415 - see TYPE_CHECKING above
    from edge.evaluate.looks import observe  # noqa: PLC0415
    from edge.evaluate.presentations import open_presentations  # noqa: PLC0415
    from edge.evaluate.progress import Progress  # noqa: PLC0415

    check_outputs(options.json, options.html)
    observer = open_observer(options.models_dir, options.crop_widths)
    live_from = observer.models.spec.live_from if options.live_from is None else options.live_from
    presentations = open_presentations(options.folder)
    with Progress("looking", len(presentations)) as progress:
        seen = observe(presentations, observer, progress.step)
    if options.replays:
        seen = _with_replays(seen, options.replays, observer)
    result = liveness.measure(seen, live_from, observer.config)
    print(liveness.report(seen, result))
    if options.stress:
        from edge.evaluate.liveness_stress import stress, stress_report  # noqa: PLC0415

        print(stress_report(stress(seen, observer, live_from)))
    if options.cues:
        from edge.evaluate.cues import cues_report, try_cues  # noqa: PLC0415

        print(cues_report(try_cues(seen, observer.config.max_frames, observer.config.min_frames)))
    _write(options, seen, result)


def _with_replays(seen: Seen, count: int, observer: Observer) -> Seen:
    from edge.evaluate.looks import observe, together  # noqa: PLC0415
    from edge.evaluate.progress import Progress  # noqa: PLC0415
    from edge.evaluate.replay_attacks import rendered_replays  # noqa: PLC0415

    replays = rendered_replays(seen, count, observer.detector)
    if not replays:
        raise InputError("--replays: no live video here shows a face for long enough to replay it")
    with Progress("replaying", len(replays)) as progress:
        return together(seen, observe(replays, observer, progress.step))


def open_observer(models_dir: Path | None, crop_widths: tuple[float, ...] | None = None) -> Observer:
    """Detector and liveness models with the daemon's defaults, or crops of other widths.

    Raises:
        ModelError: the models are missing.
        InputError: there are not as many widths as models.
    """
    from edge.assembly import MAKE_LIVENESS, open_eyes  # noqa: PLC0415
    from edge.config import LivenessConfig, QualityConfig, RecognitionConfig  # noqa: PLC0415
    from edge.evaluate.looks import Observer  # noqa: PLC0415
    from edge.recognition.liveness import LivenessModels  # noqa: PLC0415
    from edge.recognition.liveness_manifest import FILE, load_liveness  # noqa: PLC0415
    from edge.recognition.manifest import installed_folder  # noqa: PLC0415

    spec = load_liveness(models_dir)
    if spec is None:
        raise ModelError(f"{(models_dir or installed_folder()) / FILE}: is not there; {MAKE_LIVENESS}")
    if crop_widths is not None:
        if len(crop_widths) != len(spec.models):
            raise InputError(f"--crop-widths: {len(crop_widths)} widths for {len(spec.models)} models")
        cut = [replace(m, crop_widths=w) for m, w in zip(spec.models, crop_widths, strict=True)]
        spec = replace(spec, models=tuple(cut))
    detector = open_eyes(RecognitionConfig(models_dir=models_dir)).detector
    return Observer(detector, LivenessModels(spec), LivenessConfig(), QualityConfig())


def check_outputs(json: Path | None, html: Path | None = None) -> None:
    """Before minutes of work: could the figures, or the report, not be written? Raises InputError."""
    for file in (json, html):
        if file is not None:
            _check_writable(file)
    if html is not None and html.exists() and not html.is_file():
        raise InputError(f"{html}: is no ordinary file, and would be replaced by one; name another")


def _check_writable(file: Path) -> None:
    try:
        if file.is_dir() or not file.parent.is_dir():
            raise InputError(f"{file}: cannot be written (it is a folder, or its folder is not there)")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise InputError(f"{file}: cannot be written (not permitted, or the disk is read-only)")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from error


def _write(options: argparse.Namespace, seen: Seen, result: Result) -> None:
    from edge.evaluate import liveness  # noqa: PLC0415
    from edge.evaluate.figures import write_json  # noqa: PLC0415

    if options.json is not None:
        try:
            write_json(options.json, "evaluate liveness", liveness.figures(result))
        except OSError as error:
            raise InputError(f"{options.json}: cannot be written ({error.strerror})") from error
    if options.html is not None:
        from edge.evaluate.liveness_report import liveness_report  # noqa: PLC0415
        from edge.evaluate.page import write_page  # noqa: PLC0415

        command = shlex.join(["hadir-edge", *sys.argv[1:]])
        write_page(options.html, liveness_report(command, options.folder.resolve().name, seen, result))
        print(f"{options.html}: written; it contains pictures of people")
