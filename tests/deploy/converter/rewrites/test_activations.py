"""Activation functions in integer files."""

import keras
import numpy as np
import pytest
import tf_keras
from keras import activations, ops

from tfprune.deploy.tflite import to_tflite

L = keras.layers
# Each within 5 % of the spread of the output; before, six stayed float or disagreed.
_CLOSE = [
    "celu", "elu", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh",
    "leaky_relu", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_sigmoid", "squareplus", "tanh",
    "tanh_shrink",
]  # fmt: skip


def _images():
    return np.random.default_rng(0).normal(size=(60, 6, 6, 3)).astype("float32") * 2


def _errors(k, functions, scheme="int8"):
    """Return the errors of activations behind convolutions, as fractions of their spread."""
    k.utils.set_random_seed(0)
    inputs = k.Input((6, 6, 3))
    outputs = {
        name: k.layers.Activation(function)(k.layers.Conv2D(8, 3)(inputs))
        for name, function in functions.items()
    }
    report = to_tflite(k.Model(inputs, outputs), scheme=scheme, calibration=_images()).report
    return {found.output: found.rms_error / found.spread for found in report.parity}


def test_activations_are_close_in_8_bits():
    errors = _errors(keras, {name: getattr(activations, name) for name in _CLOSE})
    assert {name: error for name, error in errors.items() if error > 0.05} == {}


def test_activations_are_closer_in_16_bits():
    names = ("elu", "selu", "softplus", "mish")
    errors = _errors(keras, {name: getattr(activations, name) for name in names}, "int16x8")
    assert max(errors.values()) < 0.01


def test_activations_of_keras_2_are_close_in_8_bits():
    errors = _errors(tf_keras, {name: name for name in ("elu", "selu", "softplus", "mish")})
    assert max(errors.values()) < 0.05


@pytest.mark.parametrize("limit", [ops.minimum, ops.maximum])
@pytest.mark.parametrize("bound", [0.0, 0.5, -1.0])
def test_a_limit_is_for_its_own_readers(limit, bound):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    h = L.Conv2D(8, 3)(inputs)
    model = keras.Model(inputs, [limit(h, bound), h * 2.0])
    for found in to_tflite(model, scheme="int8", calibration=_images()).report.parity:
        assert found.rms_error / found.spread < 0.05


def test_every_activation_of_keras_is_known_to_these_tests():
    named = {name for name in dir(activations) if callable(getattr(activations, name))}
    # Two other names; outputs of large numbers or with jumps; sums that stay float; an argument.
    others = {
        "hard_swish",
        "swish",
        "exponential",
        "linear",
        "sparse_plus",
        "sparsemax",
        "threshold",
    }
    assert named - {"deserialize", "get", "serialize"} <= {*_CLOSE, *others}
