import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.graph.residual_blocks import find_blocks, without
from tfprune.structure.groups.units import units
from tfprune.structure.rebuild.cut import branches_of, uncut
from tfprune.structure.rebuild.rebuild import rebuild


def conv_block(x, name, width=8):
    y = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(6, 3, padding="same", name=f"{name}_a")(x)))
    return kl.BatchNormalization()(kl.Conv2D(width, 3, padding="same", name=f"{name}_b")(y))


def residual_net():
    """Three blocks: an identity as a layer, an identity as an operation, a projection."""
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(8, 3, name="stem")(inputs)
    x = kl.Add(name="first")([x, conv_block(x, "one")])
    x = x + kl.Dropout(0.1)(conv_block(x, "two"))
    x = kl.Add(name="third")([conv_block(x, "three", 12), kl.Conv2D(12, 1, name="project")(x)])
    return keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x)), name="net")


def test_blocks_are_found_and_named() -> None:
    found = tfprune.units(residual_net())
    # Keras counts the name of the sum of the second: the last layer that was named gives it one.
    assert [block.name for block in found.blocks] == ["first", "two_b", "third"]
    assert [block.layers[0] for block in found.blocks] == ["one_a", "two_a", "three_a"]
    assert [block.removable for block in found.blocks] == [True, True, False]
    assert found.blocks[2].reason == "its skip path is not the identity: it contains project"


def test_where_keras_named_all_of_it_blocks_are_numbered() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(4)(inputs)
    for _ in range(2):
        x = x + kl.Dense(4)(x)
    model = keras.Model(inputs, x)
    assert [block.name for block in tfprune.units(model).blocks] == ["block_0", "block_1"]


def test_the_table_of_units_lists_the_blocks() -> None:
    text = str(tfprune.units(residual_net()))
    assert "3 residual blocks, 2 of them removable" in text
    assert "third  (three_a" in text
    assert "kept (its skip path is not the identity: it contains project" in text


def test_a_branch_that_is_read_elsewhere_is_no_block_of_its_own() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(4)(inputs)
    inside = kl.Dense(4, name="inside")(x)
    after = kl.Dense(4, name="after")(inside)
    model = keras.Model(inputs, [kl.Add()([x, after]), inside])
    (block,) = tfprune.units(model).blocks
    assert block.layers == ("after",)
    assert block.reason == "a part of it is also used elsewhere: inside"
    both = keras.Model(inputs, [kl.Add()([x, inside]), inside])
    assert tfprune.units(both).blocks == ()


def test_what_cannot_be_left_is_said() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(1)(inputs)
    wide = keras.Model(inputs, kl.Add()([x, kl.Dense(6)(x)]))
    (block,) = tfprune.units(wide).blocks
    assert block.reason == "the sum has another shape or dtype than the remaining addend"
    x = kl.Dense(4)(inputs)
    taken = keras.Model(inputs, kl.Subtract(name="minus")([kl.Dense(4)(x), x]))
    (block,) = tfprune.units(taken).blocks
    assert block.reason == "minus changes the remaining addend"
    other = keras.Model(inputs, kl.Subtract(name="minus")([x, kl.Dense(4)(x)]))
    assert tfprune.units(other).blocks[0].removable


def test_sums_of_towers_and_of_a_tensor_with_itself_are_no_blocks() -> None:
    one, two = keras.Input((4,)), keras.Input((4,))
    a, b = kl.Dense(5)(one), kl.Dense(5)(two)
    model = keras.Model([one, two], kl.Dense(2)(kl.Add()([a, b]) + 3.0))
    assert tfprune.units(model).blocks == ()
    x = kl.Dense(5)(one)
    assert tfprune.units(keras.Model(one, kl.Add()([x, x]))).blocks == ()


def test_a_sum_of_what_has_no_weights_is_no_block() -> None:
    inputs = keras.Input((12,))
    z = kl.Dense(16)(inputs)
    for number in range(2):
        y = kl.Dense(32, name=f"up_{number}")(z)
        z = z + kl.Dense(16, name=f"down_{number}")(y * keras.ops.sigmoid(y) + y)
    model = keras.Model(inputs, kl.Dense(2)(z))
    assert [block.name for block in units(model).blocks] == ["down_0", "down_1"]
    _, report = tfprune.shrink(model, {"blocks": 0.5})
    assert report.after.params < report.before.params


def test_attention_and_mlp_are_a_block_each() -> None:
    inputs, memory = keras.Input((5, 8)), keras.Input((7, 4))
    x = kl.Dense(8)(inputs)
    x = x + kl.MultiHeadAttention(2, 4, name="cross")(kl.LayerNormalization()(x), memory)
    y = kl.Dense(16, activation="gelu", name="up")(kl.LayerNormalization()(x))
    x = x + kl.Dense(8, name="down")(y)
    x = kl.Concatenate(axis=1)([x, kl.Dense(8)(memory)])
    model = keras.Model([inputs, memory], kl.Dense(2)(x))
    blocks = tfprune.units(model).blocks
    assert [block.layers[1:] for block in blocks] == [("cross",), ("up", "down")]
    assert all(block.removable for block in blocks)
    small, _ = rebuild(uncut(units(model)).without(branches_of(blocks), None))
    assert [layer.name for layer in small.layers if layer.weights] == [
        layer.name for layer in model.layers if type(layer) is kl.Dense and layer.name not in
        ("up", "down")
    ]  # fmt: skip
    data = [np.ones((2, 5, 8), "float32"), np.ones((2, 7, 4), "float32")]
    assert small(data).shape == (2, 12, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blocks", "removable"),
    [("MobileNetV2", 10, 10), ("ResNet50", 16, 12), ("EfficientNetB0", 9, 9)],
)
def test_applications(name, blocks, removable) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    found = find_blocks(units(model).graph)
    assert (len(found), sum(block.removable for block in found)) == (blocks, removable)


def test_a_graph_without_a_branch_keeps_what_others_read() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(4, name="x")(inputs)
    shared = kl.Dense(4, name="shared")
    y = shared(x)
    model = keras.Model(inputs, kl.Dense(2, name="out")(kl.Add()([x, y]) * shared(inputs)))
    found = units(model)
    graph = without(found.graph, {found.blocks[0].arm: None})
    assert [call.path for call in graph.calls if hasattr(call.op, "weights")] == [
        "x", "shared", "out"
    ] or [call.path for call in graph.calls if hasattr(call.op, "weights")] == [
        "shared", "x", "out"
    ]  # fmt: skip
    assert len(found.graph.calls) == len(graph.calls) + 2


def test_nested_blocks_go_with_the_outer_one() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(4, name="x")(inputs)
    y = kl.Dense(4, name="down")(x)
    y = kl.Add(name="inner")([y, kl.Dense(4, name="core")(y)])
    x = kl.Add(name="outer")([x, kl.Dense(4, name="up")(y)])
    model = keras.Model(inputs, kl.Dense(2, name="out")(x))
    blocks = {block.name: block for block in tfprune.units(model).blocks}
    assert blocks["outer"].layers == ("down", "core", "up")
    assert blocks["inner"].layers == ("core",)
    plan = tfprune.shrink(model, {"blocks": 1.0})[1].plan
    small, report = tfprune.shrink(model, plan)
    assert [layer.name for layer in small.layers if layer.weights] == ["x", "out"]
    assert report.error <= 1e-5
