"""The networks of cifar_networks.py in PyTorch, and Keras's weights carried over to them.

TensorFlow pads a 3×3 convolution of stride 2 below and to the right only, so it is padded by hand.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

EPSILON = 1e-3  # Keras's; PyTorch's is 1e-5
MOMENTUM = 0.1  # of what is new, where Keras's 0.9 is of what is old


class Normed(nn.Module):
    """A convolution and its batch normalization."""

    def __init__(self, inputs: int, filters: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.early = size == 3 and stride == 2
        padding = size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, filters, size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(filters, EPSILON, MOMENTUM)

    def forward(self, x: Any) -> Any:
        """Pad as TensorFlow does, convolve, normalize."""
        if self.early:
            x = functional.pad(x, (0, 1, 0, 1))
        return self.norm(self.conv(x))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Identity() if stride == 1 else Normed(inputs, filters, 1, stride)
        self.first = Normed(inputs, filters, 3, stride)
        self.second = Normed(filters, filters, 3)

    def forward(self, x: Any) -> Any:
        """Two convolutions beside the shortcut."""
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x))))


def residual(blocks: int) -> nn.Sequential:
    """Three stages of 16, 32 and 64 channels, of so many blocks each."""
    parts: dict[str, nn.Module] = {"stem": Normed(3, 16, 3), "relu": nn.ReLU()}
    width = 16
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            parts[f"block{stage}{block}"] = Block(width, filters, stride)
            width = filters
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "logits": nn.Linear(64, 10)}
    return nn.Sequential(OrderedDict(parts))


def resnet_8() -> nn.Sequential:
    """One block a stage."""
    return residual(1)


def resnet_20() -> nn.Sequential:
    """Three blocks a stage."""
    return residual(3)


def fashion_convnet() -> nn.Sequential:
    """Two convolutions and two dense layers, called what Keras calls them by itself."""
    parts = {
        "conv2d": nn.Conv2d(1, 16, 3), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(2),
        "conv2d_1": nn.Conv2d(16, 32, 3), "relu2": nn.ReLU(), "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(), "dense": nn.Linear(800, 128), "relu3": nn.ReLU(),
        "dense_1": nn.Linear(128, 10),
    }  # fmt: skip
    return nn.Sequential(OrderedDict(parts))


KERAS = {
    nn.Conv2d: {"weight": "kernel", "bias": "bias"},
    nn.Linear: {"weight": "kernel", "bias": "bias"},
    nn.BatchNorm2d: {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
                     "running_var": "moving_variance"},
}  # fmt: skip
"""What Keras calls the tensors of a layer."""


def tensors_of(model: nn.Module) -> dict[str, Any]:
    """All weights with the statistics, by Keras's names of layer and variable."""
    return {
        f"{name}/{theirs}": getattr(module, ours)
        for name, module in model.named_modules()
        for ours, theirs in KERAS.get(type(module), {}).items()
        if getattr(module, ours) is not None
    }


def carry_over(model: nn.Module, weights: Mapping[str, NDArray]) -> None:
    """Set Keras's weights, by names of layer and variable.

    Raises:
        ValueError: The networks differ.
    """
    tensors = tensors_of(model)
    if set(tensors) != set(weights):
        raise ValueError(f"only one has {sorted(set(tensors) ^ set(weights))}")
    channels = 0
    with torch.no_grad():
        for name, tensor in tensors.items():
            array = weights[name]
            if array.ndim == 4:
                array, channels = array.transpose(3, 2, 0, 1), array.shape[3]
            elif array.ndim == 2:
                array = dense_rows(array, channels).T
                channels = len(array)
            if tensor.shape != array.shape:
                raise ValueError(f"{name}: {tuple(tensor.shape)} in PyTorch, not {array.shape}")
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def dense_rows(kernel: NDArray, channels: int) -> NDArray:
    """Rows in the order of PyTorch's Flatten, channels before height and width."""
    rows, width = kernel.shape
    places = rows // channels
    return kernel.reshape(places, channels, width).swapaxes(0, 1).reshape(rows, width)
