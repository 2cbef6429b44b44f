"""Reads the tensors of a `.pth` file, and can do nothing else.

Such a file is a pickle: a program for a stack machine, which may call any function of
Python. This one is interpreted here, operation by operation, by a machine that knows only
those which weights need and four names, none of which it looks up: everything else is
refused. (PyTorch's own format before 1.6: magic number, protocol version, system's sizes,
a dictionary of tensors that point into storages, the storages' keys, then their bytes.)
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_FILE_BYTES = 16 * 2**20
"""The two files have 1.9 MB each."""

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

TENSOR = "torch._utils _rebuild_tensor_v2"
DICTIONARY = "collections OrderedDict"
STORAGES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch LongStorage": np.dtype("<i8"),
}
"""The only names that a file may mention."""

MARK = object()


class NotWeights(Exception):
    """The file asks for something else than tensors, or is damaged."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that was mentioned; nothing is imported."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """The file's tensors by name. Raises NotWeights."""
    if len(data) > MAX_FILE_BYTES:
        raise NotWeights(f"{len(data)} bytes; weights of this kind have at most {MAX_FILE_BYTES}")
    stream = io.BytesIO(data)
    if (_load(stream), _load(stream)) != (MAGIC, PROTOCOL):
        raise NotWeights("not of PyTorch's format before 1.6")
    sizes = _load(stream)
    if not isinstance(sizes, dict) or sizes.get("little_endian") is not True:
        raise NotWeights("not written on a little-endian machine")
    tensors, keys = _load(stream), _load(stream)
    if not isinstance(tensors, dict) or not all(isinstance(t, _Tensor) for t in tensors.values()):
        raise NotWeights("holds something else than tensors")
    storages = _read_storages(stream, keys, {t.storage.key: t.storage for t in tensors.values()})
    return {str(name): _cut_out(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_storages(stream: io.BytesIO, keys: Any, named: dict[str, _Storage]) -> dict[str, NDArray[Any]]:
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(named):
        raise NotWeights("its list of storages is not that of its tensors")
    found = {}
    for key in keys:
        storage = named[key]
        length = int.from_bytes(stream.read(8), "little")
        content = stream.read(length * storage.dtype.itemsize) if length == storage.length else b""
        if len(content) != storage.length * storage.dtype.itemsize:
            raise NotWeights(f"storage {key} does not have its {storage.length} numbers")
        found[key] = np.frombuffer(content, storage.dtype)
    if stream.read(1):
        raise NotWeights("goes on after its last storage")
    return found


def _cut_out(tensor: _Tensor, numbers: NDArray[Any]) -> NDArray[Any]:
    end = tensor.offset + math.prod(tensor.shape)
    if end > len(numbers):
        raise NotWeights(f"a tensor of {tensor.shape} reaches beyond its storage")
    return numbers[tensor.offset : end].reshape(tensor.shape)


def _load(stream: io.BytesIO) -> Any:
    """The value that one pickle of the allowed kind builds."""
    machine = _Machine()
    try:
        while code := stream.read(1):
            if code == STOP:
                return machine.pop()
            if code not in _OPERATIONS:
                raise NotWeights(f"asks for operation {code!r}, which weights do not need")
            read, step = _OPERATIONS[code]
            step(machine, read(stream))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise NotWeights(f"damaged: {error}") from error
    raise NotWeights("ends early")


class _Machine:
    """A stack and a memory."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Everything above the last mark, and the mark with it."""
        place = len(self._stack) - 1 - self._stack[::-1].index(MARK)
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def remember(self, place: int) -> None:
        self._memory[place] = self._stack[-1]

    def recall(self, place: int) -> None:
        self.push(self._memory[place])

    def name(self, name: str) -> None:
        if name not in (TENSOR, DICTIONARY, *STORAGES):
            raise NotWeights(f"mentions {name!r}, which weights do not need")
        self.push(_Name(name))

    def storage(self) -> None:
        """A persistent id: ("storage", kind, key, device, length, nothing)."""
        word, kind, key, _device, length, view = self.pop()
        if word != "storage" or view is not None or kind.name not in STORAGES:
            raise NotWeights("has a storage of an unknown form")
        if not 0 <= length <= MAX_FILE_BYTES:
            raise NotWeights(f"has a storage of {length} numbers")
        self.push(_Storage(str(key), STORAGES[kind.name], int(length)))

    def call(self) -> None:
        """Only two things can be called: an empty dictionary, and a tensor that lies in one piece."""
        arguments, called = self.pop(), self.pop()
        match called, arguments:
            case _Name(name=name), () if name == DICTIONARY:
                self.push({})
            case _Name(name=name), (_Storage() as storage, int(offset), tuple(shape), tuple(steps), *_) if (
                name == TENSOR and offset >= 0 and steps == _steps_in_one_piece(shape)
            ):
                self.push(_Tensor(storage, offset, shape))
            case _:
                raise NotWeights(f"calls {called!r} in a way that weights do not need")

    def append(self, values: list[Any]) -> None:
        self._stack[-1] += list(values)

    def put(self, items: list[Any]) -> None:
        self._stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _steps_in_one_piece(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a tensor whose last index runs fastest. Sides must be whole numbers above 0."""
    if not all(isinstance(side, int) and side > 0 for side in shape):
        raise NotWeights(f"has a tensor of shape {shape}")
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _pair(machine: _Machine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _number(size: int, *, signed: bool = False) -> Callable[[io.BytesIO], int]:
    """Reads a whole number of so many bytes."""

    def read(stream: io.BytesIO) -> int:
        return int.from_bytes(_exactly(stream, size), "little", signed=signed)

    return read


def _exactly(stream: io.BytesIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise NotWeights("ends early")
    return content


def _long(stream: io.BytesIO) -> int:
    return int.from_bytes(_exactly(stream, _number(1)(stream)), "little", signed=True)


def _text(stream: io.BytesIO) -> str:
    return _exactly(stream, _number(4)(stream)).decode("utf-8")


def _global(stream: io.BytesIO) -> str:
    """Module and name, each ended by a newline."""
    return b" ".join(stream.readline().removesuffix(b"\n") for _ in range(2)).decode("utf-8")


def _nothing(_: io.BytesIO) -> None:
    return None


Operation = tuple[Callable[[io.BytesIO], Any], Callable[[_Machine, Any], object]]
"""How its argument is read, and what it does."""

STOP = b"."

_OPERATIONS: dict[bytes, Operation] = {
    b"\x80": (_number(1), lambda machine, _: None),  # the protocol's number
    b"\x8a": (_long, _Machine.push),
    b"J": (_number(4, signed=True), _Machine.push),
    b"K": (_number(1), _Machine.push),
    b"M": (_number(2), _Machine.push),
    b"X": (_text, _Machine.push),
    b"N": (_nothing, _Machine.push),
    b"\x88": (_nothing, lambda machine, _: machine.push(True)),
    b"\x89": (_nothing, lambda machine, _: machine.push(False)),
    b"(": (_nothing, lambda machine, _: machine.push(MARK)),
    b")": (_nothing, lambda machine, _: machine.push(())),
    b"t": (_nothing, lambda machine, _: machine.push(tuple(machine.pop_to_mark()))),
    b"\x85": (_nothing, lambda machine, _: machine.tuple_of(1)),
    b"\x86": (_nothing, lambda machine, _: machine.tuple_of(2)),
    b"]": (_nothing, lambda machine, _: machine.push([])),
    b"a": (_nothing, lambda machine, _: machine.append([machine.pop()])),
    b"e": (_nothing, lambda machine, _: machine.append(machine.pop_to_mark())),
    b"}": (_nothing, lambda machine, _: machine.push({})),
    b"s": (_nothing, lambda machine, _: machine.put(_pair(machine))),
    b"u": (_nothing, lambda machine, _: machine.put(machine.pop_to_mark())),
    b"q": (_number(1), _Machine.remember),
    b"r": (_number(4), _Machine.remember),
    b"h": (_number(1), _Machine.recall),
    b"j": (_number(4), _Machine.recall),
    b"c": (_global, _Machine.name),
    b"Q": (_nothing, lambda machine, _: machine.storage()),
    b"R": (_nothing, lambda machine, _: machine.call()),
    # What a dictionary is to be given besides its content (PyTorch: versions of layers) is dropped.
    b"b": (_nothing, lambda machine, _: machine.pop()),
}
"""Opcodes of pickle protocol 2 (PEP 307; CPython's Lib/pickletools.py describes them)."""
