import keras
import numpy as np
import pytest
from keras import layers as kl
from keras.src.ops.numpy import Add

import tfprune
from tfprune.graph.trace import Trace, can_open, stands_alone


class Pair(keras.layers.Layer):
    def build(self, shape):
        self.one, self.two = kl.Dense(4, name="one"), kl.Dense(4, name="two")
        self.one.build(shape)
        self.two.build((*shape[:-1], 4))

    def call(self, x):
        return self.two(self.one(x))


def test_a_trace_is_what_the_layer_does_and_can_be_forgotten() -> None:
    layer = Pair()
    layer(np.ones((2, 3), "float32"))
    start = keras.Input((3,))
    trace = Trace(layer, [start], (start,), {})
    data = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_array_equal(trace.function([data]), layer(data))
    assert len(layer.one._inbound_nodes) == 1
    trace.forget()
    assert layer.one._inbound_nodes == layer.two._outbound_nodes == []


class Alike(Pair):
    """Two layers of one name, as the projections of two attentions have them."""

    def build(self, shape):
        super().build(shape)
        self.two.name = self.one.name


def test_layers_of_one_name_are_told_apart_and_keep_it() -> None:
    layer, start = Alike(), keras.Input((3,))
    layer.build((None, 3))
    trace = Trace(layer, [start], (start,), {})
    assert len(trace.function._operations) == 3
    assert layer.one.name == layer.two.name == "one"


class Failing(Pair):
    def call(self, x):
        super().call(x)
        raise RuntimeError("half way")


def test_a_trace_that_fails_leaves_nothing_behind() -> None:
    layer, start = Failing(), keras.Input((3,))
    layer.build((None, 3))
    with pytest.raises(RuntimeError, match="half way"):
        Trace(layer, [start], (start,), {})
    assert layer.one._inbound_nodes == []


class Holds(keras.layers.Layer):
    """A layer without a config that could bring it back."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.table = table

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


def test_which_layers_stand_alone() -> None:
    assert stands_alone(kl.Dense(3))
    assert stands_alone(Pair())
    assert not stands_alone(Holds(np.ones(2)))


def test_which_layers_can_be_opened() -> None:
    pair, holds, plain = Pair(), Holds(np.ones(2)), Holds(1)
    for layer in (pair, holds, plain):
        layer.build((None, 3))
    assert can_open(pair)
    assert can_open(holds), "it could not be made again, so what it does is written out"
    for left_alone in (plain, kl.Dense(3), kl.Lambda(lambda x, mask: x), Add()):
        assert not can_open(left_alone)


def _squared(x):
    return x * x


_SHARED = kl.Dense(4)


def _shared(x):
    return _SHARED(x)


@pytest.mark.parametrize(
    ("function", "opened"),
    [
        (lambda x: x[:, -1], True),
        (lambda x: _squared(x) + 1, True),
        (lambda x: _SHARED(x), False),
        (lambda x: _shared(x), False),
        (_SHARED.call, False),
        (lambda x, training=False: x, False),
        (lambda x, mask=None: x, False),
    ],
)
def test_a_lambda_is_opened_where_it_holds_nothing(function, opened) -> None:
    assert can_open(kl.Lambda(function)) is opened
    assert not can_open(kl.Lambda(_squared, mask=lambda x, mask: mask))


@pytest.mark.parametrize("how", ["transposed", "as it is"])
def test_weights_that_are_read_past_the_call_of_their_layer_are_noted(how) -> None:
    class Tied(keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.body = kl.Embedding(9, 4, name="words"), kl.Dense(4)
            self.norm = kl.BatchNormalization()

        def call(self, x):
            x, table = self.norm(self.body(self.words(x))), self.words.embeddings
            if how == "transposed":
                return keras.ops.matmul(x, keras.ops.transpose(table))
            return keras.ops.einsum("btd,vd->btv", x, table)

    model = Tied()
    model(np.zeros((1, 5), "int32"))
    notes = [note for note in tfprune.units(model).graph.notes if "past the call" in note]
    assert len(notes) == 1
    assert "words.embeddings" in notes[0]
