import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune


@pytest.mark.parametrize(
    "merge", [kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum]
)
def test_merging_layers_join(check, sizes, merge) -> None:
    inputs = keras.Input((4,))
    x = merge()([kl.Dense(8, name="a")(inputs), kl.Dense(8, name="b")(inputs)])
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"a": 8}
    check(model, ratios=(0.5,))


@pytest.mark.parametrize(
    "merge", [ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum, ops.logaddexp]
)
def test_merging_operations_join(check, sizes, merge) -> None:
    inputs = keras.Input((4,))
    x = merge(kl.Dense(8, name="a")(inputs), kl.Dense(8, name="b")(inputs))
    x = ops.where(x > 0, ops.tanh(x), ops.abs(x) * 0.1)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"a": 8}
    check(model, ratios=(0.5,))


def test_constants_lose_positions_too(check) -> None:
    inputs = keras.Input((5, 4))
    x = kl.Dense(6, name="a")(inputs)
    x = x * np.arange(6.0, dtype="float32") + np.ones((5, 1), "float32")
    x = x + ops.convert_to_tensor(np.linspace(0, 1, 30, dtype="float32").reshape(5, 6))
    small, _ = check(keras.Model(inputs, kl.Dense(2)(x)), ratios=(0.5,))
    constant = [
        call.arguments.args[1].shape
        for op in small.operations
        for call in op._inbound_nodes
        if len(call.arguments.args) > 1 and hasattr(call.arguments.args[1], "numpy")
    ]
    assert (5, 3) in [tuple(shape) for shape in constant]


def test_residuals_over_everything(check, sizes) -> None:
    x = inputs = keras.Input((4,))
    x = kl.Dense(8, name="in")(x)
    for step in range(3):
        y = kl.Dense(6, activation="relu", name=f"up{step}")(x)
        x = x + kl.Dense(8, name=f"down{step}")(y)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"in": 8, "up0": 6, "up1": 6, "up2": 6}
    check(model)


def test_a_residual_of_the_input_freezes(check) -> None:
    inputs = keras.Input((6,))
    y = kl.Dense(8, name="up")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(inputs + kl.Dense(6, name="down")(y)))
    small, report = check(model)
    assert small.get_layer("down").units == 6
    assert any(layer == "down" for layer, _ in report.frozen)


def test_broadcast_additions(check, sizes) -> None:
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 1, name="map")(inputs)
    vector = kl.Dense(8, name="vector")(kl.GlobalAveragePooling2D()(inputs))
    x = x + kl.Reshape((1, 1, 8))(vector) + vector[:, None, None]
    one = kl.Conv2D(1, 1, activation="sigmoid", name="one")(x)
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x * one))
    assert sorted(sizes(model).values()) == [1, 8]
    small, _ = check(model)
    assert small.get_layer("one").filters == 1


def test_segmentation_with_one_channel_out(check) -> None:
    x = inputs = keras.Input((8, 8, 3))
    skips = []
    for width in (6, 8):
        x = kl.Conv2D(width, 3, padding="same", activation="relu", name=f"down{width}")(x)
        skips.append(x)
        x = kl.MaxPooling2D()(x)
    x = kl.Conv2D(10, 3, padding="same", name="bottom")(x)
    for width, skip in zip((8, 6), reversed(skips), strict=True):
        x = kl.Conv2DTranspose(width, 2, strides=2, name=f"up{width}")(x)
        x = kl.Concatenate()([x, skip])
        x = kl.Conv2D(width, 3, padding="same", activation="relu", name=f"mix{width}")(x)
    check(keras.Model(inputs, kl.Conv2D(1, 1, activation="sigmoid")(x)))


@pytest.mark.parametrize("spelling", ["reshape", "keepdims", "dense", "mean"])
def test_squeeze_and_excite_in_all_spellings(check, sizes, spelling) -> None:
    inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(12, 3, padding="same", name="main")(inputs)
    if spelling == "reshape":
        s = kl.Reshape((1, 1, 12))(kl.GlobalAveragePooling2D()(x))
        s = kl.Conv2D(4, 1, activation="relu", name="squeeze")(s)
        s = kl.Conv2D(12, 1, activation="sigmoid", name="excite")(s)
    elif spelling == "keepdims":
        s = kl.GlobalAveragePooling2D(keepdims=True)(x)
        s = kl.Conv2D(4, 1, activation="relu", name="squeeze")(s)
        s = ops.relu6(kl.Conv2D(12, 1, name="excite")(s) + 3.0) * (1.0 / 6.0)
    else:
        pooled = ops.mean(x, axis=(1, 2)) if spelling == "mean" else kl.GlobalMaxPooling2D()(x)
        s = kl.Dense(4, activation="relu", name="squeeze")(pooled)
        s = kl.Dense(12, activation="sigmoid", name="excite")(s)
        s = s[:, None, None, :]
    x = kl.Multiply()([x, s]) if spelling != "dense" else x * s
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"main": 12, "squeeze": 4}
    check(model)


def test_noise_shapes_that_name_the_width_freeze() -> None:
    inputs = keras.Input((5, 4))
    x = kl.Dropout(0.1, noise_shape=(None, 1, 8))(kl.Dense(8, name="a")(inputs))
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert "noise_shape" in found.frozen[0].reason
    x = kl.SpatialDropout1D(0.1)(kl.Dense(8, name="a")(inputs))
    assert len(tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))) == 1


def test_a_variable_of_no_layer_freezes() -> None:
    loose = keras.Variable(np.ones(8, "float32"))
    inputs = keras.Input((4,))
    x = kl.Dense(8, name="a")(inputs)
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(ops.multiply(x, loose))))
    assert "belongs to no layer" in found.frozen[0].reason


def test_softmax_layers_and_operations(check) -> None:
    inputs = keras.Input((5, 4))
    x = kl.Softmax(axis=1)(kl.Dense(8, name="a")(inputs))
    check(keras.Model(inputs, kl.Dense(2)(x)))
    x = ops.softmax(kl.Dense(8, name="a")(inputs), axis=-1)
    check(keras.Model(inputs, kl.Dense(2)(x)), exact=False)


def test_a_permuted_head_with_a_softmax(check) -> None:
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 3, padding="same", name="body")(inputs)
    x = kl.Permute((3, 1, 2))(kl.Conv2D(5, 1, name="classes")(x))
    check(keras.Model(inputs, kl.Softmax(axis=1)(x)))
