"""Transformers built by hand from Keras layers, in the shapes that their papers give.

What Keras has no layer for, a learned token and learned positions, is a layer of a few lines here
with the rule that lets `tfprune` cut it.
"""

from typing import Any

import keras

import tfprune

L = keras.layers


@keras.saving.register_keras_serializable("benchmarks")
class ClassToken(L.Layer):
    """Puts one learned vector before a sequence."""

    def build(self, shape: Any) -> None:
        """Make the vector."""
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x: Any) -> Any:
        """Put it first in each sample."""
        tokens = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, x.shape[-1]))
        return keras.ops.concatenate([tokens, x], axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        """One step more."""
        return (shape[0], shape[1] + 1, shape[2])


@keras.saving.register_keras_serializable("benchmarks")
class Positions(L.Layer):
    """Adds a learned vector for each position of a sequence."""

    def build(self, shape: Any) -> None:
        """Make the vectors."""
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x: Any) -> Any:
        """Add them."""
        return x + self.table


@tfprune.rules.register(ClassToken)
def cut_class_token(flow: Any, call: Any) -> Any:
    """The vector is as wide as the sequence."""
    axes = flow.axes(call.args[0])
    flow.site(call.op).bind(call.op.token, 2, axes[-1])
    return (None, None, axes[-1])


@tfprune.rules.register(Positions)
def cut_positions(flow: Any, call: Any) -> Any:
    """The vectors are as wide as the sequence."""
    axes = flow.axes(call.args[0])
    flow.site(call.op).bind(call.op.table, 1, axes[-1])
    return axes


def vit_b16() -> keras.Model:
    """ViT-B/16 (Dosovitskiy et al., 2021) for 224² images: 86,567,656 parameters."""
    inputs = keras.Input((224, 224, 3))
    x = L.Conv2D(768, 16, strides=16, name="patches")(inputs)
    x = Positions()(ClassToken()(L.Reshape((196, 768))(x)))
    for _ in range(12):
        normal = L.LayerNormalization(epsilon=1e-6)(x)
        x = L.Add()([x, L.MultiHeadAttention(12, 64)(normal, normal)])
        normal = L.LayerNormalization(epsilon=1e-6)(x)
        wide = L.Dense(3072, activation="gelu")(normal)
        x = L.Add()([x, L.Dense(768)(wide)])
    x = L.LayerNormalization(epsilon=1e-6)(x)
    return keras.Model(inputs, L.Dense(1000)(x[:, 0]), name="vit_b16")


def bert_base(length: int = 128) -> keras.Model:
    """BERT-base (Devlin et al., 2019), uncased, with two classes, for `length` tokens."""
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    segments = keras.Input((length,), dtype="int32", name="segments")
    x = L.Add()([L.Embedding(30522, 768)(tokens), L.Embedding(2, 768)(segments)])
    x = L.LayerNormalization(epsilon=1e-12)(Positions()(x))
    for _ in range(12):
        x = L.Add()([x, L.MultiHeadAttention(12, 64)(x, x)])
        x = L.LayerNormalization(epsilon=1e-12)(x)
        wide = L.Dense(3072, activation="gelu")(x)
        x = L.LayerNormalization(epsilon=1e-12)(L.Add()([x, L.Dense(768)(wide)]))
    pooled = L.Dense(768, activation="tanh", name="pooler")(x[:, 0])
    return keras.Model([tokens, segments], L.Dense(2)(pooled), name="bert_base")
