import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError, OptionError
from tfprune.structure.ids.ids import HEADS


def small():
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


def test_what_stays_is_named_with_the_reason() -> None:
    (line,) = tfprune.units(small()).frozen
    assert (line.layer, line.size, line.reason) == ("out", 2, "it is an output of the model")


def test_the_table_can_be_read() -> None:
    text = str(tfprune.units(small()))
    assert "net: 6 units in 1 groups; share of multiplications within reach: 100.0%" in text
    assert "conv      6 channels  7 weight axes" in text
    assert "out: 2 stay: it is an output of the model" in text


def test_heads_are_a_kind_of_their_own() -> None:
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, kl.Dense(2)(kl.MultiHeadAttention(2, 4, name="m")(inputs, inputs)))
    assert {g.name: g.kind for g in tfprune.units(model)}["m.num_heads"] == HEADS


def test_open_sizes_are_filled_from_the_input_shape() -> None:
    inputs = keras.Input((None, None, 3))
    x = kl.Conv2D(4, 3, name="c")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x)))
    assert "not known" in str(tfprune.units(model))
    found = tfprune.units(model, input_shape=(10, 10, 3))
    assert found.prunable_share == 1.0
    assert sum(cost.factor for cost in found.flow.costs if len(cost.vectors) == 1) == 9 * 64 * 3
    with pytest.raises(OptionError, match="takes 1 inputs. Received 2 shapes"):
        tfprune.units(model, input_shape=[(10, 10, 3), (3,)])


def test_quantised_and_lora_layers_are_refused_by_name() -> None:
    for change, message in (
        (lambda layer: layer.quantize("int8"), "'hidden' is quantised"),
        (lambda layer: layer.enable_lora(2), "'hidden' has LoRA weights"),
    ):
        inputs = keras.Input((4,))
        model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="hidden")(inputs)))
        change(model.get_layer("hidden"))
        with pytest.raises(ModelError, match=message):
            tfprune.units(model)
        keras.backend.clear_session()
