import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune


def tokens(width=12, length=6):
    return keras.Input((length, width))


def test_self_attention_with_other_widths_of_key_and_value(check, sizes) -> None:
    x = inputs = tokens(5)
    x = kl.Dense(12, name="embed")(x)
    y = kl.MultiHeadAttention(4, 8, value_dim=6, name="mha")(x, x)
    x = kl.LayerNormalization()(x + y)
    model = keras.Model(inputs, kl.Dense(3)(x))
    assert sizes(model) == {
        "embed": 12,
        "mha.num_heads": 4,
        "mha.key_dim": 8,
        "mha.value_dim": 6,
    }
    small, _ = check(model, exact=False)
    mha = small.get_layer("mha")
    assert (mha.num_heads, mha.key_dim, mha.value_dim) == (1, 2, 2)


@pytest.mark.parametrize("what", ["num_heads", "key_dim", "value_dim"])
def test_each_kind_of_unit_alone_is_exact(check, what) -> None:
    inputs = tokens()
    y = kl.MultiHeadAttention(4, 8, value_dim=6, name="mha")(inputs, inputs)
    model = keras.Model(inputs, kl.Dense(3)(y))
    small, _ = check(model, only=[f"mha.{what}"])
    config = small.get_layer("mha").get_config()
    whole = {"num_heads": 4, "key_dim": 8, "value_dim": 6}
    quarter = {"num_heads": 1, "key_dim": 2, "value_dim": 2}
    for key, before in whole.items():
        assert config[key] == (quarter[key] if key == what else before)


def test_heads_may_be_left_alone() -> None:
    inputs = tokens()
    y = kl.MultiHeadAttention(4, 8, name="mha")(inputs, inputs)
    model = keras.Model(inputs, kl.Dense(3)(y))
    small, _ = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", heads=False)
    assert small.get_layer("mha").num_heads == 4


def test_heads_are_not_rounded_to_eight() -> None:
    inputs = tokens()
    y = kl.MultiHeadAttention(4, 16, name="mha")(inputs, inputs)
    model = keras.Model(inputs, kl.Dense(3)(y))
    small, _ = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=8)
    mha = small.get_layer("mha")
    assert (mha.num_heads, mha.key_dim, mha.value_dim) == (2, 8, 8)


def test_the_query_is_scaled_by_the_root_of_new_over_old() -> None:
    inputs = tokens()
    y = kl.MultiHeadAttention(2, 8, name="mha")(inputs, inputs)
    model = keras.Model(inputs, y)
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", only="mha.key_dim",
                                   round_to=1)  # fmt: skip
    gone = next(line for line in report.plan.removals if line.axis == "key_dim").positions
    kept = [position for position in range(8) if position not in gone]
    old = model.get_layer("mha").get_weights()[0][:, :, kept]
    np.testing.assert_allclose(small.get_layer("mha").get_weights()[0], old * np.sqrt(0.5), 1e-6)


def test_cross_attention(check) -> None:
    queries, memory = keras.Input((4, 6), name="q"), keras.Input((5, 7), name="m")
    a, b = kl.Dense(10, name="a")(queries), kl.Dense(14, name="b")(memory)
    other = a[:, :1] * 0 + b[..., :10]
    y = kl.MultiHeadAttention(3, 4, value_dim=6, output_shape=9, name="cross")(a, b, other)
    check(keras.Model([queries, memory], kl.Dense(2)(y)))


def test_causal_masks_and_padding_masks(check) -> None:
    ids = keras.Input((6,), dtype="int32")
    x = kl.Embedding(11, 8, mask_zero=True, name="words")(ids)
    y = kl.MultiHeadAttention(2, 4, name="mha")(x, x, use_causal_mask=True)
    x = kl.Add()([x, y])
    check(keras.Model(ids, kl.Dense(3)(x)))


def test_grouped_queries(check, sizes) -> None:
    inputs = tokens()
    x = kl.Dense(12, name="embed")(inputs)
    y = kl.GroupQueryAttention(4, 8, 4, name="gqa")(x, x)
    model = keras.Model(inputs, kl.Dense(3)(x + y))
    assert sizes(model) == {"embed": 12, "gqa.num_key_value_heads": 4, "gqa.head_dim": 4}
    small, _ = check(model)
    gqa = small.get_layer("gqa")
    assert (gqa.num_query_heads, gqa.num_key_value_heads, gqa.head_dim) == (2, 1, 1)


def test_many_queries_of_one_key_go_one_by_one(check, sizes) -> None:
    inputs = tokens()
    y = kl.GroupQueryAttention(4, 4, 1, name="gqa")(inputs, inputs)
    model = keras.Model(inputs, kl.Dense(3)(y))
    assert sizes(model) == {"gqa.num_query_heads": 4, "gqa.head_dim": 4}
    check(model)


def test_attention_written_by_hand(check) -> None:
    """A fused projection, split into heads by reshaping, multiplied by matmul."""
    inputs = tokens()
    x = kl.Dense(3 * 12, name="qkv")(inputs)
    x = kl.Reshape((6, 3, 3, 4))(x)
    x = ops.transpose(x, (2, 0, 3, 1, 4))
    q, k, v = x[0], x[1], x[2]
    scores = ops.softmax(ops.matmul(q * 0.5, ops.transpose(k, (0, 1, 3, 2))), axis=-1)
    y = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
    y = kl.Reshape((6, 12))(y)
    check(keras.Model(inputs, kl.Dense(3)(y)), ratios=(0.5, 0.25))


def test_heads_that_are_made_by_einsum_are_heads_and_not_rounded(check) -> None:
    """Projections as subclasses of attention make them, with the mathematics written out."""
    inputs = tokens()
    q, k, v = (
        kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 4, 8), bias_axes="hk", name=name)(
            inputs
        )
        for name in "qkv"
    )
    scores = ops.softmax(ops.einsum("bqhk,bthk->bhqt", q, k) * 8**-0.5, axis=-1)
    y = ops.einsum("bhqt,bthk->bqhk", scores, v)
    y = kl.EinsumDense("bthk,hkd->btd", output_shape=(None, 12), name="out")(y)
    model = keras.Model(inputs, kl.Dense(3)(y))
    kinds = {group.name: group.kind for group in tfprune.units(model)}
    assert kinds == {"q.h": "heads", "q.k": "width", "v.k": "width", "out.d": "channels"}
    check(model)
    small, _ = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=8)
    assert small.get_layer("q").kernel.shape == (12, 2, 8)
    small, _ = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", heads=False)
    assert small.get_layer("q").kernel.shape[1] == 4


@pytest.mark.parametrize("kind", ["multi", "grouped"])
def test_scores_that_the_model_shows_keep_the_heads_and_nothing_else(check, sizes, kind) -> None:
    inputs = tokens()
    if kind == "multi":
        layer, width = (
            kl.MultiHeadAttention(2, 4, name="mha"),
            {"mha.key_dim": 4, "mha.value_dim": 4},
        )
    else:
        if keras.__version__.startswith("3.10."):
            pytest.skip("Keras 3.10 cannot make a graph of grouped attention with its scores")
        layer, width = kl.GroupQueryAttention(4, 4, 2, name="mha"), {"mha.head_dim": 4}
    x = kl.Dense(6, name="embed")(inputs)
    y, scores = layer(x, x, return_attention_scores=True)
    model = keras.Model(inputs, [kl.Dense(2)(y), scores])
    assert {name: size for name, size in sizes(model).items() if "dim" in name} == width
    small, _report = check(model)
    assert small.outputs[1].shape == model.outputs[1].shape
    assert any("output of the model" in line.reason for line in tfprune.units(model).frozen)


def test_heads_go_with_their_scores_where_these_are_used_inside(check, sizes) -> None:
    inputs = tokens()
    y, scores = kl.MultiHeadAttention(4, 4, name="mha")(
        inputs, inputs, return_attention_scores=True
    )
    weight = kl.Dense(1, name="weight")(ops.transpose(scores, (0, 2, 3, 1)))
    z = y * ops.sigmoid(ops.sum(weight, axis=2))
    model = keras.Model(inputs, kl.Dense(2)(z))
    assert sizes(model)["mha.num_heads"] == 4
    small, _ = check(model, only=["mha.num_heads"])
    assert small.get_layer("mha").num_heads == 1
    assert small.get_layer("weight").kernel.shape == (1, 1)


@pytest.mark.parametrize("kind", [kl.Attention, kl.AdditiveAttention])
def test_scores_of_plain_attention(check, kind) -> None:
    inputs = tokens()
    q, v = kl.Dense(8, name="q")(inputs), kl.Dense(6, name="v")(inputs)
    k = kl.Dense(8, name="k")(inputs)
    y, scores = kind(name="attend")([q, v, k], return_attention_scores=True)
    model = keras.Model(inputs, [kl.Dense(2)(y), scores])
    check(model, ratios=(0.5,))


def projected(inputs, heads, width, name):
    return kl.EinsumDense("btd,dhk->bthk", output_shape=(None, heads, width), name=name)(inputs)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_as_an_operation(check, sizes, scale) -> None:
    inputs = tokens()
    q, k, v = (projected(inputs, 4, 8, name) for name in "qkv")
    x = ops.dot_product_attention(q, k, v, scale=scale, is_causal=True)
    model = keras.Model(inputs, kl.Dense(2)(ops.reshape(x, (-1, 6, 32))))
    assert sizes(model) == {"q.h": 4}
    check(model)
    shared = projected(inputs, 2, 8, "shared")
    x = ops.dot_product_attention(q, shared, shared)
    found = tfprune.units(keras.Model(inputs, ops.sum(x, axis=2)))
    assert any("distributes its keys" in line.reason for line in found.frozen)


HEADS = 4 if keras.__version__.startswith("3.10.") else 2
"""Of keys and values: Keras 3.10 does not share them out among more queries."""


@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_width_of_attention_as_an_operation(check, sizes, scale) -> None:
    inputs = tokens()
    q, k, v = (projected(inputs, n, 8, name) for n, name in ((4, "q"), (HEADS, "k"), (HEADS, "v")))
    x = ops.sum(ops.dot_product_attention(q, k, v, scale=scale), axis=2)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert list(sizes(model).values()) == ([16] if HEADS == 2 else [4, 16])
    check(model)


def test_attention_as_an_operation_on_projections_split_by_reshaping(check, sizes) -> None:
    inputs = tokens()
    q, k, v = (ops.reshape(kl.Dense(32, name=name)(inputs), (-1, 6, 4, 8)) for name in "qkv")
    bias = ops.transpose(
        kl.Dense(4, name="bias")(inputs[:, :, None] - inputs[:, None]), (0, 3, 1, 2)
    )
    x = ops.dot_product_attention(q, k, v, bias=bias)
    model = keras.Model(inputs, kl.Dense(2)(ops.reshape(x, (-1, 6, 32))))
    assert list(sizes(model).values()) == [16]
    check(model)


@pytest.mark.parametrize("axes", [None, (2,), (1, 2)])
def test_heads_and_widths_of_attention_over_several_axes(axes, check) -> None:
    inputs = keras.Input((3, 4, 6))
    x = kl.Dense(8, name="before")(inputs)
    attention = kl.MultiHeadAttention(2, 4, attention_axes=axes, name="attention")
    model = keras.Model(inputs, kl.Dense(2)(attention(x, x)))
    names = {group.name for group in tfprune.units(model)}
    assert {"before", "attention.num_heads", "attention.key_dim"} <= names
    check(model)


def test_steps_that_attention_sums_over_are_kept() -> None:
    inputs = keras.Input((5, 6))
    x = kl.Permute((2, 1))(kl.Dense(8, name="before")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.MultiHeadAttention(2, 4, name="a")(x, x)))
    found = tfprune.units(model)
    assert "before" not in {group.name for group in found}
    assert ("before", "a attends over this axis") in [(f.layer, f.reason) for f in found.frozen]
