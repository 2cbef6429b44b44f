"""Quantizes the weights of chosen convolutions of a float TFLite file, and nothing else.

The converter's own dynamic range takes every weight tensor. A depthwise convolution with
integer weights then has no fast kernel and splits the graph in twelve; leaving the (small)
depthwise weights in float halved SFace's time and raised its cosine to the float network.
"""

from __future__ import annotations

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

MIN_INPUT_CHANNELS = 8
"""A convolution over fewer (the first, over RGB) stays in float: it has 2 kB and sees the picture itself."""


def quantise_convolutions(tflite: bytes) -> bytes:
    """The file with the kernels of its CONV_2Ds as int8, symmetric, one scale per output channel.

    The interpreter quantizes their inputs as they come (dynamic range).
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    graph = model.subgraphs[0]
    for operator in graph.operators:
        kernel = graph.tensors[operator.inputs[1]] if len(operator.inputs) > 1 else None
        is_convolution = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) == "CONV_2D"
        if kernel is not None and is_convolution and kernel.shape[-1] >= MIN_INPUT_CHANNELS:
            _quantise(kernel, model.buffers[kernel.buffer])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _quantise(kernel: schema.TensorT, buffer: schema.BufferT) -> None:
    values = np.frombuffer(buffer.data.tobytes(), np.float32).reshape(kernel.shape)
    scale = np.abs(values).max(axis=(1, 2, 3)) / 127
    levels = np.clip(np.rint(values / scale[:, None, None, None]), -127, 127).astype(np.int8)
    buffer.data = np.frombuffer(levels.tobytes(), np.uint8)
    kernel.type = schema.TensorType.INT8
    kernel.quantization = schema.QuantizationParametersT()
    kernel.quantization.scale = scale.astype(np.float32)
    kernel.quantization.zeroPoint = np.zeros(len(scale), np.int64)
    kernel.quantization.quantizedDimension = 0
