"""The operations of a call, watched while they run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.qat.watched_steps import Places, run_watched
from tfprune.keras_support.internals import all_layers

L = keras.layers


def _watched(layer, shape, change=lambda step: None):
    """Return the steps of a call, and a function that calls the layer with them changed."""
    steps = []

    def note(step):
        steps.append(step)
        return change(step)

    def call(x):
        places = Places(all_layers(layer))
        return run_watched(places, note, lambda variable, value: value, lambda: layer(x))

    function = tf.function(call, autograph=False)
    function.get_concrete_function(tf.TensorSpec(shape))
    return steps, function


def _places_in(layer, shape, part) -> set:
    index = all_layers(layer).index(part)
    return {step.place for step in _watched(layer, shape)[0] if step.place[0] == index}


def test_an_operation_has_one_place_in_a_loop_and_unrolled_and_for_a_batch_of_one():
    layer = L.LSTM(4, use_cudnn=False)
    layer.build((None, 5, 3))
    looped = _places_in(layer, (None, 5, 3), layer.cell)
    layer.unroll = True
    assert looped
    for shape in ((None, 5, 3), (1, 3, 3)):
        unrolled = _places_in(layer, shape, layer.cell)
        # Only a batch of one has axes to squeeze.
        assert {place for place in unrolled if place[1] != "Squeeze"} == looped


def test_a_place_is_the_same_in_16_bits():
    places = []
    for policy in ("float32", "mixed_float16"):
        layer = L.GroupNormalization(2, dtype=policy)
        layer.build((None, 5, 4))
        steps, _ = _watched(layer, (None, 5, 4))
        places.append({step.place for step in steps if step.kind != "Cast"})
    assert places[0] == places[1]


def test_two_operations_on_one_line_have_two_places():
    layer = L.Lambda(lambda x: (x + 1.0) * (x + 2.0))
    steps, _ = _watched(layer, (None, 3))
    added = [step.place for step in steps if step.kind == "AddV2"]
    assert len(set(added)) == 2


def test_an_output_can_be_replaced():
    layer = L.Lambda(lambda x: x * 2.0 + 1.0)
    layer.build((None, 3))

    def change(step):
        return [step.outputs[0] * 10.0] if step.kind == "Mul" else None

    _, function = _watched(layer, (None, 3), change)
    np.testing.assert_allclose(function(np.ones((1, 3), "float32")), np.full((1, 3), 21.0))
    np.testing.assert_allclose(layer(np.ones((1, 3), "float32")), np.full((1, 3), 3.0))


@pytest.mark.parametrize(
    "name", ["softplus", "softsign", "elu", "selu", "silu", "celu", "log_sigmoid", "mish"]
)
def test_a_function_in_steps_is_the_same_function(name):
    layer = L.Activation(name)
    layer.build((None, 61))
    x = np.linspace(-6, 6, 61, dtype="float32")[None]
    steps, function = _watched(layer, (None, 61))
    kinds = {step.kind for step in steps}
    assert not kinds & {"Softplus", "Softsign", "Elu", "Selu", "Expm1"}
    np.testing.assert_allclose(function(x), layer(x), atol=1e-6)
    x = tf.constant(x + 0.01)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        watched, plain = function(x), layer(x)
    np.testing.assert_allclose(tape.gradient(watched, x), tape.gradient(plain, x), atol=1e-5)


def test_a_bias_of_channels_first_is_added_to_them():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
    layer = L.Lambda(lambda x: tf.nn.bias_add(x, [1.0, 2.0, 3.0], data_format="NCHW"))
    layer.build((None, 3, 4, 4))
    _, function = _watched(layer, (None, 3, 4, 4))
    expected = x + np.array([1.0, 2.0, 3.0], "float32").reshape(3, 1, 1)
    np.testing.assert_allclose(function(x), expected, atol=1e-6)
