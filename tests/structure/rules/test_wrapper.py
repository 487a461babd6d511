import keras
from keras import layers as kl

import tfprune


def test_time_distributed(check, sizes) -> None:
    x = inputs = keras.Input((3, 8, 8, 2))
    x = kl.TimeDistributed(kl.Conv2D(6, 3), name="td")(x)
    x = kl.TimeDistributed(kl.BatchNormalization())(x)
    x = kl.TimeDistributed(kl.Flatten())(x)
    x = kl.TimeDistributed(kl.Dense(8, activation="relu"), name="td2")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.LSTM(4, name="lstm")(x)))
    assert set(sizes(model).values()) == {6, 8, 4}
    check(model, ratios=(0.5,))


def wrapped():
    """A network over the frames of a film."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            kl.Conv2D(6, 3, name="conv"),
            kl.BatchNormalization(),
            kl.ReLU(),
            kl.MaxPooling2D(),
            kl.Conv2D(4, 2, name="conv2"),
            kl.Flatten(),
            kl.Dense(8, activation="relu", name="dense"),
        ],
        name="frame",
    )
    x = inputs = keras.Input((3, 8, 8, 2))
    x = kl.TimeDistributed(inner, name="td")(x)
    return keras.Model(inputs, kl.Dense(2)(kl.LSTM(4, name="lstm")(x)))


def test_a_sequential_over_time(check, sizes) -> None:
    model = wrapped()
    assert sizes(model) == {"td.conv": 6, "td.conv2": 4, "td.dense": 8, "lstm": 4}
    small, _ = check(model)
    frame = small.get_layer("td").layer
    assert frame.get_layer("conv").filters == 2
    assert frame.get_layer("dense").kernel.shape == (4, 2)


def test_a_functional_model_over_time(check, sizes) -> None:
    a = keras.Input((8, 8, 3), name="frame")
    x = kl.Conv2D(8, 3, padding="same", name="stem")(a)
    y = kl.Conv2D(8, 3, padding="same", activation="relu", name="branch")(x)
    x = kl.Add()([x, kl.DepthwiseConv2D(3, padding="same")(y)])
    x = kl.Concatenate()([x, kl.Conv2D(4, 1, name="side")(x)])
    x = kl.Dense(6, name="head")(kl.GlobalAveragePooling2D()(x))
    inner = keras.Model(a, x, name="inner")
    inputs = keras.Input((None, 8, 8, 2))
    z = kl.TimeDistributed(kl.Conv2D(3, 1), name="before")(inputs)
    z = kl.TimeDistributed(inner, name="td")(z)
    model = keras.Model(inputs, kl.Dense(2)(kl.GRU(4, name="gru")(z)))
    assert sizes(model) == {"before": 3, "td.stem": 8, "td.side": 4, "td.head": 6, "gru": 4}
    small, _ = check(model)
    assert small.get_layer("td").layer.inputs[0].shape == (None, 8, 8, 1)


def test_models_in_models_over_time(check, sizes) -> None:
    block = keras.Sequential([keras.Input((5,)), kl.Dense(6, name="a"), kl.ReLU()], name="block")
    a = keras.Input((5,))
    inner = keras.Model(a, kl.Dense(4, name="b")(block(kl.Dense(5, name="first")(a))), name="inner")
    inputs = keras.Input((3, 5))
    x = kl.TimeDistributed(inner, name="td")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.LayerNormalization()(x)))
    assert set(sizes(model).values()) == {5, 6, 4}
    check(model, exact=False)


def test_normalization_inside_of_what_runs_over_time_is_named(check) -> None:
    inner = keras.Sequential(
        [keras.Input((4,)), kl.Dense(8), kl.LayerNormalization(), kl.Dense(4)], name="inner"
    )
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, kl.Dense(2)(kl.TimeDistributed(inner)(inputs)))
    _, report = check(model, exact=False)
    assert any("layer_normalization" in reason for reason in report.reasons)


def test_sizes_in_the_arguments_of_a_wrapped_model_hold_what_they_touch(check) -> None:
    """A slice is written in the calls of the inner model, which no config of a layer holds."""
    a = keras.Input((4,))
    x = kl.Dense(8, name="cut")(a)
    x = kl.Dense(6, name="free")(x[:, :4] + x[:, 4:])
    inner = keras.Model(a, kl.Dense(4)(x), name="inner")
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, kl.Dense(2)(kl.TimeDistributed(inner, name="td")(inputs)))
    small, _ = check(model)
    layers = small.get_layer("td").layer
    assert layers.get_layer("cut").units == 8
    assert layers.get_layer("free").units == 2
    assert any("td" in line.layer and "arguments" in line.reason
               for line in tfprune.units(model).frozen)  # fmt: skip


def test_a_wrapped_model_of_the_users_own_stays_and_is_named() -> None:
    inputs = keras.Input((5, 4))
    x = kl.TimeDistributed(Own(), name="td")(kl.Dense(4)(inputs))
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert any("td wraps own" in line.reason for line in found.frozen)


@keras.saving.register_keras_serializable("wrapper rules")
class Own(keras.Model):
    """A subclassed model."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = kl.Dense(6), kl.Dense(3)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 6))

    def call(self, x):
        return self.second(self.first(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)
