"""The networks that the sparsity benchmarks train, in either generation of Keras.

Each function takes the module `keras` or `tf_keras` and returns the same layers with the same
order of weights, so that `set_weights` carries one's into the other.
"""

from typing import Any


def lenet_300_100(keras: Any) -> Any:
    """LeCun et al., 1998: 784-300-100-10, 266,610 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(300, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )


def lenet_5(keras: Any) -> Any:
    """LeCun et al., 1998, with ReLU and maximum pooling: 61,706 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10),
        ]
    )


def fashion_convnet(keras: Any) -> Any:
    """Two convolutions and two dense layers: 108,618 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def convnet(keras: Any) -> Any:
    """A small convnet on 28² images: 57,352 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(58, activation="relu"),
            layers.Dense(10),
        ]
    )


def mlp(keras: Any) -> Any:
    """A wide perceptron on 784 features: 1,863,690 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(1024, activation="relu"),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10),
        ]
    )


def mobilenet(keras: Any) -> Any:
    """MobileNetV2 of half width for 96² images, untrained."""
    return keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.5, weights=None, classes=10, classifier_activation=None
    )


def one_dense(keras: Any, inputs: int, outputs: int) -> Any:
    """A single kernel of inputs × outputs weights."""
    layer = keras.layers.Dense(outputs, use_bias=False)
    return keras.Sequential([keras.Input((inputs,)), layer])


def resnet_8(keras: Any) -> Any:
    """Three residual blocks of 16, 32 and 64 channels on 28² images: 77,850 parameters."""
    layers = keras.layers
    inputs = keras.Input((28, 28, 1))

    def normed(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        # Its statistics have to follow a training of a few hundred steps.
        return layers.BatchNormalization(momentum=0.9)(x)

    x = layers.ReLU()(normed(inputs, 16, 3, 2))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        shortcut = x if strides == 1 else normed(x, filters, 1, strides)
        x = layers.ReLU()(normed(x, filters, 3, strides))
        x = layers.ReLU()(layers.Add()([shortcut, normed(x, filters, 3)]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
