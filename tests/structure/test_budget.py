import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as kl

from tfprune.errors import ModelError
from tfprune.structure.budget import Meter, nearest_multiple, reachable
from tfprune.structure.rebuild import read_weights, rebuild
from tfprune.structure.units import units


def grouped():
    inputs = keras.Input((8, 8, 3))
    x = kl.BatchNormalization()(kl.Conv2D(8, 3, padding="same", name="a")(inputs))
    x = kl.Conv2D(12, 3, groups=2, padding="same", name="b")(x)
    x = kl.DepthwiseConv2D(3, strides=2, padding="same", name="d")(x)
    return keras.Model(inputs, kl.Dense(5, name="out")(kl.GlobalAveragePooling2D()(x)))


def test_multiplications_are_those_of_the_definition() -> None:
    found = units(grouped())
    meter = Meter(found)
    assert meter.macs_by_call(meter.everything) == {
        "a": 64 * 9 * 3 * 8,
        "b": 64 * 9 * (8 // 2) * 12,
        "d": 16 * 9 * 12,
        "out": 12 * 5,
    }
    assert meter.measure("macs", meter.everything) == meter.macs(meter.everything)
    assert reachable(found) == 1.0


def test_a_count_without_building_is_that_of_the_built_model() -> None:
    model = grouped()
    found = units(model)
    meter, weights = Meter(found), read_weights(found)
    a, b = found.groups
    gone = np.concatenate([a.units[[0, 5]], b.units[[1, 2, 7, 8]]])
    alive = found.alive(gone)
    small, _ = rebuild(found, alive, weights)
    assert meter.params(alive) == small.count_params()
    assert meter.macs(alive) == Meter(units(small)).macs(np.ones(units(small).flow.size, bool))
    assert meter.channels(alive) == 6 + 8
    assert meter.measure("tflite_bytes", alive) < 4 * small.count_params()


def test_multiplications_that_cannot_be_counted_ask_for_the_input_shape() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, kl.Conv2D(2, 1)(kl.Conv2D(4, 3)(inputs)))
    meter = Meter(units(model))
    with pytest.raises(ModelError, match="pass input_shape="):
        meter.measure("macs", meter.everything)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    most=st.integers(1, 200),
    step=st.integers(1, 32),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=6),
)
def test_rounding_never_empties_and_never_jumps(most, step, shares) -> None:
    kept = [nearest_multiple(share * most, step, most) for share in sorted(shares)]
    assert kept == sorted(kept)
    for share, count in zip(sorted(shares), kept, strict=True):
        assert 1 <= count <= most
        assert count % step == 0 or count == most
        assert abs(count - share * most) <= max(step / 2, step - share * most) or most <= step
    assert nearest_multiple(most, step, most) == most
