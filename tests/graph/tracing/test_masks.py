"""Masks that Keras attaches to tensors, through layers whose calls are read."""

import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tfprune.graph.flat import flat_model
from tfprune.graph.tracing.masks import MaskOf, WithMask
from tfprune.keras_support.internals import mask_of

# Keras says so of a model in a model, and passes the mask into it all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Layer 'functional:UserWarning")

L = keras.layers
TOKENS = np.array([[3, 5, 0, 0, 0, 0], [2, 4, 6, 7, 0, 0], [1, 1, 2, 3, 4, 5]], "int32")


class Positions(L.Layer):
    """Tokens and their positions, with a mask of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tokens, self.positions = L.Embedding(9, 8), L.Embedding(6, 8)

    def call(self, inputs):
        return self.tokens(inputs) + self.positions(ops.arange(6))

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class Encoder(L.Layer):
    """A block that takes a mask and passes it on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(2, 4)
        self.first, self.second = L.Dense(16, activation="relu"), L.Dense(8)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        steps = None if mask is None else ops.cast(mask[:, None, :], "int32")
        x = inputs + self.attention(inputs, inputs, attention_mask=steps)
        return x + self.second(self.first(x))


class Decoder(L.Layer):
    """A block of two tensors, each with a mask."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(2, 4)
        self.dense = L.Dense(8)
        self.supports_masking = True

    def call(self, query, memory, query_mask=None, memory_mask=None):
        x = self.attention(query, memory, query_mask=query_mask, key_mask=memory_mask)
        kept = 1.0 if query_mask is None else ops.cast(query_mask, "float32")[..., None]
        return self.dense(x) * kept


def mean_of(layer, **kwargs):
    """Return a model that ends with what reads the mask, implicitly."""
    inputs = keras.Input((6,), dtype="int32")
    return keras.Model(inputs, L.GlobalAveragePooling1D()(layer(inputs)), **kwargs)


def stack():
    return mean_of(lambda x: Encoder()(Encoder()(Positions()(x))))


def of_keras():
    return mean_of(lambda x: Encoder()(L.Dropout(0.1)(L.Embedding(9, 8, mask_zero=True)(x))))


def nested():
    """A block in a model that was built without masks, behind one that makes them."""
    states = keras.Input((6, 8))
    inner = keras.Model(states, Encoder()(L.Dense(8)(states)))
    return mean_of(lambda x: inner(L.Embedding(9, 8, mask_zero=True)(x)))


def two():
    def layer(x):
        query = Positions()(x)
        return Decoder()(query, Encoder()(L.Embedding(9, 8, mask_zero=True)(x)))

    return mean_of(layer)


MODELS = [stack, of_keras, nested, two]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_layer_that_is_read_sees_and_passes_on_masks(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    flat = flat_model(model)
    np.testing.assert_allclose(flat(TOKENS), model(TOKENS), atol=1e-6)
    other = TOKENS.copy()
    other[other == 0] = 8  # nothing is masked then
    assert np.abs(np.asarray(flat(other)) - np.asarray(flat(TOKENS))).max() > 1e-3
    flat.save(tmp_path / "flat.keras")
    again = keras.saving.load_model(tmp_path / "flat.keras")
    np.testing.assert_allclose(again(TOKENS), model(TOKENS), atol=1e-6)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_masked_model_is_shrunk_and_proven(make):
    keras.utils.set_random_seed(0)
    model = make()
    small, report = tfprune.shrink(model, {"macs": 0.8}, round_to=1)
    assert report.after.macs <= 0.8 * report.before.macs
    assert report.error < 1e-5
    assert small(TOKENS).shape == model(TOKENS).shape


def test_a_mask_is_read_and_attached():
    embedded = L.Embedding(9, 4, mask_zero=True)(TOKENS)
    np.testing.assert_array_equal(MaskOf()(embedded), TOKENS != 0)
    plain = ops.zeros((3, 6, 4))
    np.testing.assert_array_equal(mask_of(WithMask()([plain, TOKENS != 0])), TOKENS != 0)
    assert mask_of(plain) is None
    with pytest.raises(ValueError, match="has no mask"):
        MaskOf()(plain)
