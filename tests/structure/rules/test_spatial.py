import keras
import pytest
from keras import layers as kl
from keras import ops

import tfprune


@pytest.mark.parametrize(
    "layer",
    [
        kl.MaxPooling2D(),
        kl.AveragePooling2D(2),
        kl.ZeroPadding2D(),
        kl.Cropping2D(),
        kl.UpSampling2D(interpolation="bilinear"),
        kl.Resizing(5, 5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_space_changes_and_channels_go_through(check, layer) -> None:
    inputs = keras.Input((6, 6, 3))
    x = layer(kl.Conv2D(8, 1, name="conv")(inputs))
    check(keras.Model(inputs, kl.Conv2D(2, 1)(x)), ratios=(0.5,))


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("kind", [kl.GlobalMaxPooling2D, kl.GlobalAveragePooling2D])
def test_global_pooling(check, kind, keepdims) -> None:
    inputs = keras.Input((6, 6, 3))
    x = kind(keepdims=keepdims)(kl.Conv2D(8, 1, name="conv")(inputs))
    check(keras.Model(inputs, kl.Dense(2)(x)), ratios=(0.5,))


@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
@pytest.mark.parametrize("kind", ["resize", "crop_images", "pad_images"])
def test_operations_on_images(check, sizes, kind, form) -> None:
    inputs = keras.Input((6, 8, 3))
    x = kl.Conv2D(8, 1, name="conv")(inputs)
    if form == "channels_first":
        x = ops.transpose(x, (0, 3, 1, 2))
    if kind == "resize":
        x = ops.image.resize(x, (12, 4), interpolation="bilinear", data_format=form)
    elif kind == "crop_images":
        x = ops.image.crop_images(x, 1, 1, target_height=4, target_width=4, data_format=form)
    else:
        x = ops.image.pad_images(x, 1, 1, target_height=9, target_width=9, data_format=form)
    if form == "channels_first":
        x = ops.transpose(x, (0, 2, 3, 1))
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"conv": 8}
    check(model, ratios=(0.5,))


def test_pooling_as_operations(check, sizes) -> None:
    inputs = keras.Input((6, 6, 3))
    x = ops.average_pool(ops.max_pool(kl.Conv2D(8, 1, name="conv")(inputs), 2, 1), 2)
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"conv": 8}
    check(model, ratios=(0.5,))


@pytest.mark.skipif(not hasattr(kl, "AdaptiveAveragePooling2D"), reason="this Keras has none")
def test_adaptive_pooling(check, sizes) -> None:
    inputs = keras.Input((6, 6, 3))
    x = kl.AdaptiveAveragePooling2D(4)(kl.Conv2D(8, 1, name="conv")(inputs))
    x = kl.Flatten()(kl.AdaptiveMaxPooling2D(2)(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"conv": 8}
    check(model, ratios=(0.5,))


def test_patches_hold_each_channel_as_often_as_they_have_places(check, sizes) -> None:
    inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(8, 1, name="conv")(inputs)
    x = ops.image.extract_patches(x, (3, 2))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"conv": 8}
    check(model, ratios=(0.5,))


def test_an_operation_that_takes_the_batch_for_a_height_freezes() -> None:
    inputs = keras.Input((6, 3))
    x = ops.image.resize(kl.Dense(8, name="a")(inputs), (2, 6))
    found = tfprune.units(keras.Model(inputs, x))
    assert "treats the batch as the height" in found.frozen[0].reason
