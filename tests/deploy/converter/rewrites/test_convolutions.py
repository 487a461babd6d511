"""Products whose dilation, bias or ReLU stands apart, in files with trained ranges."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from tfprune.deploy.qat.quantize_aware import quantize_aware
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.litert import Runner

L = keras.layers
_IMAGE, _SEQUENCE, _OPEN, _VOLUME = (9, 8, 3), (16, 4), (None, 4), (6, 6, 6, 2)


def _no_bias(x):
    h = L.Conv2D(6, 3, padding="same", dilation_rate=3, use_bias=False)(x)
    return L.ReLU()(L.BatchNormalization()(h))


def _by_time(x):
    return L.TimeDistributed(L.Conv2D(4, 3, dilation_rate=2))(ops.reshape(x, (-1, 1, *x.shape[1:])))


def _pooled(x):
    h = L.Conv3D(4, 3, padding="same", activation="relu")(x)
    return L.BatchNormalization()(L.MaxPooling3D()(h))


_CASES = {
    "same": (_IMAGE, L.Conv2D(6, 3, padding="same", dilation_rate=2, activation="relu")),
    "valid, one axis": (_IMAGE, L.Conv2D(6, 3, dilation_rate=(2, 1), activation="tanh")),
    "a folded norm": (_IMAGE, _no_bias),
    "depthwise": (_IMAGE, L.DepthwiseConv2D(3, padding="same", dilation_rate=2)),
    "separable": (_IMAGE, L.SeparableConv2D(6, 3, padding="same", dilation_rate=2)),
    "inside another layer": (_IMAGE, _by_time),
    "causal": (_SEQUENCE, L.Conv1D(6, 2, padding="causal", dilation_rate=4, activation="relu")),
    "sequence, depthwise": (_SEQUENCE, L.DepthwiseConv1D(3, padding="same", dilation_rate=2)),
    "one filter": (_SEQUENCE, L.Conv1D(1, 3, padding="same", activation="tanh")),
    "open": (_OPEN, L.Conv1D(6, 3, strides=2, activation="relu")),
    "open, one filter": (_OPEN, L.Conv1D(1, 3)),
    "open, dilated": (_OPEN, L.Conv1D(6, 3, padding="same", dilation_rate=2)),
    "volumes": (_VOLUME, L.Conv3D(4, 3)),
    "volumes, dilated": (_VOLUME, L.Conv3D(4, 2, dilation_rate=2)),
    "volumes, pooled and normalized": (_VOLUME, _pooled),
}
_QUICK = {"same", "causal", "open, one filter"}


def _model(shape, middle) -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    h = middle(inputs)
    if None in h.shape[1:]:
        h = L.GlobalMaxPooling1D()(h)
    h = ops.reshape(h, (-1, math.prod(h.shape[1:])))
    sizes = [10 if size is None else size for size in shape]
    x = np.random.default_rng(0).normal(size=(32, *sizes)).astype("float32")
    return keras.Model(inputs, L.Dense(3)(h)), x


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in _QUICK else pytest.mark.slow) for n in _CASES]
)
def test_what_the_converter_fuses_is_an_integer_operation(name):
    model, x = _model(*_CASES[name])
    aware = quantize_aware(model)
    for part in (x, x[::2]):
        aware(part, training=True)
    options = {"calibration": x} if None in model.inputs[0].shape[1:] else {}
    artifact = to_tflite(aware, scheme="int8", **options)  # what stays float is an error
    steps = np.abs(Runner(artifact)(x) - aware(x)) / artifact.report.outputs[0].scale
    assert steps.mean() < 1.0
    assert steps.max() < 8
    assert not any(note.startswith("calibrated") for note in artifact.report.notes)
    if "open" not in name:
        assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "ADD"} & set(artifact.report.ops)


def test_dilated_volumes_are_convolved_in_float_too():
    model, x = _model(_VOLUME, L.Conv3D(4, 2, padding="same", dilation_rate=2))
    np.testing.assert_allclose(Runner(to_tflite(model))(x), np.asarray(model(x)), atol=1e-5)
