"""Volumes, in files of all kinds."""

import keras
import numpy as np
import pytest
import tf_keras

from tfprune.deploy.tflite import to_tflite

_POOLS = {
    "max": {"pool_size": 2},
    "max_same": {"pool_size": (3, 2, 3), "strides": (2, 1, 2), "padding": "same"},
    "max_flat": {"pool_size": (1, 2, 2)},
    "max_deep": {"pool_size": (3, 1, 1), "strides": (1, 1, 1)},
    "average": {"pool_size": (2, 3, 2)},
    "average_same": {"pool_size": 3, "strides": 2, "padding": "same"},
}
_CONVOLUTIONS = {
    "conv": {"kernel_size": 3},
    "conv_same": {"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
    "conv_uneven": {"kernel_size": (2, 1, 3), "padding": "same", "use_bias": False},
    "conv_deep_steps": {"kernel_size": (4, 2, 2), "strides": (3, 1, 1)},
    "conv_one": {"kernel_size": 1},
    "conv_one_steps": {"kernel_size": 1, "strides": 2, "padding": "same"},
}


def _model(k):
    """All pools, global pools and convolutions as outputs of one model."""
    k.utils.set_random_seed(0)
    layers, inputs = k.layers, k.Input((6, 7, 8, 3))
    h = layers.Conv3D(4, 1)(inputs)
    outputs = {}
    for name, options in _POOLS.items():
        kind = layers.MaxPooling3D if name.startswith("max") else layers.AveragePooling3D
        outputs[name] = kind(**options)(h)
    for name, options in _CONVOLUTIONS.items():
        outputs[name] = layers.Conv3D(5, **options)(h)
    outputs["global_max"] = layers.GlobalMaxPooling3D()(h)
    outputs["global_average"] = layers.GlobalAveragePooling3D()(h)
    stack = layers.Conv3D(4, 2)(layers.MaxPooling3D(2)(layers.Conv3D(4, 2)(inputs)))
    outputs["stack"] = layers.Dense(3)(layers.Flatten()(stack))
    return k.Model(inputs, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("k", [keras, tf_keras])
@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8", "int16x8"])
def test_volumes_are_pooled_and_convolved(k, scheme):
    x = np.random.default_rng(0).normal(size=(40, 6, 7, 8, 3)).astype("float32")
    report = to_tflite(_model(k), scheme=scheme, calibration=x).report
    assert "CONV_3D" not in report.ops
    limit = {"float32": 1e-5, "int16x8": 0.01}.get(scheme, 0.1)
    worst = {one.output: one.rms_error / one.spread for one in report.parity}
    assert {name: error for name, error in worst.items() if error > limit} == {}


def test_a_convolution_of_open_sizes_is_left_to_the_runtime():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv3D(4, 2)(inputs))
    assert "CONV_3D" in to_tflite(model).report.ops
    assert "CONV_3D" not in to_tflite(model, input_shape=(4, 4, 4, 3)).report.ops
