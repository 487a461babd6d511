from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfprune
from tfprune.errors import ModelError

o = keras.ops
FACTOR = np.arange(12, dtype="float32").reshape(4, 3) / 12

# Of x with the shape (4, 6), positive.
IN_TF: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: x + 3.0,
    "subtract from a number": lambda x: 1.0 - x,
    "multiply": lambda x: x * x,
    "divide": lambda x: tf.nn.relu6(x + 3.0) / 6.0,
    "power, abs, negative": lambda x: abs(-(x**2)),
    "compare": lambda x: tf.where((x > 0.3) & (x <= 0.8), x, tf.zeros_like(x[0])),
    "gelu": lambda x: tf.nn.gelu(x - 0.5),
    "gelu, approximate": lambda x: tf.nn.gelu(x - 0.5, approximate=True),
    "leaky relu": lambda x: tf.nn.leaky_relu(x - 0.5),
    "silu": lambda x: tf.nn.silu(x),
    "softmax": lambda x: tf.nn.softmax(x, axis=1),
    "slice": lambda x: x[:, 1:3, ::2],
    "slice with an ellipsis": lambda x: x[..., 0],
    "slice with a new axis": lambda x: x[:, tf.newaxis],
    "join": lambda x: tf.concat([x, 2.0 * x], axis=-1),
    "stack": lambda x: tf.stack([x, -x], axis=1),
    "reshape, transpose": lambda x: tf.transpose(tf.reshape(x, (-1, 3, 8)), [0, 2, 1]),
    "mean": lambda x: tf.reduce_mean(x, axis=[1], keepdims=True),
    "sum of all": lambda x: tf.reduce_sum(x, axis=(1, 2)),
    "split in equal parts": lambda x: tf.split(x, 2, axis=-1)[1],
    "split by sizes": lambda x: tf.split(x, [1, 3, -1], axis=-1)[2],
    "attention": lambda x: tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x),
    "einsum": lambda x: tf.einsum("bij,bkj->bik", x, x),
    "product with a constant": lambda x: tf.transpose(x, [0, 2, 1]) @ tf.constant(FACTOR),
    "cast": lambda x: tf.cast(tf.cast(x, "float16"), tf.float32),
    "squeeze": lambda x: tf.squeeze(tf.expand_dims(x[:, :1], 1), axis=[1, 2]),
    "clip": lambda x: tf.clip_by_value(x, 0.2, 0.6),
    "pad": lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 0]], constant_values=2.0),
    "pad by reflection": lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 0]], mode="REFLECT"),
    "tile": lambda x: tf.tile(x, [1, 2, 1]),
    "repeat": lambda x: tf.repeat(x, 2, axis=1),
    "exp": lambda x: tf.exp(tf.math.log(tf.sqrt(x))),
}  # fmt: skip
IN_KERAS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: o.gelu(x - 0.5),
    "leaky relu": lambda x: o.leaky_relu(x - 0.5, negative_slope=0.1),
    "split by positions": lambda x: o.split(x, [1, 3], axis=-1)[1],
    "split in equal parts": lambda x: o.split(x, 3, axis=-1)[2],
    "slice": lambda x: x[:, 1:3, ::2],
    "product": lambda x: o.matmul(x, o.transpose(x, [0, 2, 1])),
    "einsum": lambda x: o.einsum("bij,bkj->bik", x, x),
    "reshape": lambda x: o.reshape(x, (-1, 24)),
    "squeeze": lambda x: o.squeeze(o.expand_dims(x[:, 0], 1), axis=1),
    "softmax": lambda x: o.softmax(x, axis=-1),
    "where": lambda x: o.where(x > 0.5, x, 0.0),
    "hard sigmoid by hand": lambda x: x * o.relu6(x + 3.0) * (1 / 6),
    "clip": lambda x: o.clip(x, 0.2, 0.6),
    "pad": lambda x: o.pad(x, [[0, 0], [1, 1], [0, 0]]),
    "mean": lambda x: o.mean(x, axis=1, keepdims=True),
    "round": lambda x: o.round(10 * x),
    "join, stack": lambda x: o.stack([o.concatenate([x, x], axis=1)] * 2, axis=1),
    "cast": lambda x: o.cast(o.cast(x, "float16"), "float32"),
}  # fmt: skip


def model_of(api: Any, function: Callable[[Any], Any]) -> Any:
    x = api.Input((4, 6))
    return api.Model(x, function(api.layers.Dense(6, activation="sigmoid")(x)))


def assert_equal_outputs(old: Any, new: Any) -> None:
    x = np.random.default_rng(0).random((3, 4, 6), "float32")
    np.testing.assert_allclose(np.asarray(new(x)), np.asarray(old(x)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", IN_TF)
def test_functions_of_tensorflow_are_converted_there_and_back(name: str) -> None:
    old = model_of(tf_keras, IN_TF[name])
    new = tfprune.to_keras3(old)
    assert_equal_outputs(old, new)
    assert_equal_outputs(new, tfprune.to_tf_keras(new))


@pytest.mark.parametrize("name", IN_KERAS)
def test_functions_of_keras_are_converted_there_and_back(name: str) -> None:
    old = model_of(keras, IN_KERAS[name])
    new = tfprune.to_tf_keras(old)
    assert_equal_outputs(old, new)
    assert_equal_outputs(new, tfprune.to_keras3(new))


def test_names_differ_from_those_of_layers() -> None:
    x = tf_keras.Input((4, 6), name="x")
    y = tf_keras.layers.Multiply(name="multiply")([x * 2.0, tf.matmul(x, x, transpose_b=True) @ x])
    keras.utils.clear_session()
    new = tfprune.to_keras3(tf_keras.Model(x, tf_keras.layers.Permute((1, 2), name="transpose")(y)))
    names = [operation.name for operation in new.operations]
    assert {"multiply", "transpose"} < set(names)
    assert sum(name.startswith("tf.math.multiply") for name in names) == 1


def test_a_converted_model_is_saved_and_loaded(tmp_path) -> None:
    new = tfprune.to_keras3(model_of(tf_keras, IN_TF["attention"]))
    new.save(tmp_path / "m.keras")
    assert_equal_outputs(new, keras.models.load_model(tmp_path / "m.keras"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: tf.shape(x)[0] + 1, r"compat.v1.shape, is a function without a counterpart"),
        (lambda x: tf.nn.silu(x, beta=2.0), r"does not take beta=2.0; replace it by a layer"),
        (lambda x: tf.split(x, [-1, 2], axis=2)[0], "split: only the last size may be -1"),
    ],
)
def test_a_function_without_a_counterpart_is_named(function: Any, message: str) -> None:
    with pytest.raises(ModelError, match=f"^to_keras3: .*{message}") as error:
        tfprune.to_keras3(model_of(tf_keras, function))
    assert "\n" not in str(error.value)
