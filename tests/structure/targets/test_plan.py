import keras
import numpy as np
import pytest
from keras import layers as kl

from tests.structure.targets.test_options import USUAL
from tfprune.errors import OptionError
from tfprune.structure.groups.units import units
from tfprune.structure.select.plan import BlockRemoval, Plan, Removal, plan_of
from tfprune.structure.targets.options import ShrinkOptions
from tfprune.structure.targets.plan import cut_by_plan


def net():
    inputs = keras.Input((4,))
    x = kl.Dense(6, name="stem")(inputs)
    x = kl.Add(name="sum")([x, kl.Dense(6, name="down")(x)])
    x = kl.Dense(5, name="hidden")(x)
    return keras.Model(inputs, kl.Dense(2, name="out")(x), name="net")


def test_blocks_are_removed_first_and_then_units_of_the_rest() -> None:
    found = units(net())
    axes = (("stem", "units"), ("hidden", "units"), ("out", "units"))
    plan = Plan(
        "net", (Removal("hidden", "units", 5, (0, 3)),), (BlockRemoval("sum", ("down",)),), axes
    )
    cut = cut_by_plan(found, ShrinkOptions(target=plan, **USUAL))
    (hidden,) = [p for p in cut.left.flow.producers if p.op.name == "hidden"]
    assert np.flatnonzero(~cut.kept_mask[hidden.start : hidden.stop]).tolist() == [0, 3]
    assert [block.name for block in cut.branches.planned(found)] == ["sum"]
    assert plan_of(cut) == plan


def test_a_plan_of_another_model_is_refused() -> None:
    plan = Plan("other", (Removal("hidden", "units", 7, (0,)),))
    with pytest.raises(OptionError, match="hidden.units should have 7 positions"):
        cut_by_plan(units(net()), ShrinkOptions(target=plan, **USUAL))
