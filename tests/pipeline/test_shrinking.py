"""Shrinking as a recipe says."""

import keras
import numpy as np
import pytest

from tfprune.pipeline.shrinking import shrink_by, target_of
from tfprune.recipe.tables import ShrinkTable


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3),
        ]
    )


def test_what_is_kept_is_refitted_on_samples(model: keras.Model) -> None:
    x = np.random.default_rng(0).random((64, 6), np.float32)
    table = ShrinkTable(target={"channels": 0.5}, round_to=1)
    plain, report = shrink_by(model, table, data=None, repair=None)
    refitted, _ = shrink_by(model, table, data=None, repair=x)
    assert [layer.units for layer in plain.layers if hasattr(layer, "units")] == [8, 3]
    assert report.after.params < report.before.params

    def error(small: keras.Model) -> float:
        return float(np.square(np.asarray(model(x)) - np.asarray(small(x))).mean())

    assert error(refitted) < 0.5 * error(plain)
    assert not np.allclose(plain.layers[1].moving_mean, refitted.layers[1].moving_mean)


def test_a_target_is_a_plain_dict_or_a_name() -> None:
    assert target_of(ShrinkTable(target="zeros")) == "zeros"
    assert type(target_of(ShrinkTable(target={"macs": 0.5}))) is dict
