"""`prune_low_magnitude` works on common models without changes."""

import gc

import keras
import numpy as np
import pytest

import tfprune
from tests.structure.test_applications import applications
from tfprune.sparsity.choices.selection import keep_count
from tfprune.sparsity.masks import Hold, holds_of

layers = keras.layers
SPARSITY = 0.6

# The smallest input that the model allows, where it is not 32.
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
WITH_KERNEL = (
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.SeparableConv2D,
    layers.Embedding,
)


def kernels_in(model: keras.Model) -> list[keras.Variable]:
    """Find what has to be held, by the class of the layers."""
    found = []
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, layers.SeparableConv2D):
            found.append(layer.pointwise_kernel)
        elif isinstance(layer, layers.Embedding):
            found.append(layer.embeddings)
        elif isinstance(layer, WITH_KERNEL):
            found.append(layer.kernel)
        elif isinstance(layer, (layers.LSTMCell, layers.GRUCell)):
            found += [layer.kernel, layer.recurrent_kernel]
    return found


def prune_once(model: keras.Model) -> None:
    """Prune as a training does, up to its first mask update."""
    schedule = tfprune.ConstantSparsity(SPARSITY, begin_step=0)
    assert tfprune.prune_low_magnitude(model, schedule) is model
    model.compile("sgd", "mse")
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()


def assert_all_held(model: keras.Model) -> None:
    kernels = kernels_in(model)
    assert {id(kernel) for kernel in kernels} == {id(h.kernel.variable) for h in holds_of(model)}
    for kernel in kernels:
        assert isinstance(kernel.constraint, Hold)
        mask = kernel.constraint.mask_array()
        assert np.count_nonzero(mask) == keep_count(mask.size, SPARSITY), kernel.path
        assert not kernel.constraint.weights()[~mask].any(), kernel.path


@pytest.mark.parametrize("name", list(applications()))
def test_every_application(name) -> None:
    size = SMALLEST.get(name, 32)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), classes=10)
    count = len(model.weights)
    try:
        prune_once(model)
        assert_all_held(model)
        assert len(model.weights) == count
        assert all(entry.usual for hold in holds_of(model) for entry in hold.pruning.skipped)
    finally:
        # One model at a time in memory: the largest has 350 million weights.
        del model
        keras.backend.clear_session()
        gc.collect()


class Encoder(layers.Layer):
    """A transformer block as libraries of models write it: a layer of layers."""

    def __init__(self, width: int, heads: int = 2, *, cross: bool = False, causal: bool = False):
        super().__init__()
        self.causal = causal
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.cross = layers.MultiHeadAttention(heads, width // heads) if cross else None
        self.norms = [layers.LayerNormalization() for _ in range(3 if cross else 2)]
        self.feed = keras.Sequential([layers.Dense(2 * width, "gelu"), layers.Dense(width)])
        self.supports_masking = True

    def build(self, x_shape, memory_shape=None) -> None:
        self.attention.build(x_shape, x_shape)
        if self.cross is not None:
            self.cross.build(x_shape, memory_shape)
        for norm in self.norms:
            norm.build(x_shape)
        self.feed.build(x_shape)

    def call(self, x, memory=None):
        h = self.norms[0](x)
        x = x + self.attention(h, h, use_causal_mask=self.causal)
        if self.cross is not None:
            x = x + self.cross(self.norms[2](x), memory)
        return x + self.feed(self.norms[1](x))


class TokenAndPosition(layers.Layer):
    def __init__(self, words: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens = layers.Embedding(words, width, mask_zero=True)
        self.positions = layers.Embedding(length, width)
        self.length = length
        self.supports_masking = True

    def build(self, shape) -> None:
        self.tokens.build(shape)
        self.positions.build((self.length,))

    def call(self, ids):
        return self.tokens(ids) + self.positions(keras.ops.arange(self.length))

    def compute_mask(self, ids, mask=None):
        return keras.ops.not_equal(ids, 0)


def bert() -> keras.Model:
    ids = keras.Input((6,), dtype="int32")
    x = TokenAndPosition(20, 6, 8)(ids)
    for _ in range(2):
        x = Encoder(8)(x)
    return keras.Model(ids, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


class Tied(layers.Layer):
    """The way back from vectors to words, with the embedding's own table."""

    def __init__(self, words: layers.Embedding) -> None:
        super().__init__()
        self.words = words

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.words.embeddings))


def gpt() -> keras.Model:
    ids = keras.Input((6,), dtype="int32")
    words = layers.Embedding(20, 8)
    x = words(ids)
    for _ in range(2):
        x = Encoder(8, causal=True)(x)
    return keras.Model(ids, Tied(words)(x))


def vit() -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Normalization(mean=[0.5] * 3, variance=[0.25] * 3)(x)
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 4, strides=4)(x))
    x = layers.LayerNormalization()(Encoder(8)(x))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def llama() -> keras.Model:
    ids = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(ids)
    for _ in range(2):
        h = layers.RMSNormalization()(x)
        x = x + layers.GroupQueryAttention(4, 4, 2)(h, h, use_causal_mask=True)
        h = layers.RMSNormalization()(x)
        gate = layers.EinsumDense("btd,df->btf", output_shape=(None, 16), activation="silu")(h)
        x = x + layers.Dense(8, use_bias=False)(gate * layers.Dense(16, use_bias=False)(h))
    return keras.Model(ids, layers.Dense(20)(x))


class T5(keras.Model):
    """An encoder and a decoder in a subclassed model that shares its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = layers.Embedding(20, 8, mask_zero=True)
        self.encoder, self.decoder = Encoder(8), Encoder(8, cross=True, causal=True)
        self.head = layers.Dense(20)

    def call(self, ids):
        memory = self.encoder(self.words(ids))
        return self.head(self.decoder(self.words(ids), memory))


def t5() -> keras.Model:
    model = T5()
    model(np.ones((1, 6), "int32"))
    return model


def whisper() -> keras.Model:
    sound = keras.Input((12, 4))
    x = layers.Conv1D(8, 3, strides=2, padding="same", activation="gelu")(sound)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    backbone = keras.Model(sound, Encoder(8)(x), name="backbone")
    head = layers.TimeDistributed(layers.Dense(3))
    return keras.Sequential([keras.Input((12, 4)), backbone, head])


# Kernels by hand: 4 in an attention, 2 in a feed-forward part.
TRANSFORMERS = {
    "bert": (bert, 2 + 2 * (4 + 2) + 1),
    "gpt": (gpt, 1 + 2 * (4 + 2)),
    "vit": (vit, 1 + (4 + 2) + 1),
    "llama": (llama, 1 + 2 * (4 + 3) + 1),
    "t5": (t5, 1 + (4 + 2) + (4 + 4 + 2) + 1),
    "whisper": (whisper, 1 + 4 + (4 + 2) + 1),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.slow
def test_every_transformer(name) -> None:
    build, kernels = TRANSFORMERS[name]
    model = build()
    shape = (8, *model.input_shape[1:]) if name != "t5" else (8, 6)
    x = np.random.default_rng(0).integers(0, 20, shape)
    x = x if name not in ("vit", "whisper") else x.astype("float32")
    before = model(x).numpy()
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(SPARSITY, 0), strict=True)
    np.testing.assert_array_equal(model(x).numpy(), before)
    assert len(holds_of(model)) == kernels
    model.compile("adam", "mse")
    target = np.zeros(before.shape, "float32")
    model.fit(x, target, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert_all_held(model)
    pruned = model(x).numpy()
    assert not np.array_equal(pruned, before)
    np.testing.assert_array_equal(tfprune.strip_pruning(model)(x).numpy(), pruned)
