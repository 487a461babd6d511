import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import DataError
from tfprune.structure.plan import Removal

RNG = np.random.default_rng(0)


def distance(model, small, data) -> float:
    a, b = np.asarray(model(data)), np.asarray(small(data))
    return float(np.square(a - b).mean() / np.square(a - a.mean(0)).mean())


def repaired_distance(model) -> float:
    """How far a model without the third unit of `a`, repaired, is from it; plainly it is far."""
    data = RNG.normal(size=(200, 4)).astype("float32")
    plan = tfprune.Plan(model.name, (Removal("a", "units", 3, (2,)),))
    plain, _ = tfprune.shrink(model, plan)
    small, report = tfprune.shrink(model, plan, repair=data)
    assert report.error <= 1e-4
    assert distance(model, plain, data) > 0.1
    return distance(model, small, data)


def test_a_channel_that_others_can_say_is_replaced_exactly() -> None:
    """The third unit is the sum of the first two and a constant."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2, name="out")(kl.Dense(3, name="a")(inputs)))
    kernel = RNG.normal(size=(4, 3)).astype("float32")
    kernel[:, 2] = kernel[:, 0] + kernel[:, 1]
    model.get_layer("a").set_weights([kernel, np.array([0, 0, 5], "float32")])
    assert repaired_distance(model) < 1e-4


def test_a_constant_goes_into_the_norm_after_a_layer_without_bias() -> None:
    """The third unit always says 5; it was forgotten where no bias could take it."""
    inputs = keras.Input((4,))
    x = kl.Dense(6, use_bias=False, name="b")(kl.Dense(3, name="a")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.ReLU()(kl.BatchNormalization(name="norm")(x))))
    kernel = RNG.normal(size=(4, 3)).astype("float32")
    kernel[:, 2] = 0
    model.get_layer("a").set_weights([kernel, np.array([0, 0, 5], "float32")])
    model.get_layer("norm").set_weights(list(RNG.uniform(0.5, 2, (4, 6))))
    assert repaired_distance(model) < 1e-9


@pytest.mark.parametrize("dims", [1, 2])
def test_convolutions_come_nearer_to_the_original(dims: int) -> None:
    conv = {1: kl.Conv1D, 2: kl.Conv2D}[dims]
    pool = {1: kl.GlobalAveragePooling1D, 2: kl.GlobalAveragePooling2D}[dims]
    x = inputs = keras.Input((8,) * dims + (3,))
    x = kl.ReLU()(kl.BatchNormalization()(conv(16, 3, padding="same", name="a")(x)))
    x = kl.ReLU()(conv(12, 3, padding="same", name="b")(x))
    model = keras.Model(inputs, kl.Dense(5, name="out")(pool()(x)))
    data = RNG.normal(size=(64, *inputs.shape[1:])).astype("float32")
    options = {"ranking": "uniform", "round_to": 1, "importance": "l2"}
    plain, _ = tfprune.shrink(model, {"channels": 0.5}, **options)
    small, report = tfprune.shrink(model, {"channels": 0.5}, repair=data, **options)
    assert report.error <= 1e-4
    fresh = RNG.normal(size=(64, *inputs.shape[1:])).astype("float32")
    assert distance(model, small, fresh) < 0.5 * distance(model, plain, fresh)


def test_empty_data_is_said() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8)(inputs)))
    with pytest.raises(DataError, match="empty"):
        tfprune.shrink(model, {"channels": 0.5}, round_to=1, repair=np.zeros((0, 4), "float32"))
