import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune


def pair(width=8):
    inputs = keras.Input((5, 4))
    return inputs, kl.Dense(width, name="a")(inputs), kl.Dense(width, name="b")(inputs)


@pytest.mark.parametrize("keepdims", [True, False])
def test_a_sum_over_channels_is_exact_and_a_mean_is_not(check, keepdims) -> None:
    inputs, a, _ = pair()
    check(keras.Model(inputs, ops.sum(a, axis=-1, keepdims=keepdims)))
    _, report = check(keras.Model(inputs, ops.mean(a, axis=-1, keepdims=keepdims)), exact=False)
    assert "Mean over these channels" in report.reasons[0]


def test_reductions_over_other_axes_let_channels_through(check) -> None:
    inputs, a, b = pair()
    x = ops.concatenate([ops.max(a, axis=1), ops.mean(b, axis=1)], axis=-1)
    check(keras.Model(inputs, kl.Dense(2)(x)))


def test_matmul_joins_what_it_sums_over(check, sizes) -> None:
    inputs, a, b = pair()
    x = ops.matmul(a, ops.transpose(b, (0, 2, 1)))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert list(sizes(model).values()) == [8]
    check(model)


def test_dot_of_two_towers(check) -> None:
    inputs, a, b = pair()
    a, b = kl.Flatten()(a), kl.Flatten()(b)
    check(keras.Model(inputs, [kl.Dot(1)([a, b]), kl.Dot(1, normalize=True)([a, b])]))


def test_einsum_between_tensors(check, sizes) -> None:
    inputs, a, b = pair()
    x = ops.einsum("bsd,btd->bst", a, b)
    c = kl.Dense(6, name="c")(inputs)
    y = ops.einsum("bst,btc->bsc", x, c)
    model = keras.Model(inputs, kl.Dense(2)(y))
    assert sorted(sizes(model).values()) == [6, 8]
    check(model)


def test_attention_without_weights(check, sizes) -> None:
    inputs, a, b = pair()
    value = kl.Dense(6, name="value")(inputs)
    x = kl.Attention(use_scale=True)([a, value, b])
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sorted(sizes(model).values()) == [6, 8]
    check(model)
    x = kl.AdditiveAttention()([a, value, b])
    check(keras.Model(inputs, kl.Dense(2)(x)))


def test_running_sums_run_over_what_stays(check, sizes) -> None:
    inputs, a, b = pair()
    model = keras.Model(inputs, kl.Dense(2)(ops.cumsum(a, axis=1)))
    assert sizes(model) == {"a": 8}
    check(model)
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(ops.cumsum(b, axis=-1))))
    assert "runs over this axis" in found.frozen[0].reason
    found = tfprune.units(keras.Model(inputs, ops.cumsum(b)))
    assert "runs over all positions" in found.frozen[0].reason


@pytest.mark.parametrize("order", [None, 1, np.inf])
def test_lengths_are_those_without_what_is_silent(check, sizes, order) -> None:
    inputs, a, b = pair()
    x = [ops.norm(a, ord=order, axis=-1), ops.norm(b, ord=order, axis=-1, keepdims=True)]
    model = keras.Model(inputs, x)
    assert sizes(model) == {"a": 8, "b": 8}
    check(model)


def test_normalized_towers(check, sizes) -> None:
    inputs, a, b = pair()
    x = ops.sum(ops.normalize(a, axis=-1) * ops.normalize(b, axis=-1, order=1), axis=-1)
    model = keras.Model(inputs, x)
    assert list(sizes(model).values()) == [8]
    check(model)


def test_lengths_to_which_zeros_count_freeze() -> None:
    inputs, a, _ = pair()
    found = tfprune.units(keras.Model(inputs, ops.norm(a, ord=-np.inf, axis=-1)))
    assert "length in which zeros count" in found.frozen[0].reason


def test_foreign_matrices_hold_what_they_are_summed_with_and_nothing_else(check, sizes) -> None:
    inputs, a, b = pair()
    matrix = np.random.default_rng(0).normal(size=(5, 8, 3)).astype("float32")
    found = tfprune.units(keras.Model(inputs, ops.matmul(a, matrix)))
    assert "belongs to no layer" in found.frozen[0].reason
    neighbors = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    x = ops.matmul(neighbors, a), ops.einsum("ij,bjd->bid", neighbors, b)
    model = keras.Model(inputs, kl.Dense(2)(ops.concatenate(x, axis=-1)))
    assert sizes(model) == {"a": 8, "b": 8}
    check(model)


def test_matmul_of_different_ranks(check, sizes) -> None:
    inputs, a, b = pair()
    others = kl.Dense(8, name="c")(kl.GlobalAveragePooling1D()(inputs))
    x = ops.matmul(a, ops.transpose(others))
    y = ops.matmul(b[:, None], ops.transpose(others))
    model = keras.Model(inputs, [x, y])
    assert list(sizes(model).values()) == [8]
    check(model, ratios=(0.5,))


def test_tensordot(check, sizes) -> None:
    inputs, a, b = pair()
    table = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    x = ops.tensordot(ops.transpose(a, (0, 2, 1)), table, axes=1)
    model = keras.Model(inputs, kl.Dense(2)(ops.transpose(x, (0, 2, 1))))
    assert sizes(model) == {"a": 8}
    check(model)
    found = tfprune.units(keras.Model(inputs, ops.tensordot(b, np.ones((8, 3), "float32"), 1)))
    assert "belongs to no layer" in found.frozen[0].reason


def test_dots_of_an_einsum(check, sizes) -> None:
    inputs, a, b = pair()
    x = ops.einsum("...sd,...td->...st", a, b)
    y = ops.einsum("...st,...tc->...sc", x, kl.Dense(6, name="c")(inputs))
    y = ops.einsum("...sc,b...c->...sb", y[:, None], y[:, :1])
    check(keras.Model(inputs, y))
