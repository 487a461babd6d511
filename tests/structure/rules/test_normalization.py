import keras
import pytest
from keras import layers as kl

import tfprune


def net(norm, width=8):
    inputs = keras.Input((4, 4, 3))
    x = norm(kl.Conv2D(width, 1, name="conv")(inputs))
    return keras.Model(inputs, kl.Conv2D(2, 1)(kl.ReLU()(x)))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_normalization_with_and_without_gamma_and_beta(check, scale, center) -> None:
    check(net(kl.BatchNormalization(scale=scale, center=center)), ratios=(0.5,))


@pytest.mark.parametrize(
    ("norm", "name"),
    [
        (lambda: kl.LayerNormalization(), "LayerNormalization"),
        (lambda: kl.RMSNormalization(), "RMSNormalization"),
        (lambda: kl.GroupNormalization(4), "GroupNormalization"),
    ],
)
def test_statistics_over_the_channels_are_not_exact(check, norm, name) -> None:
    _, report = check(net(norm()), exact=False, ratios=(0.5,))
    assert f"{name} takes its statistics over these channels" in report.reasons[0]


def test_layer_normalization_over_space_is_exact(check) -> None:
    check(net(kl.LayerNormalization(axis=[1, 2])), ratios=(0.5,))


def test_group_normalization_keeps_its_groups_equal(check, sizes) -> None:
    """A U-Net with GroupNormalization over joined halves and one channel out."""
    inputs = keras.Input((8, 8, 3))
    a = kl.Conv2D(16, 3, padding="same", name="a")(inputs)
    a = kl.GroupNormalization(4)(a)
    b = kl.Conv2D(8, 3, padding="same", name="b")(kl.MaxPooling2D()(a))
    b = kl.UpSampling2D()(kl.GroupNormalization(2)(b))
    x = kl.GroupNormalization(6)(kl.Concatenate()([a, b]))
    x = kl.Conv2D(12, 3, padding="same", activation="silu", name="mix")(x)
    x = kl.GroupNormalization(3)(x)
    model = keras.Model(inputs, kl.Conv2D(1, 1, activation="sigmoid")(x))
    check(model, exact=False)


def test_one_group_for_each_channel_is_exact(check) -> None:
    small, _ = check(net(kl.GroupNormalization(-1)), ratios=(0.5,))
    assert small.layers[1].filters == 4


def test_unit_normalization_is_exact(check) -> None:
    check(net(kl.UnitNormalization()), ratios=(0.5,))


@pytest.mark.parametrize("axes", [None, [1, 2]])
def test_prelu(check, axes) -> None:
    check(net(kl.PReLU(shared_axes=axes, alpha_initializer="uniform")), ratios=(0.5,))


def test_layer_scale_is_resized(check) -> None:
    from keras.src.applications.convnext import LayerScale

    small, _ = check(net(LayerScale(0.1, 8)), ratios=(0.5,))
    assert small.layers[2].projection_dim == 4


def test_features_and_scales_of_the_data_stay() -> None:
    for layer in (kl.Normalization(mean=[0.0] * 8, variance=[1.0] * 8), kl.Rescaling([1.0] * 8)):
        assert len(tfprune.units(net(layer))) == 0
    assert len(tfprune.units(net(kl.Rescaling(0.5)))) == 1


def test_spectral_normalization_freezes() -> None:
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 1, name="before")(inputs)
    x = kl.SpectralNormalization(kl.Conv2D(8, 1), name="sn")(x)
    found = tfprune.units(keras.Model(inputs, kl.Conv2D(2, 1)(x)))
    assert "singular value" in found.frozen[0].reason
