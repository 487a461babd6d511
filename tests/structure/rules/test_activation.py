import inspect

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.graph.rebuild import is_foreign
from tfprune.structure.rules.activation import MIXING, POINTWISE, is_elementwise_function

NAMES = sorted(
    name for name in POINTWISE if hasattr(keras.activations, name) and name != "threshold"
)


@pytest.mark.parametrize("name", NAMES)
def test_a_pointwise_activation_gives_a_channel_from_that_channel_alone(name: str) -> None:
    x = keras.random.normal((2, 6), seed=1)
    whole = keras.activations.get(name)(x)
    part = keras.activations.get(name)(x[:, 1:4])
    assert keras.ops.convert_to_numpy(whole)[:, 1:4] == pytest.approx(
        keras.ops.convert_to_numpy(part), abs=1e-6
    )


@pytest.mark.parametrize("name", sorted(MIXING))
def test_a_mixing_one_does_not(name: str) -> None:
    x = keras.random.normal((2, 6), seed=1)
    whole = keras.activations.get(name)(x)
    part = keras.activations.get(name)(x[:, 1:4])
    assert keras.ops.convert_to_numpy(whole)[:, 1:4] != pytest.approx(
        keras.ops.convert_to_numpy(part), abs=1e-3
    )


def test_an_activation_may_be_a_layer_or_a_function_of_tensorflow(sizes) -> None:
    import tensorflow as tf

    inputs = keras.Input((4,))
    x = kl.Dense(8, activation=kl.LeakyReLU(0.1), name="a")(inputs)
    x = kl.Dense(8, activation=kl.ReLU(), name="b")(x)
    x = kl.Dense(6, activation=tf.nn.relu, name="c")(x)
    assert sizes(keras.Model(inputs, kl.Dense(2)(x))) == {"a": 8, "b": 8, "c": 6}


def quick_gelu(x):
    return x * ops.sigmoid(1.702 * x)


@pytest.mark.parametrize(
    ("function", "alone"),
    [
        (quick_gelu, True),
        (lambda x: x * x, True),
        (lambda x: keras.activations.gelu(x, approximate=True), True),
        (lambda x: ops.where(x > 0, x, 0.1 * x), True),
        (lambda x: x * np.arange(5, dtype="float32"), False),
        (lambda x: x - ops.max(x), False),
        (lambda x: x[..., ::-1], False),
        (lambda x: ops.transpose(x), False),
        (lambda x: ops.softmax(x, axis=-1), False),
        (lambda x: float(x), False),
        (lambda x: 3, False),
    ],
)
def test_only_elementwise_operations_and_numbers_act_alone(function, alone) -> None:
    assert is_elementwise_function(function) is alone


def test_whose_function_it_is() -> None:
    assert is_foreign(quick_gelu)
    assert not is_foreign(keras.activations.relu)
    assert not is_foreign(kl.ReLU())
    assert not is_foreign(None)


def test_units_under_a_function_of_ones_own_can_go(sizes) -> None:
    inputs = keras.Input((6,))
    x = kl.Dense(8, activation=quick_gelu, name="a")(inputs)
    x = kl.Activation(quick_gelu)(kl.Dense(8, name="b")(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"a": 8, "b": 8}
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-4
    assert small.get_layer("a").activation is quick_gelu
    data = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    full, _ = tfprune.shrink(model, {"channels": 1.0})
    np.testing.assert_allclose(full(data), model(data), atol=1e-6)
    # The function that stood alone is operations of Keras now.
    assert not [layer for layer in small.layers if isinstance(layer, kl.Activation)]


def test_a_function_that_mixes_channels_freezes_them_and_is_named() -> None:
    inputs = keras.Input((6,))
    x = kl.Dense(8, activation=lambda x: x[..., ::-1], name="odd")(inputs)
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert len(found) == 0
    assert "odd has an activation without a rule" in found.frozen[0].reason


FUNCTIONS = sorted(
    name
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function) and name not in ("get", "serialize", "deserialize")
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_keras_activations_is_known_between_layers(name: str) -> None:
    """Listed from the installed Keras, so that a new one fails here until it has a rule."""
    inputs = keras.Input((6, 8))
    before = kl.Dense(8, name="before")(inputs)
    options = {"threshold": 0.1, "default_value": 0.0} if name == "threshold" else {}
    try:
        after = getattr(keras.activations, name)(before, **options)
    except ValueError as error:
        if "KerasTensor" not in str(error):
            raise
        pytest.skip(f"Keras {keras.__version__} cannot call {name} on a symbolic tensor")
    model = keras.Model(inputs, kl.Dense(2)(after))
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert small.get_layer("before").units == 4
    assert report.error <= 1e-4
    assert tfprune.macs(model).total > 0
