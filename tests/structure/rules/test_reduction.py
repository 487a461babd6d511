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


def test_lengths_and_foreign_matrices_freeze() -> None:
    inputs, a, _ = pair()
    found = tfprune.units(keras.Model(inputs, ops.norm(a, axis=-1)))
    assert "length of these vectors" in found.frozen[0].reason
    matrix = np.ones((5, 8, 3), "float32")
    found = tfprune.units(keras.Model(inputs, ops.matmul(a, matrix)))
    assert "belongs to no layer" in found.frozen[0].reason
