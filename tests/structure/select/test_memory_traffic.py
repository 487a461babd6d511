import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import OptionError
from tfprune.structure.groups.units import units
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.memory_traffic import MACS_PER_NUMBER, intensities


def two_stages(size=16):
    """A wide early stage with a depthwise convolution, and a late one of many multiplications."""
    inputs = keras.Input((size, size, 3))
    x = kl.Conv2D(64, 1, name="early")(inputs)
    x = kl.ReLU()(kl.BatchNormalization()(x))
    x = kl.DepthwiseConv2D(3, padding="same")(x)
    x = kl.Conv2D(16, 1, name="thin")(x)
    x = kl.MaxPooling2D(4)(x)
    x = kl.Conv2D(128, 3, name="late", padding="same")(x)
    return keras.Model(inputs, kl.Dense(4)(kl.GlobalAveragePooling2D()(x)))


def test_intensity_is_time_over_multiplications() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(3, name="b")(kl.Dense(5, name="a")(inputs)))
    # One group: a's 5 units. It reads 4, writes 5, reads 5, writes 3; 4*5 + 5*3 multiplications.
    time = (4 * 5 + 5 * 3) + MACS_PER_NUMBER * (5 + 5)
    total = (4 * 5 + 5 * 3) + MACS_PER_NUMBER * (4 + 5 + 5 + 3)
    assert intensities(units(model)).tolist() == [pytest.approx(time / total)]


def test_layers_folded_into_a_convolution_move_no_memory() -> None:
    def net(*between):
        inputs = keras.Input((8, 8, 3))
        x = kl.Conv2D(8, 3, name="conv")(inputs)
        for layer in between:
            x = layer(x)
        return units(keras.Model(inputs, kl.Conv2D(2, 1)(x)))

    plain = intensities(net())
    folded = net(kl.BatchNormalization(), kl.ReLU(), kl.Activation("relu"))
    np.testing.assert_allclose(intensities(folded), plain)
    assert intensities(net(kl.Activation("swish"))) != pytest.approx(plain)


def test_fast_keeps_the_same_multiplications_and_removes_more_where_time_is_spent() -> None:
    model = two_stages()
    options = {"round_to": 1, "verify": False}
    _, even = tfprune.shrink(model, {"macs": 0.5}, ranking="uniform", **options)
    small, report = tfprune.shrink(model, {"macs": 0.5}, ranking="fast", **options)
    assert report.achieved == pytest.approx(even.achieved, abs=0.05)
    before, after = ({g.name: g.after for g in r.groups} for r in (even, report))
    assert after["early"] < before["early"]
    assert after["late"] > before["late"]
    assert small.count_params() == report.after.params


def test_fast_reaches_what_uniform_reaches() -> None:
    found = units(two_stages())
    meter = Meter(found)
    _, report = tfprune.shrink(
        found.model, {"macs": 0.05}, ranking="fast", round_to=1, verify=False
    )
    assert report.after.macs <= 0.05 * meter.macs(meter.everything)


def test_open_sizes_are_an_error_that_asks_for_input_shape() -> None:
    model = two_stages(None)
    with pytest.raises(OptionError, match="needs the sizes of all tensors: pass input_shape="):
        tfprune.shrink(model, {"channels": 0.5}, ranking="fast")
    tfprune.shrink(model, {"channels": 0.5}, ranking="fast", input_shape=(16, 16, 3))


def test_the_batch_is_not_an_open_size_on_any_axis() -> None:
    inputs = keras.Input((10, 24))
    x = ops.transpose(ops.reshape(kl.Dense(96)(inputs), (-1, 10, 3, 4, 8)), (2, 0, 3, 1, 4))
    q, k, v = x[0], x[1], x[2]
    o = ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))), v)
    x = kl.Dense(3)(ops.reshape(ops.transpose(o, (0, 2, 1, 3)), (-1, 10, 32)))
    _, report = tfprune.shrink(
        keras.Model(inputs, x), {"macs": 0.6}, round_to=1, ranking="fast", verify=False
    )
    assert report.after.macs <= 0.6 * report.before.macs
