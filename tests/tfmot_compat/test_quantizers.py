"""Quantizers, beside those of the toolkit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfprune import quantizers
from tfprune.tfmot_compat.adapter import toolkit

KINDS = ["LastValueQuantizer", "MovingAverageQuantizer", "AllValuesQuantizer"]
BATCHES = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")


def run(quantizer, layer) -> list[np.ndarray]:
    variables = quantizer.build(BATCHES[0].shape, "kernel", layer)
    batches = list(map(tf.constant, BATCHES))
    found = [np.array(quantizer(batch, True, variables)) for batch in batches]
    found.append(np.array(quantizer(batches[0], False, weights=variables)))
    return [*found, *(np.array(variables[name]) for name in ("min_var", "max_var"))]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("bits", "symmetric", "narrow"), [(8, False, False), (4, True, True), (8, True, False)]
)
def test_they_round_as_those_of_the_toolkit(name, bits, symmetric, narrow) -> None:
    options = (bits, False, symmetric, narrow)
    ours = getattr(quantizers, name)(*options)
    theirs = getattr(toolkit().quantization.keras.quantizers, name)(*options)
    assert ours.get_config() == theirs.get_config()
    expected = run(theirs, tf_keras.layers.Layer())
    for layer in (tf_keras.layers.Layer(), keras.layers.Layer()):
        for one, other in zip(run(ours, layer), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_each_place_of_the_last_axis_has_its_range() -> None:
    quantizer = quantizers.LastValueQuantizer(8, True, True, True)
    *_, low, high = run(quantizer, keras.layers.Layer())
    np.testing.assert_allclose(high, np.abs(BATCHES[2]).max(0), rtol=1e-6)
    np.testing.assert_allclose(low, -high)


def test_they_are_equal_by_their_arguments() -> None:
    one = quantizers.FixedQuantizer(8, -1.0, 1.0, False)
    assert one == quantizers.FixedQuantizer.from_config(one.get_config())
    assert one != quantizers.FixedQuantizer(8, -1.0, 2.0, False)
    assert np.array(one(np.float32([2.0]), True, one.build((1,), "a", None)))[0] <= 1.01
    assert len({quantizers.AllValuesQuantizer(8, False, False, False) for _ in range(2)}) == 1
