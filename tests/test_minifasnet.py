"""`make liveness`: weights are read without being run, and the networks built from them are the published ones."""

from __future__ import annotations

import collections
import hashlib
import http.client
import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.recognition.liveness_manifest import load_liveness
from models.recipe.minifasnet import __main__ as recipe
from models.recipe.minifasnet.__main__ import PUBLISHED, CannotBuild, build, reference_pictures, run
from models.recipe.minifasnet.network import convert
from models.recipe.minifasnet.torchfile import (
    MAGIC,
    MAX_FILE_BYTES,
    PROTOCOL,
    NotWeights,
    read_tensors,
)

ROOT = Path(__file__).parent.parent


class Storage:
    """What a persistent id stands for."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


class Writer(pickle._Pickler):
    """Writes storages as PyTorch does."""

    def persistent_id(self, value: Any) -> Any:
        return value.parts if isinstance(value, Storage) else None


class Named:
    """Pickled as a call of something by name."""

    def __init__(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self.made = (Global(module, name), arguments)

    def __reduce__(self) -> Any:
        return self.made


class Global:
    """Pickled as a name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise AssertionError("called while it was written")


def save_global(writer: Any, value: Global) -> None:
    writer.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
    writer.memoize(value)


Writer.dispatch = {**pickle._Pickler.dispatch, Global: save_global}


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    Writer(stream, protocol=2).dump(value)
    return stream.getvalue()


FLOATS = Global("torch", "FloatStorage")


def tensor(key: str, shape: tuple[int, ...], steps: tuple[int, ...], length: int, offset: int = 0) -> Named:
    storage = Storage("storage", FLOATS, key, "cpu", length, None)
    return Named(
        "torch._utils",
        "_rebuild_tensor_v2",
        (storage, offset, shape, steps, False, Named("collections", "OrderedDict", ())),
    )


def saved(tensors: dict[str, Any], keys: list[str], *contents: np.ndarray) -> bytes:
    """A file as PyTorch before 1.6 wrote it."""
    head = [MAGIC, PROTOCOL, {"little_endian": True}, tensors, keys]
    storages = [len(values).to_bytes(8, "little") + values.tobytes() for values in contents]
    return b"".join([*map(pickled, head), *storages])


NUMBERS = np.arange(6, dtype=np.float32)


def test_a_tensor_is_read_with_its_shape_and_its_place_in_the_storage() -> None:
    found = read_tensors(saved({"a": tensor("1", (2, 2), (2, 1), 6, offset=2)}, ["1"], NUMBERS))
    assert found["a"].tolist() == [[2, 3], [4, 5]]


def test_what_pytorch_would_run_is_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for module, name, arguments in (
        ("os", "system", (f"touch {witness}",)),
        ("builtins", "eval", (f"open({str(witness)!r}, 'w')",)),
        ("torch", "load", ("x",)),
    ):
        hostile = saved({"a": Named(module, name, arguments)}, [])
        with pytest.raises(NotWeights, match=f"mentions '{module} {name}'"):
            read_tensors(hostile)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"", "ends early|damaged"),
        (b"PK\x03\x04 a zip archive, as PyTorch writes now", "damaged|asks for"),
        (pickled(MAGIC) + pickled(7), "not of PyTorch's format"),
        (pickled(MAGIC) + pickled(PROTOCOL) + pickled({"little_endian": False}), "little-endian"),
        (saved({"a": 3}, []), "something else than tensors"),
        (saved({"a": tensor("1", (6,), (1,), 6)}, ["2"], NUMBERS), "list of storages"),
        (saved({"a": tensor("1", (6,), (1,), 7)}, ["1"], NUMBERS), "does not have its 7 numbers"),
        (saved({"a": tensor("1", (6,), (1,), 6)}, ["1"], NUMBERS) + b"x", "goes on after"),
        (saved({"a": tensor("1", (7,), (1,), 6)}, ["1"], NUMBERS), "beyond its storage"),
        (saved({"a": tensor("1", (2, 3), (1, 2), 6)}, ["1"], NUMBERS), "do not need"),
        (saved({"a": tensor("1", (0,), (1,), 6)}, ["1"], NUMBERS), "shape"),
        (saved({"a": tensor("1", (6,), (1,), 2**62)}, ["1"], NUMBERS), "storage of"),
        (saved({"a": tensor("1", (6,), (1,), 6, offset=-1)}, ["1"], NUMBERS), "do not need"),
        (pickled(collections.deque([1])), "asks for|mentions"),
        (b"x" * (MAX_FILE_BYTES + 1), "at most"),
    ],
)
def test_what_is_not_a_file_of_weights_is_refused_with_the_reason(file: bytes, complaint: str) -> None:
    with pytest.raises(NotWeights, match=complaint):
        read_tensors(file)


GOOD = saved({"a": tensor("1", (2, 3), (3, 1), 6)}, ["1"], NUMBERS)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=0, max_size=8), st.integers(0, 8))
def test_a_damaged_file_gives_tensors_or_a_refusal_and_nothing_else(
    place: int, bytes_there: bytes, cut: int
) -> None:
    damaged = GOOD[:place] + bytes_there + GOOD[place + cut :]
    try:
        found = read_tensors(damaged)
    except NotWeights:
        return
    assert all(isinstance(values, np.ndarray) for values in found.values())


def test_the_float_networks_give_what_the_published_ones_give(minifasnet: Path) -> None:
    """Against conversions by another hand, which agree with PyTorch to 2e-6."""
    pictures = reference_pictures()
    for published, other in zip(PUBLISHED, ("v2_2.7", "v1se_4.0"), strict=True):
        independent = minifasnet / f"minifasnet_{other}_80_f32.tflite"
        if not independent.is_file():
            pytest.skip(f"{independent}: no independent conversion to compare with")
        tensors = read_tensors((minifasnet / published.file).read_bytes())
        ours = run(convert(tensors, "test", half=False), pictures)
        assert np.abs(ours - run(independent.read_bytes(), pictures)).max() < 1e-5


def test_building_twice_gives_the_same_files_and_a_true_description(
    minifasnet: Path, live_models: Path, tmp_path: Path
) -> None:
    build(str(minifasnet), tmp_path)
    spec = load_liveness(live_models)
    assert spec is not None
    for model in spec.models:
        content = (tmp_path / model.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == model.sha256
        assert model.measured.deviation_max is not None
        assert model.measured.deviation_max < 5e-3


def test_weights_of_another_hash_are_refused_before_anything_is_written(
    minifasnet: Path, tmp_path: Path
) -> None:
    altered = tmp_path / "weights"
    altered.mkdir()
    for published in PUBLISHED:
        content = bytearray((minifasnet / published.file).read_bytes())
        content[-1] ^= 1
        (altered / published.file).write_bytes(content)
    target = tmp_path / "models"
    target.mkdir()
    with pytest.raises(CannotBuild, match=r"its sha256 is .*, that of the published file"):
        build(str(altered), target)
    assert not list(target.iterdir())


def test_the_command_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "models.recipe.minifasnet", "--models", str(tmp_path)],
        env=os.environ | {"MINIFASNET_DIR": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 65
    assert str(tmp_path / "nowhere") in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_built_is_kept_out_of_git() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="ascii").split()
    assert {"models/liveness.toml", "models/minifasnet_*.tflite", "*.pth"} <= set(ignored)


@pytest.fixture
def authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The authors' repository, on loopback: the folder in which its files lie."""
    folder = tmp_path / recipe.COMMIT / recipe.FOLDER
    folder.mkdir(parents=True)
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(recipe, "RAW", f"http://127.0.0.1:{server.server_port}")
        yield folder
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Not on the tests' output."""


def test_without_a_folder_the_weights_are_fetched_at_the_pinned_commit(
    minifasnet: Path, authors: Path, tmp_path: Path
) -> None:
    for published in PUBLISHED:
        (authors / published.file).symlink_to(minifasnet / published.file)
    target = tmp_path / "models"
    target.mkdir()
    build("", target)
    assert load_liveness(target) is not None


def test_what_is_fetched_and_is_not_the_published_file_is_refused(authors: Path, tmp_path: Path) -> None:
    (authors / PUBLISHED[0].file).write_bytes(b"something else")
    with pytest.raises(CannotBuild, match="its sha256 is"):
        build("", tmp_path)


def test_what_cannot_be_fetched_says_what_to_do_and_that_it_may_work_later(
    authors: Path, tmp_path: Path
) -> None:
    with pytest.raises(CannotBuild, match=r"cannot be fetched .*MINIFASNET_DIR=") as caught:
        build("", tmp_path)
    assert caught.value.exit_code == 69  # EX_UNAVAILABLE
    assert not list(tmp_path.glob("*.tflite"))


def test_a_download_that_breaks_off_is_said_as_one_that_did_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a line that broke after the answer had begun ended in a traceback."""

    class BreaksOff(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise http.client.IncompleteRead(b"half", 4)

    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: BreaksOff())
    with pytest.raises(CannotBuild, match=r"cannot be fetched \(IncompleteRead.*MINIFASNET_DIR="):
        build("", tmp_path)
