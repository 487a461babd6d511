import keras
import numpy as np
import pytest
from keras import layers as kl

from tfprune.errors import ModelError
from tfprune.structure.depth.remove_branches import Branches, branches_of, prove_branches
from tfprune.structure.groups.units import units
from tfprune.structure.rebuild.rebuild import read_weights


def net():
    inputs = keras.Input((4,))
    x = kl.Dense(5, name="stem")(inputs)
    x = kl.Add(name="one")([x, kl.BatchNormalization()(kl.Dense(5, name="a")(x))])
    x = kl.Add(name="two")([x, kl.Dense(5, name="b")(x)])
    return keras.Model(inputs, kl.Dense(2, name="out")(x))


def test_what_is_left_has_the_other_units() -> None:
    found = units(net())
    left = branches_of(found.blocks[:1]).taken_from(found, None)
    assert [call.path for call in left.graph.calls if getattr(call.op, "weights", None)] == [
        "stem",
        "b",
        "out",
    ]
    assert [block.name for block in left.blocks] == ["two"]
    assert left.model is found.model
    assert Branches({}).taken_from(found, None) is found


def test_a_plan_leaves_out_what_became_a_constant() -> None:
    found = units(net())
    one, two = found.blocks
    branches = Branches({one.arm: None, two.arm: np.ones(5, "float32")})
    assert branches.planned(found) == (one,)
    left = branches.taken_from(found, None)
    assert [call.op.name for call in left.graph.calls] == ["stem", "two_constant", "out"]


def test_the_proof_compares_with_the_branch_silenced() -> None:
    found = units(net())
    weights = read_weights(found)
    branches = branches_of(found.blocks[:1])
    left = branches.taken_from(found, None)
    options = {"seed": 0, "input_shape": None}
    assert prove_branches(found, left, branches, weights, **options).error <= 1e-6
    other = branches_of(found.blocks[1:])
    with pytest.raises(ModelError, match="differs from the original"):
        prove_branches(found, left, other, weights, **options)
