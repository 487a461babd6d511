import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import DataError
from tfprune.structure.select.plan import Removal

RNG = np.random.default_rng(0)


def distance(model, small, data) -> float:
    a, b = (np.asarray(one(data), np.float64) for one in (model, small))
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


def test_nothing_is_added_that_nothing_takes_up() -> None:
    """Behind a Dense without bias a mean that was told apart was lost: repair made it worse."""
    inputs = keras.Input((4,))
    x = kl.Dense(3, activation="sigmoid", name="a")(inputs)
    model = keras.Model(inputs, kl.Dense(2, use_bias=False)(x))
    kernel = RNG.normal(size=(4, 3)).astype("float32")
    kernel[:, 2] = kernel[:, 0]
    model.get_layer("a").set_weights([kernel, np.array([3, 0, 3], "float32")])
    assert repaired_distance(model) < 1e-3


def _flat(x):
    return kl.Reshape((36, 16))(x)


READERS = {
    "grouped": lambda x: kl.Conv2D(8, 3, groups=4, name="reader")(x),
    "transposed": lambda x: kl.Conv2DTranspose(6, 3, strides=2, name="reader")(x),
    "einsum": lambda x: kl.EinsumDense("abcd,de->abce", (None, None, 6), bias_axes="e")(x),
    "einsum turned": lambda x: kl.EinsumDense("abcd,def->abfe", (6, 5, 5), bias_axes="fe")(x),
    "lstm": lambda x: kl.LSTM(6)(_flat(x)),
    "gru": lambda x: kl.GRU(6)(_flat(x)),
    "both ways": lambda x: kl.Bidirectional(kl.SimpleRNN(6))(_flat(x)),
    "flattened": lambda x: kl.Dense(6)(kl.Flatten()(x)),
}


GONE = tuple(range(2, 16, 4)) + tuple(range(3, 16, 4))
"""Of every four channels the last two, which the first two can say."""


def _mix(layer) -> None:
    """Let the channels that go be sums of their neighbors, and add a constant."""
    kernel, bias = layer.get_weights()
    for place in GONE:
        kernel[..., place] = kernel[..., place // 4 * 4] + place * kernel[..., place // 4 * 4 + 1]
    layer.set_weights([kernel, bias])


def _both(model, data) -> tuple[float, float]:
    """How far the model without what goes is from it, plain and repaired."""
    key = "filters" if isinstance(model.get_layer("a"), kl.Conv2D) else "units"
    plan = tfprune.Plan(model.name, (Removal("a", key, 16, GONE),))
    plain, _ = tfprune.shrink(model, plan)
    small, report = tfprune.shrink(model, plan, repair=data)
    assert not [note for note in report.notes if "repair" in note]
    return distance(model, plain, data), distance(model, small, data)


IMAGES = RNG.normal(1, 1, size=(96, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize("name", READERS)
def test_every_layer_that_is_linear_in_its_input_is_repaired(name: str, monkeypatch) -> None:
    monkeypatch.setattr("tfprune.structure.rebuild.repair.MANY", 100)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(16, 3, name="a")(inputs)
    model = keras.Model(inputs, READERS[name](x))
    _mix(model.get_layer("a"))
    plain, repaired = _both(model, IMAGES)
    assert plain > 0.1
    assert repaired < 1e-4


def test_attention_and_layers_that_are_called_twice_are_repaired() -> None:
    keras.utils.set_random_seed(0)
    one, two = keras.Input((5, 4)), keras.Input((5, 4))
    wide, narrow = kl.Dense(16, name="a"), kl.Dense(6, name="b")
    x, y = wide(one), wide(two)
    z = kl.MultiHeadAttention(2, 4, output_shape=6, name="mha")(x, y)
    model = keras.Model([one, two], kl.Add()([narrow(x), narrow(y), z]))
    _mix(wide)
    plain, repaired = _both(model, [RNG.normal(size=(64, 5, 4)).astype("float32") for _ in "ab"])
    assert plain > 0.1
    assert repaired < 1e-4


def test_what_is_not_repaired_is_named() -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = kl.SeparableConv2D(8, 3, name="split")(kl.Conv2D(16, 3, name="a")(x))
    model = keras.Model(inputs, x)
    _, report = tfprune.shrink(model, {"channels": 0.5}, repair=IMAGES)
    assert any("repair= does not reach all of split:" in note for note in report.notes)


def test_empty_data_is_said() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8)(inputs)))
    with pytest.raises(DataError, match="empty"):
        tfprune.shrink(model, {"channels": 0.5}, round_to=1, repair=np.zeros((0, 4), "float32"))
