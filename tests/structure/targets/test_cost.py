import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tests.structure.targets.test_options import USUAL
from tfprune.errors import ModelError
from tfprune.structure.groups.units import units
from tfprune.structure.targets.cost import cut_to_cost
from tfprune.structure.targets.options import ShrinkOptions


def net():
    model = keras.Sequential(
        [keras.Input((4,)), kl.Dense(8, name="a"), kl.Dense(8, name="b"), kl.Dense(2)]
    )
    for layer in model.layers:
        size = np.arange(1.0, layer.units + 1)
        layer.set_weights([np.ones(layer.kernel.shape) * size, np.zeros(layer.units)])
    return model


def kept(cut) -> dict[str, list[int]]:
    return {
        p.op.name: np.flatnonzero(cut.kept_mask[p.start : p.stop]).tolist()
        for p in cut.left.flow.producers
        if p.op.name in "ab"
    }


def test_the_least_important_units_are_removed() -> None:
    found = units(net())
    options = {**USUAL, "round_to": 1, "ranking": "uniform"}
    cut = cut_to_cost(found, ShrinkOptions(target={"channels": 0.5}, **options))
    assert cut.whole is cut.left is found
    assert kept(cut) == {"a": [4, 5, 6, 7], "b": [4, 5, 6, 7]}
    assert not cut.same


def test_ratios_alone_are_applied() -> None:
    options = {**USUAL, "round_to": 1, "ratios": {"^b$": 0.25}}
    cut = cut_to_cost(units(net()), ShrinkOptions(target=None, **options))
    assert kept(cut) == {"a": list(range(8)), "b": [6, 7]}


def test_bytes_are_those_of_the_file() -> None:
    options = {**USUAL, "round_to": 1, "cap": 1.0}
    cut = cut_to_cost(units(net()), ShrinkOptions(target={"tflite_bytes": 0.95}, **options))
    assert len(cut.removed) > 0
    assert "its float32 .tflite file has" in cut.notes[-1]


def test_a_cost_that_the_model_does_not_have_is_refused() -> None:
    inputs = keras.Input((2,), dtype="int32")
    user, item = (keras.layers.Embedding(9, 4)(inputs[:, i]) for i in range(2))
    model = keras.Model(inputs, keras.ops.sum(user * item, -1, keepdims=True))
    with pytest.raises(ModelError, match="macs 0.5: model .* has none to remove; use another cost"):
        tfprune.shrink(model, {"macs": 0.5})
