"""What Keras does while sizes are open, and layers and models that compute with them."""

import keras
import numpy as np
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.graph.tracing.unknown_sizes import open_sizes


def test_tensors_are_compared_by_their_numbers() -> None:
    """Keras compares symbolic tensors by identity, which is another result than with data."""

    def diagonal(x, batch, length):
        i = ops.arange(length)
        return ops.cast(ops.expand_dims(i, 1) == i, "float32") + ops.cast(
            i == length - 1, "float32"
        )

    inputs = keras.Input((None, 8))
    with open_sizes():
        batch, length, _ = ops.shape(inputs)
        outputs = diagonal(inputs, batch, length)
    expected = np.eye(5) + np.eye(5)[-1]
    model = keras.Model(inputs, outputs)
    np.testing.assert_array_equal(model(np.ones((3, 5, 8), "float32")), expected)
    x, equal = keras.Input((8,)), keras.KerasTensor.__eq__
    with open_sizes():
        assert (x == None) is not True  # noqa: E711
        assert x in {x: 1}
    assert keras.KerasTensor.__eq__ is equal is object.__eq__
    assert (x == x) is True


def test_a_product_with_a_number_is_not_sparse() -> None:
    x = keras.Input((None, 8))
    with open_sizes():
        assert not (x * 2.0).sparse
        assert not (2.0 * x).sparse
        assert not ops.multiply(x, np.ones(8)).sparse
        assert ops.multiply(keras.Input((8,), sparse=True), 2.0).sparse


def test_keras_is_left_as_it_was() -> None:
    before = ops.shape, ops.reshape
    with open_sizes():
        assert ops.shape is not before[0]
        assert ops.shape(np.ones((2, 3))) == (2, 3)
        assert ops.reshape(np.ones(6), (2, 3)).shape == (2, 3)
    assert (ops.shape, ops.reshape) == before
    assert ops.shape(keras.Input((None, 8))) == (None, None, 8)


class Causal(keras.layers.Layer):
    """Attention as decoders of language models write it, for any length."""

    def __init__(self, heads, width, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.width = heads, width
        self.qkv = [kl.Dense(heads * width, name=name) for name in ("q", "k", "v")]
        self.out = kl.Dense(12, name="out")

    def build(self, shape):
        for layer in self.qkv:
            layer.build(shape)
        self.out.build((*shape[:-1], self.heads * self.width))

    def call(self, x, training=None):
        batch, length, _ = ops.shape(x)
        q, k, v = (ops.reshape(one(x), (batch, length, self.heads, self.width)) for one in self.qkv)
        i = ops.arange(length)
        mask = ops.broadcast_to(i[:, None] >= i, (batch, 1, length, length))
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) / self.width**0.5
        scores = ops.softmax(ops.where(mask, scores, -1e9), axis=-1)
        y = ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (batch, length, -1))
        return self.out(y) + x


def test_a_decoder_of_open_length_is_unrolled_and_cut(check, sizes) -> None:
    inputs = keras.Input((None, 12))
    x = Causal(4, 6, name="decoder")(kl.Dense(12, name="embed")(inputs))
    model = keras.Model(inputs, kl.Dense(3)(x))
    found = tfprune.units(model)
    assert not [note for note in found.graph.notes if "kept whole" in note]
    assert sizes(model)["embed"] == 12
    small, _ = check(model)
    data = np.random.default_rng(1).normal(size=(2, 7, 12)).astype("float32")
    # Nothing of an answer may depend on what comes after it.
    np.testing.assert_allclose(small(data)[:, :4], small(data[:, :4]), atol=1e-5)


class Sliced(keras.layers.Layer):
    """It cuts one tensor to the length of another, which is open."""

    def build(self, shape):
        self.dense = kl.Dense(6, name="dense")
        self.dense.build(shape)

    def call(self, x):
        y = self.dense(x)
        return ops.repeat(y, 2, axis=1)[:, : ops.shape(y)[1]]


class Stepped(Sliced):
    """It takes as many steps as there are positions."""

    def compute_output_shape(self, shape):
        return (*shape[:-1], 6)

    def call(self, x):
        y = self.dense(x)
        return y + sum(y[:, :1] for _ in range(ops.shape(y)[1]))


def test_a_layer_that_slices_to_an_open_size_is_unrolled_and_cut(check, sizes) -> None:
    inputs = keras.Input((None, 4))
    x = kl.Dense(5, name="after")(Sliced(name="sliced")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"dense": 6, "after": 5}
    check(model)


def test_a_loop_of_open_length_keeps_the_layer_whole() -> None:
    inputs = keras.Input((None, 4))
    x = kl.Dense(5, name="after")(Stepped(name="stepped")(inputs))
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert [group.name for group in found] == ["after"]
    assert any("stepped" in note and "a number is needed" in note for note in found.graph.notes)


class Experts(keras.layers.Layer):
    """A layer for single tokens, in any number of batches of any length."""

    def build(self, shape):
        self.up, self.down = kl.Dense(10, name="up"), kl.Dense(shape[-1], name="down")
        self.up.build(shape)
        self.down.build((*shape[:-1], 10))

    def call(self, x):
        batch, length, width = ops.shape(x)
        tokens = ops.reshape(x, (-1, width))
        return ops.reshape(self.down(ops.relu(self.up(tokens))), (batch, length, width))


def test_tokens_are_taken_apart_and_put_together_at_any_length(check, sizes) -> None:
    inputs = keras.Input((None, 6))
    x = Experts(name="experts")(kl.Dense(6, name="embed")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"embed": 6, "up": 10, "down": 6}
    small, _ = check(model)
    data = np.random.default_rng(1).normal(size=(2, 7, 6)).astype("float32")
    np.testing.assert_allclose(small(data)[:, :4], small(data[:, :4]), atol=1e-5)


class Mixture(keras.layers.Layer):
    """Each token goes to two of three experts, by the router's largest numbers."""

    def build(self, shape):
        self.router = kl.Dense(3, name="router")
        self.router.build(shape)
        self.ups = [kl.Dense(10, name=f"up_{i}") for i in range(3)]
        self.downs = [kl.Dense(shape[-1], name=f"down_{i}") for i in range(3)]
        for up, down in zip(self.ups, self.downs, strict=True):
            up.build(shape)
            down.build((*shape[:-1], 10))

    def call(self, x):
        batch, length, width = ops.shape(x)
        tokens = ops.reshape(x, (-1, width))
        top, which = ops.top_k(ops.softmax(self.router(tokens), axis=-1), k=2)
        top = top / ops.sum(top, axis=-1, keepdims=True)
        share = ops.sum(ops.one_hot(which, 3) * top[..., None], axis=1)
        experts = zip(self.ups, self.downs, strict=True)
        out = ops.stack([down(ops.relu(up(tokens))) for up, down in experts], axis=0)
        out = ops.sum(out * ops.transpose(share, (1, 0))[:, :, None], axis=0)
        return ops.reshape(out, (batch, length, width))


def test_experts_are_cut_inside_and_none_of_them_goes(check, sizes) -> None:
    inputs = keras.Input((None, 6))
    x = Mixture(name="mixture")(kl.Dense(6, name="embed")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    hidden = {"up_0": 10, "up_1": 10, "up_2": 10}
    assert {name: size for name, size in sizes(model).items() if name != "down_0"} == {
        "embed": 6, **hidden,
    }  # fmt: skip
    frozen = {line.layer: line.reason for line in tfprune.units(model).frozen}
    assert "top_k" in frozen["router"]
    check(model)
