import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError, OptionError


def small():
    x = inputs = keras.Input((8, 8, 3))
    x = kl.BatchNormalization(name="bn")(kl.Conv2D(6, 3, name="conv")(x))
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.GlobalAveragePooling2D()(x)), name="net")


def test_frozen_channels_are_named_with_the_reason() -> None:
    (line,) = tfprune.units(small()).frozen
    assert (line.layer, line.size, line.reason) == ("out", 2, "it is an output of the model")


def test_the_units_are_printed_as_a_table() -> None:
    text = str(tfprune.units(small()))
    assert "net: 6 units in 1 groups; prunable share of multiplications: 100.0%" in text
    assert "conv      6 channels  7 weight axes" in text
    assert "out: 2 kept (it is an output of the model)" in text


def test_open_sizes_are_filled_from_the_input_shape() -> None:
    inputs = keras.Input((None, None, 3))
    x = kl.Conv2D(4, 3, name="c")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x)))
    assert "unknown" in str(tfprune.units(model))
    found = tfprune.units(model, input_shape=(10, 10, 3))
    assert found.prunable_share == 1.0
    assert sum(cost.factor for cost in found.flow.costs if len(cost.vectors) == 1) == 9 * 64 * 3
    with pytest.raises(OptionError, match="takes 1 inputs. Received 2 shapes"):
        tfprune.units(model, input_shape=[(10, 10, 3), (3,)])


def test_quantized_and_lora_layers_are_refused_by_name() -> None:
    for change, message in (
        (lambda layer: layer.quantize("int8"), "'hidden' .* was quantized to int8"),
        (lambda layer: layer.enable_lora(2), "'hidden' has LoRA weights"),
    ):
        inputs = keras.Input((4,))
        model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="hidden")(inputs)))
        change(model.get_layer("hidden"))
        with pytest.raises(ModelError, match=message):
            tfprune.units(model)
        keras.backend.clear_session(free_memory=False)
