"""Samples out of whatever holds the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.converter.calibrate import calibration_samples, random_samples
from tfprune.errors import DataError
from tfprune.runtime.artifact import TensorSpec

_IMAGE = (TensorSpec("image", (-1, 2, 2), "float32"),)
_TWO = (TensorSpec("a", (-1, 3), "float32"), TensorSpec("b", (-1,), "int32"))
_X = np.arange(24.0).reshape(6, 2, 2)
_A, _B, _Y = np.ones((6, 3)), np.arange(6), np.zeros(6)


class _Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return _X[2 * index : 2 * index + 2], _Y[2 * index : 2 * index + 2]


@pytest.mark.parametrize(
    "data",
    [
        _X,
        tf.constant(_X),
        {"image": _X},
        (_X,),
        (_X, _Y),
        (_X, _Y, _Y),
        list(_X),
        _X.tolist(),
        [_X[:4], _X[4:]],
        (sample for sample in _X),
        lambda: ([sample[None]] for sample in _X),
        tf.data.Dataset.from_tensor_slices(_X),
        tf.data.Dataset.from_tensor_slices((_X, _Y)),
        tf.data.Dataset.from_tensor_slices((_X, _Y)).batch(4),
        tf.data.Dataset.from_tensor_slices({"image": _X}).batch(4),
        tf.data.Dataset.from_tensor_slices(({"image": _X}, _Y)).batch(4),
        tf.data.Dataset.from_tensor_slices((_X, _Y, _Y)).batch(6),
        _Sequence(),
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_form_of_one_input_gives_the_same(data):
    samples, total = calibration_samples(data, _IMAGE)
    assert total == 6
    assert samples["image"].dtype == np.float32
    np.testing.assert_array_equal(samples["image"], _X)


@pytest.mark.parametrize(
    "data",
    [
        {"b": _B, "a": _A},
        [_A, _B],
        ([_A, _B],),
        ([_A, _B], _Y),
        tf.data.Dataset.from_tensor_slices(((_A, _B),)).batch(4),
        tf.data.Dataset.from_tensor_slices(((_A, _B), _Y)).batch(4),
        tf.data.Dataset.from_tensor_slices(({"a": _A, "b": _B}, _Y)),
        [{"a": a, "b": b} for a, b in zip(_A, _B, strict=True)],
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_form_of_two_inputs_gives_the_same(data):
    samples, total = calibration_samples(data, _TWO)
    assert (list(samples), total) == (["a", "b"], 6)
    np.testing.assert_array_equal(samples["a"], _A)
    np.testing.assert_array_equal(samples["b"], _B)
    assert samples["b"].dtype == np.int32


def test_arrays_are_thinned_at_even_distances_and_streams_from_their_beginning():
    ten = (TensorSpec("x", (-1,), "float32"),)
    samples, total = calibration_samples(np.arange(10), ten, limit=4)
    assert (samples["x"].tolist(), total) == ([0.0, 3.0, 6.0, 9.0], 10)
    samples, total = calibration_samples(iter(np.arange(10.0)[:, None]), ten, limit=4)
    assert (samples["x"].tolist(), total) == ([0.0, 1.0, 2.0, 3.0], None)


@pytest.mark.parametrize(
    ("data", "inputs", "text"),
    [
        (np.zeros((0, 2, 2)), _IMAGE, "calibration= is empty"),
        ([], _IMAGE, "calibration= is empty"),
        (iter(()), _IMAGE, "calibration= is empty"),
        (
            np.zeros((4, 3, 2)),
            _IMAGE,
            r"'image': expected a batch of shape \(None, 2, 2\). Received \(4, 3, 2\)",
        ),
        (
            np.where(np.arange(4) == 2, np.nan, 0.0).reshape(1, 2, 2),
            _IMAGE,
            "NaN or infinity in sample 0",
        ),
        (np.full((2, 2, 2), np.inf), _IMAGE, "NaN or infinity in sample 0"),
        (np.full((2, 2, 2), "x"), _IMAGE, "expected numbers, .* Received <U1"),
        ({"imag": _X}, _IMAGE, "unknown input 'imag'. Known: image. Did you mean image"),
        ({"a": _A}, _TWO, r"no input 'b'. Received \['a'\]"),
        (
            (_A, _B),
            _TWO,
            r"takes 2 inputs. Received 1; a tuple is \(inputs, labels\); give several",
        ),
        (_A, _TWO, r"Received 1; give several inputs as a list \[a, b\] or a dict"),
        ([_A, _B[:3]], _TWO, "expected arrays of one length. Received 3 inputs, 6 inputs"),
        ([_A, _B + 0.5], _TWO, "'b': the model takes int32. Received 0.5"),
        ([_X[:2], np.zeros((2, 3, 2))], _IMAGE, r"expected a batch of shape \(None, 2, 2\)"),
        (3, _IMAGE, "give inputs, .* Received int"),
    ],
)
def test_what_does_not_fit_is_one_line(data, inputs, text):
    with pytest.raises(DataError, match=text) as caught:
        calibration_samples(data, inputs)
    assert "\n" not in str(caught.value)


def test_samples_of_different_lengths_are_named():
    words = (TensorSpec("words", (-1, -1), "float32"),)
    with pytest.raises(DataError, match=r"different shapes: \[\(2,\), \(3,\)\]; pad"):
        calibration_samples([np.zeros(2), np.zeros(3)], words)


def test_random_samples_suit_their_inputs():
    inputs = (
        TensorSpec("x", (-1, 4), "float32"),
        TensorSpec("tokens", (-1, -1), "int32"),
        TensorSpec("mask", (-1, 5), "bool"),
        TensorSpec("pixels", (-1, 200), "uint8"),
    )
    samples = random_samples(inputs, 3, {"tokens": 7})
    assert {name: array.shape for name, array in samples.items()} == {
        "x": (3, 4), "tokens": (3, 8), "mask": (3, 5), "pixels": (3, 200),
    }  # fmt: skip
    assert samples["tokens"].max() < 7
    assert samples["pixels"].max() > 200
    assert samples["mask"].dtype == np.bool_
    again = random_samples(inputs, 3, {"tokens": 7})
    assert all((again[name] == samples[name]).all() for name in samples)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("x.npy", "calibration=: give inputs, .* Received str"),
        (lambda batch: [_X], "a function that returns samples must take no arguments"),
        (_X * 1e300, "too large for float32, which the model takes"),
    ],
)
def test_what_are_no_samples_is_one_line_without_a_warning(data, text, recwarn):
    with pytest.raises(DataError, match=text):
        calibration_samples(data, _IMAGE)
    assert not recwarn


def test_a_function_without_a_signature_is_called():
    assert calibration_samples(iter([_X]).__next__, _IMAGE)[1] == 6
