"""For every layer class with a rule: a small model that has it between two Dense layers.

A new rule needs a line here. The layer is called on the output of `Dense(8, name="before")`, and
`Dense(4)` reads what it gives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from tfprune.graph.tracing.masks import MaskOf, WithMask
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.structure.gates.layers import ChannelGate, HeadGate

WIDTH = 8
ROW, LINE, IMAGE, VOLUME = (4,), (6, 4), (6, 6, 4), (4, 4, 4, 3)


@dataclass(frozen=True)
class Example:
    """How a layer is called between two Dense layers.

    Attributes:
        shape: Of the input, without the batch.
        call: Takes what the first Dense layer gives, and returns what the second one takes.
        frozen: What the reason says where the units of the first layer stay because of the
            layer; "" where half of them go.
        first: The layer is the first itself, of `call`'s own making, on the input: it takes no
            output of a Dense layer.
    """

    shape: tuple[int, ...]
    call: Callable[[Any], Any]
    frozen: str = ""
    first: bool = False

    def model(self) -> keras.Model:
        """The model, built anew."""
        inputs = keras.Input(self.shape, dtype="int32" if self.first else "float32")
        x = inputs if self.first else kl.Dense(WIDTH, name="before")(inputs)
        return keras.Model(inputs, kl.Dense(4, name="after")(self.call(x)))


def _one(shape: tuple[int, ...], *layers: str, **options: Any) -> dict[str, Example]:
    """Layers of these names, made with the same options, on one tensor."""

    def call(name: str) -> Callable[[Any], Any]:
        return lambda x: getattr(kl, name)(**options, name="middle")(x)

    return {name: Example(shape, call(name)) for name in layers}


def _space(name: str, **options: Any) -> dict[str, Example]:
    """Layers of one, two and three dimensions of space, as far as this Keras has them."""
    shapes = {f"{name}1D": LINE, f"{name}2D": IMAGE, f"{name}3D": VOLUME}
    there = {key: shape for key, shape in shapes.items() if hasattr(kl, key)}
    return {key: _one(shape, key, **options)[key] for key, shape in there.items()}


def _two(shape: tuple[int, ...], *layers: str, **options: Any) -> dict[str, Example]:
    """Layers that take a list: here a tensor and its negative."""

    def call(name: str) -> Callable[[Any], Any]:
        return lambda x: getattr(kl, name)(**options, name="middle")([x, -x])

    return {name: Example(shape, call(name)) for name in layers}


def _convolutional_lstm(name: str, shape: tuple[int, ...]) -> Example:
    return Example(shape, lambda x: getattr(kl, name)(8, 2, name="middle")(x))


EXAMPLES: Mapping[str, Example] = {
    **_one(ROW, "Dense", units=8),
    **_one(LINE, "EinsumDense", equation="abc,cd->abd", output_shape=(6, 8)),
    "Embedding": Example(
        (6,), lambda ids: kl.Dense(8)(kl.Embedding(5, 8, name="before")(ids)), first=True
    ),
    "ReversibleEmbedding": Example(
        (6,),
        lambda ids: kl.Dense(8)(kl.ReversibleEmbedding(5, 8, name="before")(ids)),
        first=True,
    ),
    **_space("Conv", filters=8, kernel_size=2),
    **{f"Conv{n}Transpose": Example(s, lambda x, n=n: getattr(kl, f"Conv{n}Transpose")(8, 2)(x))
       for n, s in (("1D", LINE), ("2D", IMAGE), ("3D", VOLUME))},
    **_space("DepthwiseConv", kernel_size=2),
    **_space("SeparableConv", filters=8, kernel_size=2),
    **_one(ROW, "Dropout", "GaussianDropout", "AlphaDropout", rate=0.1),
    **_one(ROW, "GaussianNoise", stddev=0.1),
    **_one(ROW, "ReLU", "ELU", "LeakyReLU", "ActivityRegularization", "Identity", "PReLU",
           "BatchNormalization", "LayerNormalization", "RMSNormalization",
           "UnitNormalization", "Softmax", "Flatten"),
    **_space("SpatialDropout", rate=0.1),
    **_one(LINE, "Masking"),
    **_one(ROW, "Activation", activation="tanh"),
    **_one(ROW, "Rescaling", scale=0.5),
    **_one(IMAGE, "GroupNormalization", groups=8),
    "Normalization": Example(
        ROW, lambda x: kl.Normalization(mean=[0.0] * 8, variance=[1.0] * 8)(x), "statistics"
    ),
    "SpectralNormalization": Example(
        ROW, lambda x: kl.SpectralNormalization(kl.Dense(8))(x), "divides its kernel by its singul"
    ),
    "LayerScale": Example(ROW, lambda x: LayerScale(0.1, WIDTH)(x)),
    "StochasticDepth": Example(ROW, lambda x: StochasticDepth(0.1)(x)),
    "CustomScaleLayer": Example(ROW, lambda x: CustomScaleLayer(0.1)([x, -x])),
    **_two(ROW, "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"),
    **_two(LINE, "Attention", "AdditiveAttention"),
    **_two(ROW, "Dot", axes=1),
    **_one(LINE, "Reshape", target_shape=(3, 16)),
    "Permute": Example(LINE, lambda x: kl.Permute((2, 1))(kl.Permute((2, 1))(x))),
    **_one(ROW, "RepeatVector", n=3),
    **_one(LINE, "SimpleRNN", "GRU", "LSTM", units=8),
    "RNN": Example(LINE, lambda x: kl.RNN([kl.LSTMCell(8), kl.GRUCell(6)], name="middle")(x)),
    "Bidirectional": Example(LINE, lambda x: kl.Bidirectional(kl.LSTM(8), name="middle")(x)),
    "ConvLSTM1D": _convolutional_lstm("ConvLSTM1D", (3, 6, 4)),
    "ConvLSTM2D": _convolutional_lstm("ConvLSTM2D", (3, 6, 6, 4)),
    "ConvLSTM3D": _convolutional_lstm("ConvLSTM3D", (2, 4, 4, 4, 3)),
    "TimeDistributed": Example(
        IMAGE, lambda x: kl.TimeDistributed(kl.Conv1D(8, 2), name="middle")(x)
    ),
    "MultiHeadAttention": Example(LINE, lambda x: kl.MultiHeadAttention(2, 4)(x, x)),
    "GroupedQueryAttention": Example(LINE, lambda x: kl.GroupQueryAttention(4, 4, 2)(x, x)),
    **_space("MaxPooling", pool_size=2),
    **_space("AveragePooling", pool_size=2),
    **_space("ZeroPadding"),
    **_space("Cropping"),
    **_space("UpSampling"),
    **_space("GlobalAveragePooling"),
    **_space("GlobalMaxPooling"),
    **_space("AdaptiveAveragePooling", output_size=2),
    **_space("AdaptiveMaxPooling", output_size=2),
    "ChannelGate": Example(ROW, lambda x: ChannelGate()(x)),
    "HeadGate": Example(
        LINE,
        lambda x: kl.Reshape((6, 24))(
            HeadGate()(kl.EinsumDense("btd,dhk->bthk", (None, 4, 6), name="heads")(x))
        ),
    ),
    "Weight": Example(
        ROW,
        lambda x: x * Weight((x.shape[-1],), initializer="random_normal")(x),
    ),
    "MaskOf": Example(
        LINE, lambda x: x * ops.cast(MaskOf()(kl.Masking()(x)), "float32")[..., None]
    ),
    "WithMask": Example(LINE, lambda x: WithMask()([x, MaskOf()(kl.Masking()(x))])),
    "Constant": Example(ROW, lambda x: x + Constant(np.arange(x.shape[-1]))(x)),
    **_one(IMAGE, "Resizing", "CenterCrop", height=4, width=4),
}  # fmt: skip
