"""The residual networks of He et al. (2016) for 32² images, in Keras.

Every convolution has a BatchNormalization and no bias; where the size changes, the shortcut is a
1×1 convolution. Layers are called what they are called in `peers/torch_networks.py`.
"""

from typing import Any

import keras
from keras import layers

MOMENTUM = 0.9  # Keras's 0.99 would still remember the statistics of a hundred steps ago.


def resnet_8() -> Any:
    """One block a stage: 78,714 parameters."""
    return residual(1)


def resnet_20() -> Any:
    """Three blocks a stage: 274,042 parameters."""
    return residual(3)


def fashion_convnet() -> Any:
    """The convnet of networks.py: 108,618 parameters, no BatchNormalization."""
    from networks import fashion_convnet as build

    return build(keras)


def residual(blocks: int) -> Any:
    """Three stages of 16, 32 and 64 channels, of so many blocks each."""
    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(normed(image, "stem", 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            name = f"block{stage}{block}"
            strides = 2 if stage and not block else 1
            shortcut = x if strides == 1 else normed(x, f"{name}.shortcut", filters, 1, strides)
            x = layers.ReLU()(normed(x, f"{name}.first", filters, 3, strides))
            x = layers.ReLU()(layers.Add()([shortcut, normed(x, f"{name}.second", filters, 3)]))
    pooled = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(pooled))


def normed(x: Any, name: str, filters: int, size: int, strides: int = 1) -> Any:
    """A convolution and its BatchNormalization."""
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, name=f"{name}.conv")(
        x
    )
    return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}.norm")(x)
