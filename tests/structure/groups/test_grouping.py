"""Units in groups."""

import keras
from keras import layers as kl

import tfprune
from tfprune.structure.ids.ids import HEADS


def small() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3))
    x = kl.BatchNormalization(name="bn")(kl.Conv2D(6, 3, name="conv")(x))
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.GlobalAveragePooling2D()(x)), name="net")


def test_a_group_lists_every_weight_axis_of_its_units() -> None:
    found = tfprune.units(small())
    (group,) = found
    assert (group.name, group.kind, len(group.units), group.exact) == ("conv", "channels", 6, True)
    members = {(m.layer, m.weight, m.axis, m.positions, m.role) for m in group.members}
    assert members == {
        ("conv", "kernel", 3, 6, "make"),
        ("conv", "bias", 0, 6, "along"),
        ("bn", "gamma", 0, 6, "along"),
        ("bn", "beta", 0, 6, "along"),
        ("bn", "moving_mean", 0, 6, "along"),
        ("bn", "moving_variance", 0, 6, "along"),
        ("out", "kernel", 0, 6, "use"),
    }
    assert (len(found), found[0]) == (1, group)


def test_heads_are_a_kind_of_their_own() -> None:
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, kl.Dense(2)(kl.MultiHeadAttention(2, 4, name="m")(inputs, inputs)))
    assert {g.name: g.kind for g in tfprune.units(model)}["m.num_heads"] == HEADS
