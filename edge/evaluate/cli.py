"""The command `hadir-edge evaluate`: how well the installed models recognise, on any labelled folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import InputError
from edge.evaluate.liveness_cli import add_command as add_liveness
from edge.evaluate.liveness_cli import check_outputs

if TYPE_CHECKING:  # --help needs neither OpenCV nor numpy
    from edge.assembly import Eyes
    from edge.evaluate.dataset import Album, Embeddings
    from edge.evaluate.figures import Figure
    from edge.evaluate.report import Context

DESCRIPTION = """\
Measure recognition with the daemon's own stages. FOLDER holds person/image, or images/person/image.
Vectors are kept in a cache, so that only the first run takes minutes; they are biometric data."""

DEGRADATIONS = ("door", "small", "scarf", "mask", "glasses")
"""Of `edge.evaluate.degrade`, which would load OpenCV."""

MAX_ENROLLED = 100_000
"""People, as many as a gallery is made for; set, so that a slip of the pen is told before anything is read."""

MAX_KINDS = 5
"""Suffixes of files that are no pictures, the most frequent first."""

MAX_NAMED = 20
"""Photographs without a face that are printed by name."""

COLLECT = "photographs of one person from a clip of the door, as the daemon would use them"


def add_commands(subparsers: Any) -> None:
    """Add `evaluate` and what it measures to the command's subparsers."""
    evaluate = subparsers.add_parser(
        "evaluate", help="measure how well people are recognised", description=DESCRIPTION
    )
    measures = evaluate.add_subparsers(required=True, metavar="MEASURE")
    for name, act, text in (
        ("lfw", _lfw, "verification: FOLDER holds LFW's images/ and pairs.txt"),
        ("openset", _openset, "identification: FNIR at FPIR, for any FOLDER of person/image"),
        ("thresholds", _thresholds, "the similarities for the models' manifest, by number enrolled"),
        ("centre", _centre, "the mean vectors for the models' manifest, of people outside LFW's View 2"),
        (
            "calibration",
            _calibration,
            "what `hadir-provision calibrate` is worth, for any FOLDER of person/image",
        ),
    ):
        measure = measures.add_parser(name, help=text, description=text)
        _add_options(measure)
        if act is not _centre:  # whose vectors are for a manifest, which is no place for figures
            measure.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
        if act is _openset:
            _add_openset_options(measure)
        if act in (_lfw, _openset, _calibration):
            _add_degradation(measure)
        if act in (_lfw, _openset):
            measure.add_argument(
                "--html", type=Path, metavar="FILE", help="write a report with plots and pictures of people"
            )
        measure.set_defaults(act=act)

    collect = measures.add_parser("collect", help=COLLECT, description=COLLECT)
    collect.add_argument("clip", type=Path, metavar="CLIP", help="a video, or a folder of its frames")
    collect.add_argument(
        "person", type=Path, metavar="PERSON", help="the person's folder, as in people/E1042"
    )
    collect.add_argument(
        "--most", type=_count, default=12, metavar="N", help="photographs; default %(default)s"
    )
    collect.add_argument("--models-dir", type=Path, metavar="FOLDER", help="default: the installed models")
    collect.set_defaults(act=_collect)
    add_liveness(measures)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--embedder", metavar="NAME", help="of the manifest; default: the daemon's default")
    parser.add_argument("--models-dir", type=Path, metavar="FOLDER", help="default: the installed models")
    parser.add_argument(
        "--threads", type=_threads, default=1, metavar="N", help="of the interpreter; default 1"
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="default: $XDG_CACHE_HOME/hadir")


def _add_openset_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--enrolled",
        type=_sizes,
        metavar="N,…",
        default="100,200,500,1000",
        help="how many are enrolled, the others being strangers; default: %(default)s",
    )
    parser.add_argument(
        "--as-if-enrolled",
        type=_count,
        metavar="N",
        help="judge at the threshold that the daemon takes for N enrolled; default: for as many as are",
    )


def _add_degradation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--degrade",
        choices=DEGRADATIONS,
        help="change the probes: as a door camera sees them, or with a covering rendered on",
    )
    parser.add_argument(
        "--degrade-templates",
        action="store_true",
        help="change the photographs that people are enrolled with as well (who always wears a scarf)",
    )


def _sizes(text: str) -> tuple[int, ...]:
    sizes = [int(part) for part in text.split(",") if part.isascii() and part.isdecimal()]
    if len(sizes) != len(text.split(",")) or not all(1 <= size <= MAX_ENROLLED for size in sizes):
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be whole numbers from 1 to {MAX_ENROLLED:,}, with commas between them"
        )
    return tuple(sorted(set(sizes)))


def _threads(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 16:  # noqa: PLR2004  as in the configuration
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 to 16")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MAX_ENROLLED:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 to {MAX_ENROLLED:,}")
    return int(text)


def _collect(options: argparse.Namespace) -> None:
    from edge.assembly import open_eyes  # noqa: PLC0415 - see TYPE_CHECKING above
    from edge.config import QualityConfig, RecognitionConfig  # noqa: PLC0415
    from edge.evaluate.collect import collect, report  # noqa: PLC0415

    detector = open_eyes(RecognitionConfig(models_dir=options.models_dir)).detector
    print(
        report(collect(options.clip, options.person, detector, QualityConfig(), options.most), options.person)
    )


def _lfw(options: argparse.Namespace) -> None:
    from edge.evaluate import lfw  # noqa: PLC0415 - see TYPE_CHECKING above

    check_outputs(options.json, options.html)
    album = _open_album(options.folder)
    folds = lfw.read_folds(album, options.folder / "pairs.txt")
    eyes = _open_eyes(options)
    probes, embeddings = _embed_both(album, eyes, options)
    result = lfw.verify(embeddings, folds, probes)
    print(lfw.report(result))
    _write(options.json, "evaluate lfw", probes, lfw.figures(result))
    if options.html is not None:
        from edge.evaluate.lfw_report import lfw_report  # noqa: PLC0415

        _write_html(options.html, lfw_report(_context(eyes, options), embeddings, probes, folds, result))


def _openset(options: argparse.Namespace) -> None:
    from edge.evaluate import openset  # noqa: PLC0415

    check_outputs(options.json, options.html)
    album = _open_album(options.folder)
    eyes = _open_eyes(options)
    probes, templates = _embed_both(album, eyes, options)
    print(openset.HEADING)
    outcomes = []
    cells = openset.cells(options.enrolled)
    for outcome in openset.identify(probes, _threshold(eyes, options), cells, templates=templates):
        print(openset.line(outcome), flush=True)
        outcomes.append(outcome)
    _write(options.json, "evaluate openset", probes, openset.figures(outcomes))
    if options.html is not None:
        from edge.evaluate.openset_report import openset_report  # noqa: PLC0415

        _write_html(options.html, openset_report(_context(eyes, options), probes, templates, outcomes))


def _thresholds(options: argparse.Namespace) -> None:
    from edge.evaluate import thresholds  # noqa: PLC0415
    from edge.evaluate.openset import Runs  # noqa: PLC0415

    check_outputs(options.json)
    album = _open_album(options.folder)
    roles = thresholds.assign_roles(album, options.folder)
    eyes = _open_eyes(options)
    embeddings = _embed(album, eyes, options)
    result = thresholds.calibrate(Runs(embeddings), roles)
    print(thresholds.report(result, roles, eyes.spec.name, options.folder.name))
    _write(options.json, "evaluate thresholds", embeddings, thresholds.figures(result))


def _centre(options: argparse.Namespace) -> None:
    from edge.evaluate import centre  # noqa: PLC0415
    from edge.recognition.embed import Embedder  # noqa: PLC0415
    from edge.recognition.manifest import load_manifest  # noqa: PLC0415

    album = centre.outside_view_2(_open_album(options.folder), options.folder)
    eyes = _open_eyes(options)
    spec = centre.without_centres(eyes.spec)
    embedder = Embedder(spec, load_manifest(options.models_dir).folder, options.threads)
    embeddings = _embed(album, replace(eyes, spec=spec, embedder=embedder), options)
    print(centre.report(centre.centres(embeddings, spec), len(album.people)))


def _calibration(options: argparse.Namespace) -> None:
    from edge.config import DecideConfig  # noqa: PLC0415
    from edge.evaluate import site_trial  # noqa: PLC0415
    from edge.evaluate.openset import Runs  # noqa: PLC0415

    check_outputs(options.json)
    album = _open_album(options.folder)
    eyes = _open_eyes(options)
    probes, templates = _embed_both(album, eyes, options)
    seen = Runs(probes)
    enrolled = seen if templates is probes else Runs(templates)
    print(site_trial.HEADING)
    trials = []
    for each in site_trial.run_trials(seen, enrolled, eyes.spec.thresholds, DecideConfig().fpir_target):
        print(site_trial.line(each), flush=True)
        trials.append(each)
    if not trials:
        least = min(site_trial.SIZES) + 1
        raise InputError(
            f"{options.folder}: {int((seen.sizes >= site_trial.TEMPLATES + 1).sum())} people have four photographs; "
            f"a gallery to calibrate, and a stranger, need at least {least}"
        )
    _write(options.json, "evaluate calibration", probes, site_trial.figures(trials))


def _open_album(folder: Path) -> Album:
    """The photographs; prints what lies among them and is none, which people may take for one."""
    from edge.evaluate.dataset import open_album  # noqa: PLC0415

    album = open_album(folder)
    if album.others:
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in album.others)
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(MAX_KINDS))
        print(f"left out, because they are no pictures that can be read: {told}; such as {album.others[0]}")
    return album


def _embed_both(album: Album, eyes: Eyes, options: argparse.Namespace) -> tuple[Embeddings, Embeddings]:
    """The album as it is seen, and as people are enrolled with it; the same where both are alike."""
    if options.degrade_templates and options.degrade is None:
        raise InputError("--degrade-templates: says what --degrade changes, which is not given")
    probes = _embed(album, eyes, options, options.degrade or "")
    unchanged = options.degrade is None or options.degrade_templates
    return probes, probes if unchanged else _embed(album, eyes, options)


def _open_eyes(options: argparse.Namespace) -> Eyes:
    from edge.assembly import open_eyes  # noqa: PLC0415
    from edge.config import RecognitionConfig  # noqa: PLC0415

    chosen = {} if options.embedder is None else {"embedder": options.embedder}
    return open_eyes(RecognitionConfig(models_dir=options.models_dir, threads=options.threads, **chosen))


def _embed(album: Album, eyes: Eyes, options: argparse.Namespace, degradation: str = "") -> Embeddings:
    """The album's vectors; prints what made them."""
    from edge.evaluate.dataset import default_cache, embed_album  # noqa: PLC0415

    cache = options.cache or default_cache()
    # Photographs are found as at enrolment; what stands for a frame, as the daemon finds it.
    detector = eyes.detector if degradation else eyes.stills
    embeddings = embed_album(album, detector, eyes.embedder, cache, degradation)
    print(
        f"{eyes.spec.name} ({eyes.embedder.id[:16]}): {len(album.files):,} photographs of "
        f"{len(album.people):,} people{f', with {degradation}' if degradation else ''}; "
        f"no face found in {len(embeddings.missing):,}, which count as misses"
    )
    for file in embeddings.missing[:MAX_NAMED]:
        print(f"  no face: {file}")
    if len(embeddings.missing) > MAX_NAMED:
        print(f"  and {len(embeddings.missing) - MAX_NAMED:,} more")
    return embeddings


def _context(eyes: Eyes, options: argparse.Namespace) -> Context:
    from edge.assembly import largest_detector  # noqa: PLC0415
    from edge.evaluate.report import Context  # noqa: PLC0415
    from edge.recognition.manifest import load_manifest  # noqa: PLC0415

    command = shlex.join(["hadir-edge", *sys.argv[1:]])
    name = options.folder.resolve().name
    manifest = load_manifest(options.models_dir)
    larger = manifest.models[largest_detector(manifest)]
    return Context(command, eyes.spec, eyes.detector, name, _threshold(eyes, options), larger)


def _threshold(eyes: Eyes, options: argparse.Namespace) -> Callable[[int], float]:
    """The manifest's by number enrolled, or for the number that `openset --as-if-enrolled` names."""
    as_if = getattr(options, "as_if_enrolled", None)
    return eyes.spec.threshold if as_if is None else lambda _: eyes.spec.threshold(as_if)


def _write_html(file: Path, text: str) -> None:
    from edge.evaluate.page import write_page  # noqa: PLC0415

    write_page(file, text)
    print(f"{file}: written; it contains pictures of people")


def _write(file: Path | None, name: str, embeddings: Embeddings, measured: Mapping[str, Figure]) -> None:
    from edge.evaluate.figures import one, write_json  # noqa: PLC0415

    if file is None:
        return
    counts = {
        "photographs": one(len(embeddings.album.files), "count"),
        "people": one(len(embeddings.album.people), "count"),
        "photographs_without_face": one(len(embeddings.missing), "count"),
    }
    try:
        write_json(file, name, {**measured, **counts})
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from error
