import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.graph.tracing.weight import Constant


def test_dense_on_any_rank(check, sizes) -> None:
    x = inputs = keras.Input((3, 4, 5))
    x = kl.Dense(8, activation="relu", name="a")(x)
    x = kl.Dense(6, use_bias=False, name="b")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"a": 8, "b": 6}
    small, _ = check(model, ratios=(0.5,))
    assert small.count_params() == (5 * 4 + 4) + 4 * 3 + (3 * 2 + 2)


def test_a_sequential_stays_a_sequential(check) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), kl.Dense(8, activation="relu"), kl.Dropout(0.5), kl.Dense(2)],
        name="seq",
    )
    small, _ = check(model)
    assert type(small) is keras.Sequential
    assert small.name == "seq"
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in model.layers]


def test_einsum_makes_uses_and_carries_letters(check, sizes) -> None:
    inputs = keras.Input((5, 6))
    x = kl.Dense(8, name="in")(inputs)
    x = kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 3, 4), bias_axes="hk", name="up")(x)
    x = kl.EinsumDense("bthk,hk->bthk", output_shape=(None, 3, 4), bias_axes="k", name="scale")(x)
    x = kl.EinsumDense("bthk,hkd->btd", output_shape=(None, 8), bias_axes="d", name="down")(x)
    x = kl.EinsumDense("...d,de->...e", output_shape=7, name="dots")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"in": 8, "up.h": 3, "up.k": 4, "down.d": 8, "dots.e": 7}
    small, _ = check(model, ratios=(0.5,))
    assert small.get_layer("up").kernel.shape == (4, 2, 2)


def test_embeddings_lose_columns(check, sizes) -> None:
    ids = keras.Input((6,), dtype="int32")
    words = kl.Embedding(20, 8, name="words")(ids)
    places = kl.Embedding(6, 8, name="places")(np.arange(6)[None])
    model = keras.Model(ids, kl.Dense(3)(words + ops.convert_to_tensor(places)))
    assert sizes(model) == {"words": 8}
    check(model, ratios=(0.5,))


reversible = pytest.mark.skipif(
    not hasattr(kl, "ReversibleEmbedding"), reason="this Keras has no ReversibleEmbedding"
)


@reversible
def test_tied_embeddings_by_the_reversible_layer(check, sizes) -> None:
    ids = keras.Input((6,), dtype="int32")
    words = kl.ReversibleEmbedding(20, 8, name="words")
    x = words(ids)
    x = x + kl.Dense(8, name="body")(x)
    model = keras.Model(ids, words(x, reverse=True))
    assert sizes(model) == {"words": 8}
    small, _ = check(model, ratios=(0.75, 0.25, 0.5))
    assert small.get_layer("words").output_dim == 4


def test_embeddings_tied_by_hand_freeze_and_are_named() -> None:
    """Multiplied by an Embedding's own variable, its width is not the layer's alone."""
    ids = keras.Input((6,), dtype="int32")
    words = kl.Embedding(20, 8, name="words")
    x = kl.Dense(8, name="body")(words(ids))
    x = kl.Dense(8, name="last")(kl.Dense(12, name="free")(x))
    model = keras.Model(ids, ops.matmul(x, ops.transpose(words.embeddings)))
    found = tfprune.units(model)
    assert {group.name for group in found} == {"words", "body", "free"}
    held = {line.layer: line.reason for line in found.frozen}
    assert "belongs to no layer" in held["last"]
    _, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-4


@reversible
def test_untied_embeddings_have_a_second_matrix(check) -> None:
    ids = keras.Input((6,), dtype="int32")
    words = kl.ReversibleEmbedding(20, 8, tie_weights=False, name="words")
    x = kl.Dense(8, name="body")(words(ids))
    check(keras.Model(ids, words(x, reverse=True)), ratios=(0.5,))


def test_an_embedding_read_from_a_float_input(check) -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, kl.Dense(3)(kl.Embedding(20, 8)(inputs)))
    found = tfprune.units(model)
    assert list(found.flow.vocabulary.values()) == [20]
    check(model, ratios=(0.5,))


def test_a_constant_without_numbers_is_read(check) -> None:
    inputs = keras.Input((5, 4))
    x = kl.Dense(6, name="before")(inputs)
    empty = Constant(np.zeros((0, 6)))(inputs)
    model = keras.Model(inputs, kl.Dense(2)(x + keras.ops.sum(empty, axis=0)))
    small, _ = check(model)
    assert small.get_layer("before").units < 6
