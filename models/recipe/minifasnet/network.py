"""MiniFASNet, rebuilt from the names and shapes of its weights.

A MobileFaceNet for 80x80 pictures, pruned: each block widens by a 1x1 convolution, looks
by a depthwise 3x3 one, and narrows again; blocks of one stage add to what they were given,
and in the variant with squeeze and excitation (SE) each stage's last block weighs its channels
first. Every convolution is followed by a batch norm, which is folded into it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.recipe.minifasnet.litefile import LiteFile, Values

INPUT_SHAPE = (1, 80, 80, 3)

EPSILON = 1e-5
"""Of every batch norm: PyTorch's default."""

PREFIX = "module."
"""PyTorch's DataParallel, in which they were trained, puts it before every name."""

STAGES = (("conv_23", "conv_3"), ("conv_34", "conv_4"), ("conv_45", "conv_5"))
"""A block that halves the picture, and those that add to it."""

Weights = Mapping[str, NDArray[Any]]


def convert(tensors: Weights, description: str, *, half: bool) -> bytes:
    """The network as a TensorFlow Lite file: BGR 0..255 in, the softmax of three classes out.

    Weights are folded in double precision; with `half`, kernels are stored as float16.
    Raises KeyError or ValueError where the tensors are not those of a MiniFASNet.
    """
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    file = LiteFile(description, INPUT_SHAPE, half=half)
    x = _unit(file, file.input, weights, "conv1", stride=2, pad=1)
    x = _unit(file, x, weights, "conv2_dw", stride=1, pad=1)
    for halving, adding in STAGES:
        x = _block(file, x, weights, halving, stride=2)
        for number in range(_blocks(weights, adding)):
            name = f"{adding}.model.{number}"
            more = _block(file, x, weights, name, stride=1)
            x = file.add(x, _weighed(file, more, weights, f"{name}.se_module"))
    x = _unit(file, x, weights, "conv_6_sep", stride=1, pad=0)
    x = _unit(file, x, weights, "conv_6_dw", stride=1, pad=0)
    return file.content(file.softmax(_head(file, x, weights)))


def _blocks(weights: Weights, stage: str) -> int:
    return len({name.split(".")[2] for name in weights if name.startswith(f"{stage}.model.")})


def _block(file: LiteFile, x: int, weights: Weights, name: str, *, stride: int) -> int:
    x = _unit(file, x, weights, f"{name}.conv", stride=1, pad=0)
    x = _unit(file, x, weights, f"{name}.conv_dw", stride=stride, pad=1)
    return _unit(file, x, weights, f"{name}.project", stride=1, pad=0)


def _unit(file: LiteFile, x: int, weights: Weights, name: str, *, stride: int, pad: int) -> int:
    """Convolution, batch norm and, where it has one, PReLU."""
    kernel, bias = _folded(weights, f"{name}.conv", f"{name}.bn")
    x = file.convolution(x, kernel, bias, stride, pad)
    slope = weights.get(f"{name}.prelu.weight")
    return x if slope is None else file.prelu(x, slope.astype(np.float32))


def _weighed(file: LiteFile, x: int, weights: Weights, name: str) -> int:
    """Squeeze and excitation (Hu et al., CVPR 2018), where this block has it."""
    if f"{name}.fc1.weight" not in weights:
        return x
    squeezed = file.mean_over_picture(x)
    inner = file.relu(file.convolution(squeezed, *_folded(weights, f"{name}.fc1", f"{name}.bn1"), 1, 0))
    outer = file.convolution(inner, *_folded(weights, f"{name}.fc2", f"{name}.bn2"), 1, 0)
    return file.multiply(x, file.sigmoid(outer))


def _head(file: LiteFile, x: int, weights: Weights) -> int:
    """Linear, batch norm and linear again are one matrix."""
    gain, shift = _norm(weights, "bn")
    inner = weights["linear.weight"].astype(np.float64) * gain[:, np.newaxis]
    outer = weights["prob.weight"].astype(np.float64)
    return file.dense(x, (outer @ inner).astype(np.float32), (outer @ shift).astype(np.float32))


def _folded(weights: Weights, convolution: str, norm: str) -> tuple[Values, Values]:
    """Kernel and bias of a convolution with its norm in it, as TensorFlow Lite orders them."""
    gain, shift = _norm(weights, norm)
    kernel = weights[f"{convolution}.weight"].astype(np.float64) * gain[:, np.newaxis, np.newaxis, np.newaxis]
    depthwise = kernel.shape[1] == 1 and kernel.shape[2] > 1
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    return kernel.transpose(order).astype(np.float32), shift.astype(np.float32)


def _norm(weights: Weights, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch norm as gain and shift."""
    gamma, beta, mean, variance = (
        weights[f"{name}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gamma / np.sqrt(variance + EPSILON)
    return gain, beta - mean * gain
