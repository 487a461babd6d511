import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune


def image():
    return keras.Input((6, 6, 3))


def test_cascaded_and_nested_concatenations(check, sizes) -> None:
    inputs = image()
    a = kl.Conv2D(6, 3, padding="same", name="a")(inputs)
    b = kl.Conv2D(4, 3, padding="same", name="b")(a)
    ab = kl.Concatenate()([a, b])
    c = kl.Conv2D(8, 3, padding="same", name="c")(kl.BatchNormalization()(ab))
    everything = kl.Concatenate()([kl.Concatenate()([ab, c]), a, inputs])
    x = kl.ReLU()(kl.BatchNormalization()(everything))
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"a": 6, "b": 4, "c": 8}
    check(model)


def test_the_same_tensor_concatenated_twice(check, sizes) -> None:
    inputs = image()
    a = kl.Conv2D(6, 1, name="a")(inputs)
    x = kl.Concatenate()([a, a, kl.ReLU()(a)])
    model = keras.Model(inputs, kl.Conv2D(2, 1, name="out")(x))
    assert sizes(model) == {"a": 6}
    small, _ = check(model, ratios=(0.5,))
    assert small.get_layer("out").kernel.shape[-2] == 9


def test_halves_split_and_joined_again(check) -> None:
    """As in the C2f block of a detector."""
    x = inputs = image()
    x = kl.Conv2D(16, 1, name="in")(x)
    left, right = ops.split(x, 2, axis=-1)
    one = kl.Conv2D(8, 3, padding="same", name="one")(right)
    two = right + kl.Conv2D(8, 3, padding="same", name="two")(one)
    x = kl.Concatenate()([left, right, one, two])
    model = keras.Model(inputs, kl.Conv2D(3, 1)(x))
    small, _ = check(model)
    assert small.count_params() < model.count_params()


def test_a_split_need_not_stay_even() -> None:
    x = inputs = keras.Input((4,))
    x = kl.Dense(8, use_bias=False, name="in")(x)
    left, right = ops.split(x, 2, axis=-1)
    outputs = kl.Dense(2, name="l")(left) + kl.Dense(2, name="r")(right)
    model = keras.Model(inputs, outputs)
    kernel = np.ones((4, 8), "float32") * [1, 1, 1, 9, 9, 9, 9, 9]
    model.get_layer("in").set_weights([kernel])
    small, report = tfprune.shrink(
        model, {"channels": 0.5}, round_to=1, ranking="uniform", importance="l1", only="in"
    )
    assert report.plan.removals[0].positions[:3] == (0, 1, 2)
    assert small.get_layer("l").kernel.shape[0] + small.get_layer("r").kernel.shape[0] == 4
    assert small.get_layer("l").kernel.shape[0] >= 1


def test_slices_and_picks_are_written_anew(check) -> None:
    x = inputs = image()
    x = kl.Conv2D(12, 1, name="a")(x)
    y = x[..., :5] * np.arange(1.0, 6.0, dtype="float32")
    z = x[..., 5:]
    w = x[:, 1:4, ::2, 3]
    x = kl.Conv2D(2, 1)(y) + kl.Conv2D(2, 1)(z)
    outputs = [x, kl.Dense(2)(w), kl.Dense(2)(y[:, ..., None, ::-1])]
    model = keras.Model(inputs, outputs)
    small, report = check(model)
    # Three of eleven, or one more: neither slice may be emptied.
    assert report.groups[0].after in (3, 4)
    assert small.count_params() < model.count_params()


def test_a_stride_over_channels_keeps_its_pairs(check, sizes) -> None:
    x = inputs = image()
    x = kl.Conv2D(12, 1, name="a")(x)
    x = kl.Conv2D(2, 1)(x[..., ::2]) + kl.Conv2D(2, 1)(x[..., 1::2])
    model = keras.Model(inputs, x)
    assert sizes(model) == {"a": 6}
    check(model)


def test_a_stride_that_does_not_fit_freezes() -> None:
    inputs = image()
    x = kl.Conv2D(7, 1, name="a")(inputs)
    found = tfprune.units(keras.Model(inputs, kl.Conv2D(2, 1)(x[..., ::2])))
    assert "picks with a step of 2" in found.frozen[0].reason


def test_concatenation_over_another_axis_joins(check, sizes) -> None:
    inputs = image()
    a, b = kl.Conv2D(8, 1, name="a")(inputs), kl.Conv2D(8, 1, name="b")(inputs)
    x = kl.Concatenate(axis=1)([a, b])
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"a": 8}
    check(model)


def test_take_and_unstack(check) -> None:
    x = inputs = keras.Input((6, 5))
    x = kl.Dense(8, name="a")(x)
    picked = ops.take(x, [0, 3], axis=1)
    first, second = ops.unstack(picked, axis=1)
    model = keras.Model(inputs, kl.Dense(2)(first + second))
    check(model)


def test_densenet_like_normalization_over_a_concatenation(check) -> None:
    x = inputs = image()
    x = kl.Conv2D(8, 3, padding="same", name="stem")(x)
    for step in range(3):
        y = kl.ReLU()(kl.BatchNormalization()(x))
        y = kl.Conv2D(4, 3, padding="same", name=f"grow{step}")(y)
        x = kl.Concatenate()([x, y])
    x = kl.GlobalAveragePooling2D()(kl.BatchNormalization()(x))
    check(keras.Model(inputs, kl.Dense(3, activation="softmax")(x)))


@pytest.mark.parametrize("axis", [1, -1])
def test_a_half_that_gates_the_other(check, sizes, axis) -> None:
    if ops.glu(keras.Input((4, 6))).shape[-1] != 3:
        pytest.skip("this Keras says that glu gives as much as it takes: no layer can follow it")
    inputs = keras.Input((6, 3))
    x = kl.Conv1D(16, 3, name="both")(inputs)
    x = ops.glu(x, axis=axis)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"both": 8 if axis == -1 else 16}
    check(model, ratios=(0.5,))
