"""Runs one TensorFlow Lite file, whichever interpreter this machine has.

This is the only module that imports an interpreter: `ai-edge-litert` first, and
`tflite-runtime` where that one does not exist or does not work. A model file is hashed
before anything reads it as a model, because a damaged one gives wrong vectors sooner than
an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.recognition.manifest import ModelSpec, VectorModelSpec

MAX_FILE_BYTES = 128 * 2**20
"""No model fit for a board is larger (the largest here has 24 MB); a wrong path is refused cheaply."""

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


class Network:
    """One loaded model with one input and one output tensor.

    Not safe for use by two threads at once. Raises ModelError where the file is missing,
    has another hash than the manifest says or does not fit the manifest's description, and
    where no interpreter works on this machine.
    """

    def __init__(self, spec: ModelSpec, folder: Path, threads: int = 1) -> None:
        self.spec = spec
        file = folder / spec.file
        check_file(file, spec.sha256)
        self._interpreter = _build(file, threads)
        self._input = _only(self._interpreter.get_input_details(), file, "input")
        self._output = _only(self._interpreter.get_output_details(), file, "output")
        self._check_tensors(file)

    def _check_tensors(self, file: Path) -> None:
        shape = tuple(int(side) for side in self._input["shape"])
        if shape != self.spec.input_shape:
            raise ModelError(f"{file}: takes {shape}; the manifest says {self.spec.input_shape}")
        for side, tensor in (("input", self._input), ("output", self._output)):
            if np.dtype(tensor["dtype"]).name != self.spec.dtype:
                dtype = np.dtype(tensor["dtype"]).name
                raise ModelError(f"{file}: its {side} is {dtype}; the manifest says {self.spec.dtype}")
        found = int(np.prod(self._output["shape"]))
        if isinstance(self.spec, VectorModelSpec) and found != self.spec.dimensions:
            raise ModelError(f"{file}: gives {found} numbers; the manifest says {self.spec.dimensions}")

    def quantise(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Real numbers as this model's input tensor holds them: themselves, or rounded to int8."""
        if self.spec.dtype == "float32":
            return values.astype(np.float32, copy=False)
        scale, zero = self._input["quantization"]
        levels: NDArray[np.float32] = np.rint(values / np.float32(scale)) + zero
        return np.clip(levels, -128, 127).astype(np.int8)

    def run(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """The output, real numbers, for an input of the manifest's shape made by `quantise`.

        The array is the caller's own.
        """
        self._interpreter.set_tensor(self._input["index"], tensor)
        self._interpreter.invoke()
        values: NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        if self.spec.dtype == "float32":
            return values
        scale, zero = self._output["quantization"]
        return (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def check_file(file: Path, sha256: str) -> None:
    """Raise ModelError unless the file is there, of a plausible size and has this hash."""
    remedy = "reinstall, or rebuild it with `make models` (what liveness needs: `make liveness`)"
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{file}: {size} bytes; a model has at most {MAX_FILE_BYTES}; {remedy}")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); {remedy}") from error
    if found != sha256:
        raise ModelError(
            f"{file}: is damaged or of another version: its sha256 is {found}, "
            f"the manifest says {sha256}; {remedy}"
        )


def _build(file: Path, threads: int) -> Any:
    """An interpreter with its tensors allocated, from the first runtime that manages.

    Both are tried up to a built interpreter, not only imported: tflite-runtime with numpy 2
    imports, and fails here.
    """
    failures = []
    for name in RUNTIMES:
        try:
            runtime: Any = importlib.import_module(name)
            with _quiet_stderr():
                # By path, not by content: the file's pages stay shared and can be given back,
                # while a Python copy of a 24 MB model would stay resident for good.
                interpreter = runtime.Interpreter(model_path=str(file), num_threads=threads)
                interpreter.allocate_tensors()
        except (ImportError, AttributeError, RuntimeError, ValueError, SystemError) as error:
            failures.append(f"{name}: {error}")
            continue
        return interpreter
    raise ModelError(
        f"{file}: no interpreter could load it ({'; '.join(failures)}); install ai-edge-litert "
        "(or, on armv7l, the extra `tflite`, which needs numpy below 2)"
    )


def _only(details: list[Any], file: Path, side: str) -> Any:
    if len(details) != 1:
        raise ModelError(f"{file}: has {len(details)} {side} tensors; expected one")
    return details[0]


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Swallow what the C++ runtime writes straight to descriptor 2 while an interpreter is built.

    It announces its delegate for every process, which reads like an error in a journal. Models
    are loaded at start, before other threads could have something to say there.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(silence)
