"""FaceNet (Inception-ResNet-v1), from its Keras file to full-integer TFLite.

The file is of Keras 2.1: its Lambda layers hold bytecode of Python 3.6, which no Python
of today can run. They all mean "first + second * scale". So the layers are replayed from
the file's own description, with the weights from the file, and two things are folded on
the way because int8 is kinder to fewer operations: each batch norm into the convolution
before it, and each residual's scale into its last convolution.

Runs only inside the throw-away environment of `build.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

INPUT_SHAPE = (1, 160, 160, 3)

FILE = "model/facenet_keras.h5"
"""In its package."""


class Layers:
    """The layers of a Keras file: their description in order, and their weights by name."""

    def __init__(self, file: Path) -> None:
        with h5py.File(file, "r") as stored:
            self.config = json.loads(stored.attrs["model_config"])["config"]
            self._weights: dict[str, dict[str, np.ndarray]] = {}
            for name, group in stored["model_weights"].items():
                paths = [path.decode() for path in group.attrs["weight_names"]]
                self._weights[name] = {
                    path.split("/")[-1].split(":")[0]: np.array(group[path]) for path in paths
                }
        self.by_name = {layer["name"]: layer for layer in self.config["layers"]}

    def weights(self, name: str) -> dict[str, np.ndarray]:
        return self._weights[name]

    def sources(self, name: str) -> list[str]:
        nodes = self.by_name[name]["inbound_nodes"]
        return [source[0] for source in nodes[0]] if nodes else []

    @property
    def output(self) -> str:
        return str(self.config["output_layers"][0][0])


class Replay:
    """Evaluates layers by name, once each, from the output back to the picture."""

    def __init__(self, layers: Layers, image: Any) -> None:
        self._layers = layers
        self._values: dict[str, Any] = {layers.config["input_layers"][0][0]: image}

    def run(self) -> Any:
        for layer in self._layers.config["layers"]:
            if layer["class_name"] not in ("InputLayer", "Conv2D", "Dense"):
                self._values[layer["name"]] = self._layer(layer)
        return self._values[self._layers.output]

    def _layer(self, layer: dict[str, Any]) -> Any:
        name, settings = layer["name"], layer["config"]
        sources = self._layers.sources(name)
        match layer["class_name"]:
            case "BatchNormalization":
                result = self._normed(sources[0], name, settings["epsilon"])
            case "Activation":
                activation = {"relu": tf.nn.relu, "linear": tf.identity}[settings["activation"]]
                result = activation(self._value(sources[0]))
            case "MaxPooling2D":
                window, padding = settings["pool_size"], settings["padding"].upper()
                result = tf.nn.max_pool2d(self._value(sources[0]), window, settings["strides"], padding)
            case "Concatenate":
                result = tf.concat([self._value(source) for source in sources], axis=settings["axis"])
            case "Lambda":
                result = self._value(sources[0]) + self._linear(sources[1], settings["arguments"]["scale"])
            case "GlobalAveragePooling2D":
                result = tf.reduce_mean(self._value(sources[0]), axis=[1, 2])
            case "Dropout":
                result = self._value(sources[0])
            case other:
                raise ValueError(f"FaceNet's file has an unexpected layer: {name} ({other})")
        return result

    def _value(self, name: str) -> Any:
        """A layer's output; convolutions are made where they are used, with what follows folded in."""
        if name not in self._values:
            self._values[name] = self._linear(name)
        return self._values[name]

    def _normed(self, name: str, norm: str, epsilon: float) -> Any:
        weights = self._layers.weights(norm)
        gain = weights.get("gamma", 1) / np.sqrt(weights["moving_variance"] + epsilon)
        return self._linear(name, gain, weights["beta"] - weights["moving_mean"] * gain)

    def _linear(self, name: str, gain: Any = 1.0, shift: Any = 0.0) -> Any:
        """Convolution or Dense `name`, then * gain + shift, as one operation."""
        layer, weights = self._layers.by_name[name], self._layers.weights(name)
        settings = layer["config"]
        if settings["activation"] != "linear":
            raise ValueError(f"FaceNet's file has an unexpected activation in {name}")
        kernel = (weights["kernel"] * gain).astype(np.float32)
        bias = np.broadcast_to(weights.get("bias", 0) * gain + shift, kernel.shape[-1:]).astype(np.float32)
        x = self._value(self._layers.sources(name)[0])
        if layer["class_name"] == "Dense":
            return tf.matmul(x, kernel) + bias
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, settings["strides"], settings["padding"].upper()), bias)


def float_network(source: Path) -> tuple[Callable[[np.ndarray], np.ndarray], tf.Module]:
    """The network in float, for a (1, 160, 160, 3) normalised RGB crop; and as a module to convert."""
    layers = Layers(source)

    @tf.function(input_signature=[tf.TensorSpec(INPUT_SHAPE, tf.float32, name="face")])
    @tf.autograph.experimental.do_not_convert
    def forward(face: Any) -> Any:
        return Replay(layers, face).run()

    module = tf.Module()
    module.forward = forward
    return (lambda crop: forward(tf.constant(crop)).numpy()[0]), module
