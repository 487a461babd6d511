from dataclasses import replace

import keras
import numpy as np
from keras import layers as kl

from tfprune.structure.groups.units import units
from tfprune.structure.rebuild.cut import Branches, branches_of, uncut


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


def test_nothing_goes_from_a_model_that_is_uncut() -> None:
    cut = uncut(units(net()))
    assert cut.left is cut.whole
    assert cut.kept_mask.all()
    assert (cut.branches.arms, cut.notes, cut.same) == ({}, (), False)


def test_units_go_from_what_is_left_without_the_branches() -> None:
    whole = uncut(units(net()))
    cut = whole.without(branches_of(whole.whole.blocks[:1]), None)
    assert cut.whole is whole.whole
    assert cut.left.flow.size < cut.whole.flow.size
    (group,) = cut.left.groups
    cut = replace(cut, removed=group.units[:2])
    assert len(cut.kept_mask) == cut.left.flow.size
    made = [p for p in cut.left.flow.producers if p.op.name in ("stem", "b")]
    assert [cut.kept_mask[p.start : p.stop].tolist() for p in made] == [
        [False] * 2 + [True] * 3
    ] * 2
