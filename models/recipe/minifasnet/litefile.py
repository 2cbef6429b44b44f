"""Writes a network as a TensorFlow Lite file, operation by operation, with the flatbuffer's own schema.

For a network of a few kinds of layers this takes milliseconds and no TensorFlow: only the
schema's Python classes, which come with the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

Values = NDArray[np.float32]
Operators = schema.BuiltinOperator
Shape = tuple[int, ...]


class LiteFile:
    """One graph, built from its input on. Tensors are numbers; images are (1, height, width, channels)."""

    def __init__(self, description: str, input_shape: Shape, *, half: bool) -> None:
        self._description = description
        self._half = half
        self._buffers = [schema.BufferT()]  # the first is empty by convention
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self.input = self._tensor(input_shape, "input")

    def shape(self, tensor: int) -> Shape:
        return tuple(int(side) for side in self._tensors[tensor].shape)

    def convolution(self, x: int, kernel: Values, bias: Values, stride: int, pad: int) -> int:
        """Kernel (out, height, width, in), or for a depthwise one (1, height, width, channels)."""
        depthwise = kernel.shape[0] == 1 and bias.size == kernel.shape[3] > 1
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.VALID
        if depthwise:
            options.depthMultiplier = 1
        if pad and stride == 1:
            options.padding = schema.Padding.SAME
        elif pad:
            # SAME is asymmetric at stride 2; the original's padding never is.
            x = self._pad(x, pad)
            pad = 0
        _, height, width, _ = self.shape(x)
        rows, columns = ((side + 2 * pad - kernel.shape[1]) // stride + 1 for side in (height, width))
        return self._operator(
            Operators.DEPTHWISE_CONV_2D if depthwise else Operators.CONV_2D,
            (x, self._weights(kernel), self._constant(bias)),
            (1, rows, columns, bias.size),
            options,
        )

    def prelu(self, x: int, slope: Values) -> int:
        return self._operator(
            Operators.PRELU, (x, self._constant(slope.reshape(1, 1, -1))), self.shape(x), None
        )

    def relu(self, x: int) -> int:
        return self._operator(Operators.RELU, (x,), self.shape(x), None)

    def sigmoid(self, x: int) -> int:
        return self._operator(Operators.LOGISTIC, (x,), self.shape(x), None)

    def add(self, x: int, y: int) -> int:
        return self._operator(Operators.ADD, (x, y), self.shape(x), schema.AddOptionsT())

    def multiply(self, x: int, y: int) -> int:
        return self._operator(Operators.MUL, (x, y), self.shape(x), schema.MulOptionsT())

    def mean_over_picture(self, x: int) -> int:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        axes = self._constant(np.array([1, 2], np.int32))
        return self._operator(Operators.MEAN, (x, axes), (1, 1, 1, self.shape(x)[3]), options)

    def dense(self, x: int, matrix: Values, bias: Values) -> int:
        """Matrix (out, in)."""
        return self._operator(
            Operators.FULLY_CONNECTED,
            (x, self._weights(matrix), self._constant(bias)),
            (1, bias.size),
            schema.FullyConnectedOptionsT(),
        )

    def softmax(self, x: int) -> int:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self._operator(Operators.SOFTMAX, (x,), self.shape(x), options)

    def content(self, output: int) -> bytes:
        """The file's bytes."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [self.input], [output]
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, self._description
        model.operatorCodes = [_code(operator) for operator in self._codes]
        model.subgraphs, model.buffers = [graph], self._buffers
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _pad(self, x: int, pad: int) -> int:
        _, height, width, channels = self.shape(x)
        margins = self._constant(np.array([[0, 0], [pad, pad], [pad, pad], [0, 0]], np.int32))
        shape = (1, height + 2 * pad, width + 2 * pad, channels)
        return self._operator(Operators.PAD, (x, margins), shape, schema.PadOptionsT())

    def _weights(self, values: Values) -> int:
        """A kernel: in half precision where the file is, and then widened by an operation of its own."""
        if not self._half:
            return self._constant(values)
        return self._operator(
            Operators.DEQUANTIZE, (self._constant(values.astype(np.float16)),), values.shape, None
        )

    def _constant(self, values: NDArray[Any]) -> int:
        kinds = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32"}
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self._tensor(
            values.shape, "", getattr(schema.TensorType, kinds[values.dtype.name]), len(self._buffers) - 1
        )

    def _tensor(
        self, shape: Sequence[int], name: str, kind: int = schema.TensorType.FLOAT32, buffer: int = 0
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), kind, buffer
        tensor.name = name or f"t{len(self._tensors)}"
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _operator(self, code: int, inputs: Sequence[int], shape: Shape, options: Any) -> int:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        output = self._tensor(shape, "")
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self._operators.append(operator)
        return output


def _code(operator: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = operator
    # Readers older than the 128th operator look here.
    code.deprecatedBuiltinCode = operator
    code.version = 2 if operator == Operators.DEQUANTIZE else 1
    return code
