"""From a network in float to TFLite bytes: as it is, or quantized in one of several ways.

The converter's own dynamic range takes every weight tensor. A depthwise convolution with
integer weights then has no fast kernel and splits the graph in twelve; leaving the (small)
depthwise weights in float, `quantise_convolutions` halved SFace's time and raised its
cosine to the float network. What each way is worth: `make quantization`.

Runs only inside the throw-away environment of `build.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

MIN_INPUT_CHANNELS = 8
"""A convolution over fewer (the first, over RGB) stays in float: it has 2 kB and sees the picture itself."""


def in_float(module: tf.Module) -> bytes:
    """What `module.forward` computes, in float32."""
    return bytes(_converter(module).convert())


def dynamic_range(module: tf.Module) -> bytes:
    """Every weight tensor as int8, whatever is computed in float: the converter's own way."""
    converter = _converter(module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def full_integer(module: tf.Module, crops: Iterable[np.ndarray], per_channel: bool = True) -> bytes:
    """Weights and values as int8, with float input and output, ranges taken from normalised crops.

    Float at both ends costs nothing measurable and spares the crops one rounding rule more.
    """
    crops = list(crops)

    def examples() -> Iterable[list[np.ndarray]]:
        return ([crop] for crop in crops)

    converter = _converter(module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if not per_channel:
        # Nothing public asks for one scale a tensor.
        converter._experimental_disable_per_channel = True
    return bytes(converter.convert())


def _converter(module: tf.Module) -> Any:
    return tf.lite.TFLiteConverter.from_concrete_functions([module.forward.get_concrete_function()], module)


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
