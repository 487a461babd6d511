"""Operations that take sizes, with sizes that are open."""

import keras
import numpy as np
import pytest
from keras import ops

from tfprune.graph.tracing.open_size import OpenSizeError
from tfprune.graph.tracing.unknown_sizes import open_sizes

X = np.random.default_rng(0).normal(size=(3, 5, 8)).astype("float32")


def traced(function):
    """What a function does, traced with open sizes, as a model."""
    inputs = keras.Input((None, 8))
    with open_sizes():
        batch, length, _ = ops.shape(inputs)
        outputs = function(inputs, batch, length)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, b, n: ops.arange(n, dtype="float32"), np.arange(5.0)),
        (lambda x, b, n: ops.arange(0, b), np.arange(3)),
        (lambda x, b, n: ops.zeros((b, 2)), np.zeros((3, 2))),
        (lambda x, b, n: ops.ones((b, 1, n)), np.ones((3, 1, 5))),
        (lambda x, b, n: ops.full((n,), 7), np.full(5, 7)),
        (lambda x, b, n: ops.tile([[[1.0, 2.0]]], (b, 2, 1)), np.tile([[[1.0, 2.0]]], (3, 2, 1))),
        (lambda x, b, n: ops.broadcast_to([[True, False]], (b, 2)), [[True, False]] * 3),
        (lambda x, b, n: ops.reshape(x, (b, n, 2, 4)), X.reshape(3, 5, 2, 4)),
        (lambda x, b, n: ops.reshape(x, (b, n, -1, 2)), X.reshape(3, 5, 4, 2)),
        (lambda x, b, n: ops.reshape(x, (b * 5, 8)), X.reshape(15, 8)),
        (lambda x, b, n: ops.reshape(x, (b, -1)), X.reshape(3, 40)),
        (lambda x, b, n: ops.reshape(x, (n, b, 8)), X.reshape(5, 3, 8)),
        (lambda x, b, n: ops.reshape(ops.reshape(x, (-1, 8)), (b, n, 8)), X),
        (
            lambda x, b, n: ops.reshape(ops.reshape(x, (b * n, 8)), (b, n, 2, -1)),
            X.reshape(3, 5, 2, 4),
        ),
        (lambda x, b, n: ops.arange(n + 1), np.arange(6)),
        (lambda x, b, n: ops.arange(1 - n, 1), np.arange(-4, 1)),
        (lambda x, b, n: ops.arange(n, -n, -1.0), np.arange(5, -5, -1.0)),
        (lambda x, b, n: ops.arange(0, 2 * n, 3), np.arange(0, 10, 3)),
        (lambda x, b, n: ops.arange(b * n // n), np.arange(3)),
        (lambda x, b, n: ops.arange(n)[None] * 1, [np.arange(5)]),
        (lambda x, b, n: ops.zeros((n // 2 + b * n,)), np.zeros(17)),
        (lambda x, b, n: ops.tile(x, (b, n, 1)), np.tile(X, (3, 5, 1))),
        (lambda x, b, n: ops.tile(x[0], (b, 1, 1)), np.tile(X[0], (3, 1, 1))),
        (lambda x, b, n: ops.repeat(x, n, axis=2), np.repeat(X, 5, axis=2)),
        (
            lambda x, b, n: ops.broadcast_to(x[:, :1, :1], (b, 4, n)),
            np.broadcast_to(X[:, :1, :1], (3, 4, 5)),
        ),
        (lambda x, b, n: ops.tile(x, (1, 2, 1))[:, :n], X),
        (lambda x, b, n: ops.tile(x, (1, 2, 1))[..., -n:, :3], X[:, :, :3]),
        (lambda x, b, n: x[:, None, n - 1, 2:4], X[:, None, -1, 2:4]),
        (lambda x, b, n: ops.slice(x, (0, 1, 0), (b, n - 1, 4)), X[:, 1:, :4]),
        (
            lambda x, b, n: ops.pad(x, ((0, 0), (n - 1, 1), (0, 0))),
            np.pad(X, ((0, 0), (4, 1), (0, 0))),
        ),
        (
            lambda x, b, n: ops.pad(x, ((0, 0), (0, (4 - n % 4) % 4), (2, 0)), constant_values=7.0),
            np.pad(X, ((0, 0), (0, 3), (2, 0)), constant_values=7),
        ),
        (lambda x, b, n: ops.tril(ops.ones((n, n), "bool"), -1), np.tri(5, k=-1, dtype=bool)),
        (lambda x, b, n: ops.triu(x, 2), np.triu(X, 2)),
        (
            lambda x, b, n: ops.einsum("bTNS,bSN->bTN", ops.reshape(x, (b, n, 2, 4)), x[:, :4, :2]),
            np.einsum("btns,bsn->btn", X.reshape(3, 5, 2, 4), X[:, :4, :2]),
        ),
        (lambda x, b, n: ops.zeros((n - b + 1,)), np.zeros(3)),
        (lambda x, b, n: ops.concatenate([x, x[:, 1:]], 1)[:, n:], X[:, 1:]),
        (lambda x, b, n: x * n, X * 5),
        (lambda x, b, n: x * ops.ndim(x), X * 3),
        (lambda x, b, n: 2 * n / x, 10 / X),
        (lambda x, b, n: x / n**0.5, X / np.float32(5**0.5)),
        (lambda x, b, n: x + ops.cast(ops.minimum(n, 3), "float32"), X + 3),
        (lambda x, b, n: x if n > 0 and n != n + 1 and b * n >= 1 else -x, X),
    ],
)
def test_what_takes_sizes_is_worked_out_when_data_arrives(function, expected) -> None:
    got = traced(function)(X)
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_axes_of_equal_size_are_not_confused() -> None:
    """On TensorFlow, Keras 3.15 adds a row to a column of the same length as two columns."""
    x = np.random.default_rng(0).normal(size=(4, 4, 8)).astype("float32")
    for function, expected in (
        (lambda x, b, n: ops.reshape(ops.reshape(x, (-1, 8)), (b, n, 8)), x),
        (lambda x, b, n: ops.zeros((b * n,)), np.zeros(16)),
        (lambda x, b, n: ops.tile(x, (1, n, 1)), np.tile(x, (1, 4, 1))),
        (lambda x, b, n: ops.repeat(x, n, axis=1), np.repeat(x, 4, axis=1)),
        (lambda x, b, n: ops.zeros((b, 1, n)) + x[:, :, :1], np.repeat(x[:, :, :1], 4, axis=2)),
    ):
        np.testing.assert_array_equal(traced(function)(x), expected)


def test_a_causal_mask_is_right_for_every_length() -> None:
    def mask(x, batch, length):
        i = ops.expand_dims(ops.arange(length), 1)
        return ops.broadcast_to(
            ops.expand_dims(i >= ops.arange(length), 0), (batch, length, length)
        )

    model = traced(mask)
    for length in (1, 4, 9):
        got = model(np.zeros((2, length, 8), "float32"))
        np.testing.assert_array_equal(got, np.tile(np.tri(length, dtype=bool), (2, 1, 1)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, b, n: x if n > 3 else -x,
        lambda x, b, n: x if n == b else -x,
        lambda x, b, n: sum(x[:, i] for i in range(n)),
        lambda x, b, n: ops.zeros((-n,)),
        lambda x, b, n: ops.arange(n // b),
        lambda x, b, n: ops.arange(0, n, 0.5),
        lambda x, b, n: x[:, 0:n:2],
        lambda x, b, n: ops.reshape(x, (n, b, 2, -1, -1)),
        lambda x, b, n: ops.pad(x, ((0, 0), (0, n), (0, 0)), mode="reflect"),
        lambda x, b, n: ops.broadcast_to(x, (b, n, n)),
    ],
)
def test_what_needs_a_number_is_refused(function) -> None:
    with pytest.raises(OpenSizeError):
        traced(function)
