from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import ModelError, OptionError
from tfprune.structure.groups.units import reachable, units
from tfprune.structure.rebuild.cut import uncut
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.select.cost_meter import Meter, nearest_multiple


def grouped():
    inputs = keras.Input((8, 8, 3))
    x = kl.BatchNormalization()(kl.Conv2D(8, 3, padding="same", name="a")(inputs))
    x = kl.Conv2D(12, 3, groups=2, padding="same", name="b")(x)
    x = kl.DepthwiseConv2D(3, strides=2, padding="same", name="d")(x)
    return keras.Model(inputs, kl.Dense(5, name="out")(kl.GlobalAveragePooling2D()(x)))


def test_multiplications_are_those_of_the_definition() -> None:
    found = units(grouped())
    meter = Meter(found)
    assert {cost.call.path: cost.now for cost in found.flow.costs} == {
        "a": 64 * 9 * 3 * 8,
        "b": 64 * 9 * (8 // 2) * 12,
        "d": 16 * 9 * 12,
        "out": 12 * 5,
    }
    assert meter.measure("macs", meter.everything) == meter.macs(meter.everything)
    assert reachable(found) == 1.0


def test_a_count_without_building_is_that_of_the_built_model() -> None:
    model = grouped()
    found = units(model)
    meter = Meter(found)
    a, b = found.groups
    gone = np.concatenate([a.units[[0, 5]], b.units[[1, 2, 7, 8]]])
    kept_mask = found.kept_mask(gone)
    small, _ = rebuild(replace(uncut(found), removed=gone))
    assert meter.params(kept_mask) == small.count_params()
    assert meter.macs(kept_mask) == Meter(units(small)).macs(np.ones(units(small).flow.size, bool))
    assert meter.channels(kept_mask) == 6 + 8
    assert meter.measure("tflite_bytes", kept_mask) < 4 * small.count_params()


def test_multiplications_that_cannot_be_counted_ask_for_the_input_shape() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, kl.Conv2D(2, 1)(kl.Conv2D(4, 3)(inputs)))
    meter = Meter(units(model))
    with pytest.raises(ModelError, match="pass input_shape="):
        meter.measure("macs", meter.everything)


@given(
    most=st.integers(1, 200),
    step=st.integers(1, 32),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=6),
)
def test_rounding_keeps_at_least_one_step_and_takes_the_nearest(most, step, shares) -> None:
    kept = [nearest_multiple(share * most, step, most) for share in sorted(shares)]
    assert kept == sorted(kept)
    for share, count in zip(sorted(shares), kept, strict=True):
        assert 1 <= count <= most
        assert count % step == 0 or count == most
        assert abs(count - share * most) <= max(step / 2, step - share * most) or most <= step
    assert nearest_multiple(most, step, most) == most


# one count: what tfprune.macs says of a model, its units say too


def sequence(*layers, shape=(6, 8)):
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, kl.Dense(3)(x))


def windows():
    """Windows of an image become a part of the batch, as in Swin."""
    inputs = keras.Input((8, 8, 16))
    x = ops.transpose(ops.reshape(inputs, (-1, 2, 4, 2, 4, 16)), (0, 1, 3, 2, 4, 5))
    x = kl.Dense(16)(kl.Dense(24, activation="relu")(ops.reshape(x, (-1, 16, 16))))
    x = x + kl.MultiHeadAttention(2, 8)(x, x)
    return keras.Model(inputs, ops.reshape(x, (-1, 64, 16)))


def qkv():
    """The batch stands on the second axis."""
    inputs = keras.Input((10, 24))
    x = ops.transpose(ops.reshape(kl.Dense(96)(inputs), (-1, 10, 3, 4, 8)), (2, 0, 3, 1, 4))
    q, k, v = x[0], x[1], x[2]
    o = ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))), v)
    return keras.Model(
        inputs, kl.Dense(3)(ops.reshape(ops.transpose(o, (0, 2, 1, 3)), (-1, 10, 32)))
    )


def batch_in_the_middle():
    """Sequence first: the batch is the second axis of what a layer is called on."""
    inputs = keras.Input((6, 8))
    x = kl.Dense(16)(ops.transpose(inputs, (1, 0, 2)))
    x = kl.Dense(5)(ops.transpose(x, (1, 0, 2)))
    return keras.Model(inputs, x)


def wrapped_model():
    inner = keras.Sequential([kl.Conv2D(8, 3), kl.Flatten(), kl.Dense(16)])
    return sequence(kl.TimeDistributed(inner), kl.GRU(16), shape=(5, 12, 12, 3))


def looked_up():
    """The way back through an embedding is a product with its table."""
    inputs = keras.Input((6,), dtype="int32")
    table = kl.Embedding(40, 24)
    x = kl.Dense(24)(kl.Dense(16, activation="relu")(table(inputs)))
    return keras.Model(inputs, ops.matmul(x, ops.transpose(table.embeddings)))


def with_constants():
    inputs = keras.Input((6, 8))
    x = ops.matmul(kl.Dense(12)(kl.Dense(9)(inputs)), np.ones((12, 10), "float32"))
    x = ops.tensordot(kl.Dense(7)(x), np.ones((7, 4), "float32"), axes=1)
    return keras.Model(inputs, kl.Dense(3)(x))


def scores():
    inputs = keras.Input((6, 16))
    x, seen = kl.MultiHeadAttention(2, 8)(inputs, inputs, return_attention_scores=True)
    return keras.Model(inputs, [kl.Dense(3)(kl.Dense(12)(x)), seen])


def attended(layer, **options):
    inputs, other = keras.Input((6, 16)), keras.Input((4, 12))
    x = layer(kl.Dense(16)(inputs), kl.Dense(16)(other), **options)
    return keras.Model([inputs, other], kl.Dense(3)(x))


def products(layer):
    a, b = keras.Input((6, 8)), keras.Input((4, 8))
    x = layer([kl.Dense(10)(a), kl.Dense(10)(b)])
    return keras.Model([a, b], kl.Dense(3)(x))


def einsum(equation, shape=(6, 8), widths=(10, 10)):
    a, b = keras.Input(shape), keras.Input(shape)
    x = ops.einsum(equation, kl.Dense(widths[0])(a), kl.Dense(widths[1])(b))
    return keras.Model([a, b], kl.Dense(3)(x))


def einsum_of_three():
    inputs = keras.Input((6, 8))
    parts = [kl.Dense(width)(inputs) for width in (10, 7, 5)]
    return keras.Model(inputs, kl.Dense(3)(ops.einsum("bqd,bqe,bqf->bdef", *parts)))


def stretched():
    """The first of two matrices is the same for all heads."""
    inputs = keras.Input((4, 6, 8))
    one = kl.Dense(12)(ops.mean(inputs, axis=1, keepdims=True))
    many = ops.transpose(kl.Dense(12)(inputs), (0, 1, 3, 2))
    return keras.Model(inputs, kl.Dense(3)(ops.matmul(one, many)))


def twice():
    shared = kl.Dense(8, activation="relu")
    return sequence(kl.Dense(8), shared, shared)


def nested():
    inner = keras.Sequential([keras.Input((6, 8)), kl.Conv1D(12, 3), kl.ReLU()])
    return sequence(inner)


IMAGE = {"shape": (9, 9, 4)}
MODELS = {
    "grouped": grouped,
    "windows": windows,
    "qkv": qkv,
    "batch in the middle": batch_in_the_middle,
    "wrapped model": wrapped_model,
    "looked up": looked_up,
    "constants": with_constants,
    "scores": scores,
    "cells": lambda: sequence(kl.RNN([kl.LSTMCell(8), kl.GRUCell(6)]), kl.Dense(12)),
    "self-attention": lambda: attended(kl.MultiHeadAttention(2, 8)),
    "value_dim": lambda: attended(kl.MultiHeadAttention(2, 8, value_dim=12, output_shape=20)),
    "dropout": lambda: attended(kl.MultiHeadAttention(2, 8, value_dim=12, dropout=0.1)),
    "grouped-query": lambda: attended(kl.GroupQueryAttention(6, 4, 2)),
    "dot": lambda: products(kl.Dot(axes=2)),
    "attention": lambda: products(kl.Attention()),
    "additive attention": lambda: products(kl.AdditiveAttention()),
    "einsum": lambda: einsum("bqd,bkd->bqk"),
    "einsum, the batch in the middle": lambda: einsum("bqd,bkd->qbk"),
    "einsum of an outer product": lambda: einsum("bqd,bqe->bqde", widths=(10, 7)),
    "einsum of three": einsum_of_three,
    "stretched": stretched,
    "twice": twice,
    "nested": nested,
    "SimpleRNN": lambda: sequence(kl.SimpleRNN(10)),
    "GRU": lambda: sequence(kl.GRU(10, return_sequences=True)),
    "LSTM": lambda: sequence(kl.LSTM(10)),
    "Bidirectional": lambda: sequence(kl.Bidirectional(kl.LSTM(10))),
    "ConvLSTM1D": lambda: sequence(
        kl.Dense(4), kl.ConvLSTM1D(6, 3), kl.Flatten(), kl.Dense(8), shape=(3, 8, 2)
    ),
    "TimeDistributed": lambda: sequence(kl.TimeDistributed(kl.Conv1D(8, 3)), shape=(5, 7, 4)),
    "EinsumDense": lambda: sequence(kl.EinsumDense("...ab,bc->...ac", (6, 10))),
    "heads": lambda: sequence(
        kl.EinsumDense("abc,cde->abde", (None, 4, 5)), kl.EinsumDense("abde,dec->abc", (None, 7))
    ),
    "SeparableConv2D": lambda: sequence(kl.Conv2D(6, 1), kl.SeparableConv2D(8, 3), **IMAGE),
    "DepthwiseConv2D": lambda: sequence(kl.Conv2D(6, 1), kl.DepthwiseConv2D(3), **IMAGE),
    "groups of the input": lambda: sequence(kl.Conv2D(16, 3, groups=4), kl.Conv2D(8, 1), **IMAGE),
    "Conv2DTranspose": lambda: sequence(kl.Conv2D(6, 3), kl.Conv2DTranspose(5, 3), **IMAGE),
    "SpectralNormalization": lambda: sequence(
        kl.SpectralNormalization(kl.Conv2D(5, 3)), kl.Conv2D(6, 3), **IMAGE
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_units_cost_what_the_model_costs(name: str) -> None:
    model = MODELS[name]()
    found = units(model)
    meter = Meter(found)
    assert meter.macs(meter.everything) == tfprune.macs(model).total
    small, report = tfprune.shrink(model, {"channels": 0.6}, round_to=1, verify=False)
    assert report.after.units < report.before.units
    assert report.before.macs == tfprune.macs(model).total
    assert report.after.macs == tfprune.macs(small).total


def test_layers_that_cannot_be_cut_are_left_out_of_the_prunable_share() -> None:
    model = sequence(kl.SpectralNormalization(kl.Conv2D(5, 3)), kl.Conv2D(6, 3), **IMAGE)
    kind = "SpectralNormalization"
    inside = next(op.macs for op in tfprune.macs(model).operations if op.kind == kind)
    assert 0 < inside < tfprune.macs(model).total
    assert reachable(units(model)) == pytest.approx(1 - inside / tfprune.macs(model).total)
    with pytest.raises(OptionError, match=r"at least .* of .* are kept with"):
        tfprune.shrink(model, {"macs": inside // 2})


class Opaque(kl.Layer):
    def build(self, shape) -> None:
        self.w = self.add_weight(shape=(shape[-1], 4), name="w")

    def call(self, x):
        import tensorflow as tf

        return tf.matmul(x, self.w)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 4)


def test_layers_that_cannot_be_counted_are_named() -> None:
    model = sequence(kl.Dense(12), kl.Dense(9), Opaque(name="opaque"), shape=(8,))
    (note,) = [note for note in units(model).graph.notes if "counted" in note]
    assert note.startswith("multiplications not counted: opaque (tests.Opaque): ")
    _, report = tfprune.shrink(model, {"macs": 0.8}, round_to=1)
    assert note in report.notes
