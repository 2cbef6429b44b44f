"""Loading model files: what is refused before it can give wrong numbers, and the choice of runtime."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelError
from edge.recognition import tflite
from edge.recognition.manifest import ModelSpec, load_manifest
from edge.recognition.tflite import Network

MANIFEST = load_manifest()
SMALL = MANIFEST.model("yunet_160x160")
"""The smallest file, so that copies cost nothing."""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the small model."""
    (tmp_path / SMALL.file).write_bytes((MANIFEST.folder / SMALL.file).read_bytes())
    return tmp_path


def zeros(spec: ModelSpec) -> np.ndarray:
    return np.zeros(spec.input_shape, np.float32)


def test_a_model_runs_from_any_folder(copied: Path) -> None:
    output = Network(SMALL, copied).run(zeros(SMALL))
    assert output.shape == (1, 525, 16)
    assert output.dtype == np.float32


def test_the_output_belongs_to_the_caller(copied: Path) -> None:
    network = Network(SMALL, copied)
    first = network.run(zeros(SMALL))
    before = first.copy()
    network.run(np.full(SMALL.input_shape, 200, np.float32))
    assert np.array_equal(first, before)


def test_two_threads_give_what_one_gives(copied: Path) -> None:
    picture = np.random.default_rng(3).uniform(0, 255, SMALL.input_shape).astype(np.float32)
    one, two = (Network(SMALL, copied, threads).run(picture) for threads in (1, 2))
    assert np.allclose(one, two, atol=1e-4)


def test_a_damaged_file_is_refused_with_both_hashes_and_a_remedy(copied: Path) -> None:
    file = copied / SMALL.file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError) as refusal:
        Network(SMALL, copied)
    message = str(refusal.value)
    for part in (str(file), SMALL.sha256, hashlib.sha256(content).hexdigest(), "make models", "reinstall"):
        assert part in message


def test_a_file_cut_short_is_refused(copied: Path) -> None:
    file = copied / SMALL.file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged or of another version"):
        Network(SMALL, copied)


def test_a_missing_file_is_refused_with_its_name_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{tmp_path}/{SMALL.file}: cannot be read .*`make models`"):
        Network(SMALL, tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / SMALL.file).mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        Network(SMALL, tmp_path)


def test_a_file_too_large_for_any_model_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / SMALL.file).open("wb") as file:
        file.truncate(tflite.MAX_FILE_BYTES + 1)  # sparse
    with pytest.raises(ModelError, match="bytes; a model has at most"):
        Network(SMALL, tmp_path)


def test_a_file_with_the_right_hash_that_is_no_model_is_refused(tmp_path: Path) -> None:
    content = b"not a model"
    (tmp_path / SMALL.file).write_bytes(content)
    spec = dataclasses.replace(SMALL, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ModelError, match="no interpreter could load it"):
        Network(spec, tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"input_shape": (1, 160, 320, 3)},
            r"takes \(1, 160, 160, 3\); the manifest says \(1, 160, 320, 3\)",
        ),
        ({"dtype": "int8"}, r"its input is float32; the manifest says int8"),
    ],
)
def test_a_manifest_that_describes_another_model_is_refused(
    copied: Path, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        Network(dataclasses.replace(SMALL, **changes), copied)  # type: ignore[arg-type]


def test_a_wrong_number_of_dimensions_is_refused() -> None:
    (sface,) = MANIFEST.embedder("sface").models
    with pytest.raises(ModelError, match=r"gives 128 numbers; the manifest says 512"):
        Network(dataclasses.replace(sface, dimensions=512), MANIFEST.folder)


class FailsWhenBuilt:
    """tflite-runtime with numpy 2: imports, and fails here."""

    def __init__(self, **_: object) -> None:
        raise ImportError("numpy.core.multiarray failed to import")


def runtime(name: str, interpreter: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__["Interpreter"] = interpreter
    return module


def test_the_second_runtime_serves_where_the_first_is_not_installed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert import interpreter  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[0], None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[1], interpreter)
    assert Network(SMALL, copied).run(zeros(SMALL)).shape == (1, 525, 16)


def test_the_second_runtime_serves_where_the_first_fails_only_when_it_is_built(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert import interpreter  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[0], runtime(tflite.RUNTIMES[0], FailsWhenBuilt))
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[1], interpreter)
    assert Network(SMALL, copied).run(zeros(SMALL)).shape == (1, 525, 16)


def test_where_no_runtime_works_each_reason_is_told(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[0], None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[1], runtime(tflite.RUNTIMES[1], FailsWhenBuilt))
    with pytest.raises(ModelError, match=r"ai_edge_litert.*tflite_runtime.*numpy.*install ai-edge-litert"):
        Network(SMALL, copied)


def test_loading_a_model_writes_nothing_to_standard_error(copied: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edge.recognition.manifest import load_manifest; "
        "from edge.recognition.tflite import Network; "
        f"Network(load_manifest().model('{SMALL.key}'), Path(sys.argv[1])); print('heard', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, copied], capture_output=True, text=True, check=True)
    assert done.stderr == "heard\n"


def int8_tensor(index: int, scale: float, zero: int) -> dict[str, object]:
    shape = np.array(SMALL.input_shape)
    return {"index": index, "shape": shape, "dtype": np.int8, "quantization": (scale, zero)}


class Int8Identity:
    """A runtime whose model gives back the levels that it was given, under another scale and zero."""

    inputs: tuple[dict[str, object], ...] = (int8_tensor(0, 0.5, -3),)

    def __init__(self, **_: object) -> None:
        self.tensor = np.zeros(0, np.int8)

    def allocate_tensors(self) -> None:
        """It has but one."""

    def invoke(self) -> None:
        """Nothing is changed."""

    def get_input_details(self) -> list[dict[str, object]]:
        return list(self.inputs)

    def get_output_details(self) -> list[dict[str, object]]:
        return [int8_tensor(1, 0.25, 10)]

    def set_tensor(self, index: int, tensor: np.ndarray) -> None:
        assert index == 0
        self.tensor = tensor

    def get_tensor(self, index: int) -> np.ndarray:
        assert index == 1
        return self.tensor


class TwoInputs(Int8Identity):
    """A model for something else."""

    inputs = (int8_tensor(0, 0.5, -3), int8_tensor(2, 0.5, -3))


def test_numbers_go_into_an_int8_model_as_levels_and_come_out_as_numbers(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fixed values after the definition, real = scale * (level - zero), rounded to even and clipped to int8."""
    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[0], runtime(tflite.RUNTIMES[0], Int8Identity))
    network = Network(dataclasses.replace(SMALL, dtype="int8"), copied)
    levels = network.quantise(np.array([0, 1, -1, 0.25, 0.75, 1000, -1000], np.float32))
    assert levels.dtype == np.int8
    assert levels.tolist() == [-3, -1, -5, -3, -1, 127, -128]
    given_back = network.run(levels)
    assert given_back.dtype == np.float32
    assert given_back.tolist() == [-3.25, -2.75, -3.75, -3.25, -2.75, 29.25, -34.5]


def test_a_model_with_more_than_one_input_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, tflite.RUNTIMES[0], runtime(tflite.RUNTIMES[0], TwoInputs))
    with pytest.raises(ModelError, match=f"{SMALL.file}: has 2 input tensors; expected one"):
        Network(dataclasses.replace(SMALL, dtype="int8"), copied)
