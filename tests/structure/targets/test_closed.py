import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tests.structure.targets.test_options import USUAL
from tfprune.errors import ModelError
from tfprune.structure.groups.units import units
from tfprune.structure.targets.closed import cut_closed
from tfprune.structure.targets.options import ShrinkOptions


def test_zeros_go_as_branches_and_as_units() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(6, name="stem")(inputs)
    y = kl.Dense(6, name="down", kernel_initializer="zeros")(x)
    x = kl.Dense(5, name="hidden")(kl.Add(name="sum")([x, y]))
    model = keras.Model(inputs, kl.Dense(2)(x))
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[:, [1, 3]] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    found = units(model)
    cut = cut_closed(found, ShrinkOptions(target="zeros", **USUAL))
    assert cut.same
    assert len(cut.branches.arms) == 1
    (hidden,) = [p for p in cut.left.flow.producers if p.op.name == "hidden"]
    assert np.flatnonzero(~cut.kept_mask[hidden.start : hidden.stop]).tolist() == [1, 3]


def test_gates_go_with_what_they_close() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="hidden"), kl.Dense(2)])
    with pytest.raises(ModelError, match="has no gates: place some"):
        cut_closed(units(model), ShrinkOptions(target="gates", **USUAL))
    gated = tfprune.add_gates(model, kind="hard")
    found = units(gated)
    cut = cut_closed(found, ShrinkOptions(target="gates", **USUAL))
    assert [gated.get_layer("hidden_gate") is call.op for call in found.graph.calls
            if id(call.op) in cut.drop] == [True]  # fmt: skip
    assert cut.notes == ("no gate is closed: they are between 1 and 1; close() them",)
