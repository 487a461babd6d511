import keras
import pytest
from keras import layers as kl


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
