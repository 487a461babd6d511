import keras
from keras import layers as kl

from tests.structure.targets.test_options import USUAL
from tfprune.structure.groups.units import units
from tfprune.structure.targets.blocks import cut_blocks
from tfprune.structure.targets.options import ShrinkOptions


def test_blocks_are_removed_and_no_other_units() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(6, name="stem")(inputs)
    for name in ("one", "two"):
        x = kl.Add(name=name)([x, kl.Dense(6, name=f"{name}_down")(x)])
    model = keras.Model(inputs, kl.Dense(2)(x))
    small = model.get_layer("two_down")
    small.set_weights([array * 0.01 for array in small.get_weights()])
    found = units(model)
    cut = cut_blocks(found, ShrinkOptions(target={"blocks": 0.5}, **USUAL))
    assert cut.whole is found
    assert [block.name for block in cut.branches.planned(found)] == ["two"]
    assert [block.name for block in cut.left.blocks] == ["one"]
    assert cut.kept_mask.all()
    assert not cut.same
