"""Shrinking as a recipe says."""

import keras
import numpy as np

from tfprune.pipeline.changes import shrink_by, target_of
from tfprune.recipe.tables import ShrinkTable


def network(norm: bool) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inner = [layers.BatchNormalization()] if norm else []
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(16, activation="relu"), *inner, layers.Dense(3)]
    )


X = np.random.default_rng(0).random((64, 6), np.float32)
HALF = ShrinkTable(target={"channels": 0.5}, round_to=1)


def test_what_is_kept_is_refitted_on_samples() -> None:
    model = network(norm=False)
    plain, report = shrink_by(model, HALF, data=None, repair=None)
    refitted, _ = shrink_by(model, HALF, data=None, repair=X)
    assert [layer.units for layer in plain.layers] == [8, 3]
    assert report.after.params < report.before.params

    def error(small: keras.Model) -> float:
        return float(np.square(np.asarray(model(X)) - np.asarray(small(X))).mean())

    assert error(refitted) < 0.5 * error(plain)


def test_statistics_are_those_of_the_samples() -> None:
    small, _ = shrink_by(network(norm=True), HALF, data=None, repair=X)
    *_, first, norm, _ = small.layers
    np.testing.assert_allclose(norm.moving_mean, np.mean(first(X), axis=0), rtol=1e-4)


def test_a_target_is_a_plain_dict_or_a_name() -> None:
    assert target_of(ShrinkTable(target="zeros")) == "zeros"
    assert type(target_of(ShrinkTable(target={"macs": 0.5}))) is dict
