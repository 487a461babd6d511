"""The options of `prune_low_magnitude`, given with layers and shown on them."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import OptionError, ScheduleWarning
from tfprune.sparsity.masks import holds_of
from tfprune.tfmot_compat.options import Options, hide, show

SCHEDULE = tfprune.ConstantSparsity(0.5, 0, frequency=1)
SHOWN = ("pruning_schedule", "block_size", "block_pooling_type", "sparsity_m_by_n")


@pytest.mark.parametrize(
    ("given", "layer", "batch"),
    [
        ({"input_shape": (6,)}, keras.layers.Dense(4), np.ones((8, 6))),
        ({"input_shape": [6, 6, 2]}, keras.layers.Conv2D(4, 3), np.ones((8, 6, 6, 2))),
        ({"input_dim": 6}, keras.layers.Dense(4), np.ones((8, 6))),
        ({"batch_input_shape": (None, 5)}, keras.layers.Embedding(10, 4), np.ones((8, 5))),
        ({"input_shape": (3, 4)}, keras.layers.LSTM(4), np.ones((8, 3, 4))),
    ],
)
def test_a_sequential_that_begins_with_a_pruned_layer_has_its_input_shape(
    given, layer, batch
) -> None:
    model = keras.Sequential([tfprune.prune_low_magnitude(layer, SCHEDULE, **given)])
    assert model.built
    assert model.input_shape == (None, *batch.shape[1:])
    model.compile("sgd", "mse")
    model.fit(batch, np.zeros((8, *model.output_shape[1:])), verbose=0,
              callbacks=[tfprune.UpdatePruningStep()])  # fmt: skip
    assert tfprune.sparsity_of(tfprune.strip_pruning(model)).sparsity == 0.5


def test_a_layer_may_be_frozen_by_the_call() -> None:
    assert not tfprune.prune_low_magnitude(keras.layers.Dense(4), trainable=False).trainable


@pytest.mark.parametrize(
    ("to_prune", "given", "message"),
    [
        (keras.layers.Dense(4), {"name": "dense"}, "unexpected argument 'name'; .*input_shape"),
        (keras.layers.Dense(4), {"input_shape": 4}, r"expected sizes, as .*Received 4\."),
        (keras.layers.Dense(4), {"batch_input_shape": (8, 4)}, r"Input\(batch_shape"),
        ([keras.layers.Dense(4)], {"input_shape": (4,)}, "input_shape is for single layers"),
    ],
)
def test_other_options_of_layers_are_refused_before_anything_is_pruned(
    to_prune, given, message
) -> None:
    with pytest.raises(OptionError, match=message):
        tfprune.prune_low_magnitude(to_prune, **given)
    layer = to_prune[0] if isinstance(to_prune, list) else to_prune
    assert not hasattr(layer, "pruning_schedule")
    layer.build((None, 4))
    assert holds_of(layer) == []


def test_pruned_layers_show_their_options_until_they_are_stripped() -> None:
    inner = keras.Sequential([keras.layers.Dense(4)])
    earlier = tfprune.prune_low_magnitude(keras.layers.Dense(4), block_size=(2, 1))
    model = keras.Sequential([keras.Input((6,)), inner, keras.layers.Dropout(0.1), earlier])
    config = model.get_config()
    tfprune.prune_low_magnitude(model, SCHEDULE, block_pooling_type="MAX")
    layers = [*inner.layers, *model.layers[1:]]
    assert [layer.pruning_schedule is SCHEDULE for layer in layers] == [True, True, False]
    assert [layer.block_size for layer in layers] == [(1, 1), (1, 1), (2, 1)]
    assert [layer.block_pooling_type for layer in layers] == ["MAX", "MAX", "AVG"]
    assert model.get_config() == config
    with pytest.warns(ScheduleWarning, match="never pruned"):
        tfprune.strip_pruning(model)
    assert not any(hasattr(layer, name) for layer in layers for name in SHOWN)


def test_attributes_of_a_layer_that_have_such_a_name_are_not_changed() -> None:
    layer = keras.layers.Dense(4)
    layer.block_size = 7
    show(Options(SCHEDULE, (1, 1), "AVG", None), [layer], None)
    hide([layer])
    assert layer.block_size == 7
    assert not hasattr(layer, "pruning_schedule")


def test_layers_that_a_policy_leaves_out_show_nothing() -> None:
    class HeadOnly(tfprune.PruningPolicy):
        def allow_pruning(self, layer):
            return layer.name == "head"

        def ensure_model_supports_pruning(self, model):
            assert model.get_layer("head")

    layers = [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(4, name="head")]
    model = tfprune.prune_low_magnitude(keras.Sequential(layers), pruning_policy=HeadOnly())
    assert [hasattr(layer, "pruning_schedule") for layer in model.layers] == [False, True]
