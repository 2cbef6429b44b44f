"""YuNet, the face detector, rebuilt from its ONNX file as float32 TFLite.

The published graph is fixed to 640x640 by its Reshape nodes alone; everything else is
convolutional. So the 53 convolutions are replayed in channels-last order at any input
size that is a multiple of 32, with the very same weights, and the Transposes before the
Reshapes vanish. The twelve outputs become one, so that the daemon reads one tensor:
`(1, cells, 16)`, the cells of stride 8 row by row, then those of 16, then of 32; the
columns cls, obj, four of bbox, ten of kps. Nothing is quantized: the file is 240 kB, and
int8 would blur keypoints.

Runs only inside the throw-away environment of `build.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper

INPUT_SIZES = {"yunet_160x160": (160, 160), "yunet_256x320": (256, 320), "yunet_480x640": (480, 640)}
"""Manifest key to height and width in pixels."""

STRIDES = (8, 16, 32)
HEADS = ("cls", "obj", "bbox", "kps")

LARGEST_DEVIATION = 1e-4
"""Largest difference to onnxruntime that passes, relative to max(1, |value|)."""


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _convolution(x: Any, node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> Any:
    attributes = _attributes(node)
    kernel, bias = weights[node.input[1]], weights[node.input[2]]
    pad, stride = attributes["pads"][0], attributes["strides"][0]
    if pad:
        # TensorFlow's own SAME padding is asymmetric at stride 2, PyTorch's never is.
        if stride == 1:
            padding: Any = "SAME"
        else:
            x, padding = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]]), "VALID"
    else:
        padding = "VALID"
    if attributes["group"] == 1:
        y = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, padding)
    else:
        y = tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), [1, stride, stride, 1], padding)
    return tf.nn.bias_add(y, bias)


def _replay(image: Any, graph: onnx.GraphProto, weights: dict[str, np.ndarray]) -> Any:
    """The one output for a (1, height, width, 3) float32 BGR picture in 0..255."""
    values: dict[str, Any] = {graph.input[0].name: image}
    for node in graph.node:
        x = values[node.input[0]]
        match node.op_type:
            case "Conv":
                y = _convolution(x, node, weights)
            case "Relu":
                y = tf.nn.relu(x)
            case "MaxPool":
                y = tf.nn.max_pool2d(x, 2, 2, "VALID")
            case "Resize":
                height, width = x.shape[1] * 2, x.shape[2] * 2
                y = tf.raw_ops.ResizeNearestNeighbor(images=x, size=[height, width])
            case "Add":
                y = x + values[node.input[1]]
            case "Transpose":
                y = x  # already channels-last
            case "Reshape":
                y = tf.reshape(x, [1, -1, x.shape[-1]])
            case "Sigmoid":
                y = tf.sigmoid(x)
            case other:
                raise ValueError(f"YuNet's graph has an unexpected node: {other}")
        values[node.output[0]] = y
    rows = [tf.concat([values[f"{head}_{stride}"] for head in HEADS], axis=2) for stride in STRIDES]
    return tf.concat(rows, axis=1)


def convert(source: Path, size: tuple[int, int]) -> bytes:
    """TFLite bytes with input (1, height, width, 3) and one output."""
    graph = onnx.load(source).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    @tf.function(input_signature=[tf.TensorSpec((1, *size, 3), tf.float32, name="image")])
    @tf.autograph.experimental.do_not_convert
    def forward(image: Any) -> Any:
        return _replay(image, graph, weights)

    module = tf.Module()
    module.forward = forward
    converter = tf.lite.TFLiteConverter.from_concrete_functions([forward.get_concrete_function()], module)
    return bytes(converter.convert())


def onnx_output(source: Path, image: np.ndarray) -> np.ndarray:
    """What onnxruntime gives for a (1, height, width, 3) float32 picture, in the order of `convert`."""
    model = onnx.load(source)
    _, height, width, _ = image.shape
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    dimensions[2].dim_value, dimensions[3].dim_value = height, width
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells of {output.name}"
    del model.graph.value_info[:]  # the shapes written there are those of 640x640
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int64 and values.shape == (3,):  # where a Reshape goes
            open_shape = np.array([1, -1, values[2]], np.int64)
            tensor.CopyFrom(numpy_helper.from_array(open_shape, tensor.name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [f"{head}_{stride}" for stride in STRIDES for head in HEADS]
    heads = session.run(names, {"input": image.transpose(0, 3, 1, 2)})
    rows = [np.concatenate(heads[i : i + len(HEADS)], axis=2) for i in range(0, len(heads), len(HEADS))]
    return np.concatenate(rows, axis=1)


def largest_deviation(source: Path, tflite: bytes, images: list[np.ndarray]) -> float:
    """Largest |TFLite - onnxruntime| / max(1, |onnxruntime|) over all outputs of some pictures."""
    interpreter = Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    worst = 0.0
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        expected = onnx_output(source, image)
        worst = max(worst, float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected)))))
    return worst
