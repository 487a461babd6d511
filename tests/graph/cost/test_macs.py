"""Multiply-accumulates against hand arithmetic and published figures."""

import keras
import numpy as np
import pytest
from keras import ops

from tfprune.errors import ModelError, OptionError
from tfprune.graph.cost.macs import Macs, macs

L = keras.layers


def one(layer, *shapes, **call) -> int:
    """Return the cost of a model of one layer."""
    inputs = [keras.Input(shape) for shape in shapes]
    return macs(keras.Model(inputs, layer(*inputs, **call))).total


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (L.Conv1D(6, 5), (20, 3), 16 * 6 * 5 * 3),
        (L.Conv2D(6, 3, padding="same"), (8, 8, 4), 64 * 6 * 9 * 4),
        (L.Conv2D(6, 3, strides=2), (9, 9, 4), 16 * 6 * 9 * 4),
        (L.Conv2D(6, 3, groups=2), (8, 8, 4), 36 * 6 * 9 * 2),
        (L.Conv2D(6, 3, dilation_rate=2), (8, 8, 4), 16 * 6 * 9 * 4),
        (L.Conv2D(6, 3, data_format="channels_first"), (4, 8, 8), 36 * 6 * 9 * 4),
        (L.Conv3D(2, 2), (4, 4, 4, 3), 27 * 2 * 8 * 3),
        (L.DepthwiseConv1D(3), (10, 4), 8 * 4 * 3),
        (L.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 36 * 8 * 9),
        (L.SeparableConv1D(5, 3), (10, 4), 8 * (4 * 3 + 4 * 5)),
        (L.SeparableConv2D(5, 3, depth_multiplier=2), (8, 8, 4), 36 * (8 * 9 + 8 * 5)),
        (L.Conv1DTranspose(3, 4, strides=2), (5, 2), 5 * 2 * 4 * 3),
        (L.Conv2DTranspose(3, 2, strides=2), (4, 4, 5), 16 * 5 * 4 * 3),
        (L.Dense(7), (5,), 5 * 7),
        (L.Dense(7), (2, 3, 5), 6 * 5 * 7),
        (L.EinsumDense("abc,cd->abd", output_shape=(4, 6)), (4, 5), 4 * 5 * 6),
        (L.EinsumDense("...x,xy->...y", output_shape=6), (4, 5), 4 * 5 * 6),
        (L.LSTM(6), (10, 4), 10 * 4 * 6 * (4 + 6)),
        (L.GRU(6, return_sequences=True), (10, 4), 10 * 3 * 6 * (4 + 6)),
        (L.SimpleRNN(6), (10, 4), 10 * 6 * (4 + 6)),
        (L.RNN([L.LSTMCell(6), L.GRUCell(5)]), (10, 4), 10 * (24 * 10 + 15 * 11)),
        (L.Bidirectional(L.LSTM(6)), (10, 4), 2 * 10 * 24 * 10),
        (L.TimeDistributed(L.Dense(3)), (10, 4), 10 * 4 * 3),
        (L.SpectralNormalization(L.Dense(3)), (4,), 4 * 3),
        (L.ConvLSTM2D(3, 2, padding="same"), (5, 6, 6, 2), 5 * 36 * 4 * 12 * (2 + 3)),
        (L.Embedding(100, 8), (10,), 0),
        (L.BatchNormalization(), (8, 8, 4), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, L.Layer) else None,
)
def test_a_layer_by_hand_arithmetic(layer, shape, expected) -> None:
    assert one(layer, shape) == expected


def attention_by_hand(queries: int, keys: int, width: int, heads: int, key_dim: int) -> int:
    """Return projections of query, key, value and output, then scores and their use."""
    projections = (2 * queries + 2 * keys) * width * heads * key_dim
    return projections + 2 * heads * queries * keys * key_dim


def test_attention_is_its_projections_and_two_products() -> None:
    layer = L.MultiHeadAttention(num_heads=3, key_dim=4)
    assert one(layer, (5, 8), (7, 8)) == attention_by_hand(5, 7, 8, 3, 4)


def test_grouped_query_attention_has_fewer_keys_and_values() -> None:
    layer = L.GroupQueryAttention(head_dim=4, num_query_heads=6, num_key_value_heads=2)
    projections = 5 * 8 * (2 * 6 + 2 * 2) * 4
    assert one(layer, (5, 8), (5, 8)) == projections + 2 * 6 * 5 * 5 * 4


def test_values_may_be_of_another_width_than_keys() -> None:
    layer = L.MultiHeadAttention(2, 8, value_dim=12)
    expected = 6 * 16 * 2 * (8 + 8 + 12 + 12) + 2 * 6 * 6 * (8 + 12)
    assert one(layer, (6, 16), (6, 16)) == expected


def test_attention_over_some_axes_has_fewer_pairs() -> None:
    layer = L.MultiHeadAttention(2, 3, attention_axes=(2,))
    projections = 4 * 6 * 8 * 2 * 3 * 4
    assert one(layer, (4, 6, 8), (4, 6, 8)) == projections + 4 * 6 * 6 * 2 * (3 + 3)


def test_a_mask_and_a_key_of_its_own_change_no_count() -> None:
    query, value, key = keras.Input((5, 8)), keras.Input((7, 8)), keras.Input((7, 6))
    mask = keras.Input((5, 7), dtype="bool")
    made = L.MultiHeadAttention(3, 4)(query, value, key, attention_mask=mask)
    by_hand = attention_by_hand(5, 7, 8, 3, 4) - 7 * (8 - 6) * 3 * 4
    assert macs(keras.Model([query, value, key, mask], made)).total == by_hand


def test_attention_without_weights_is_two_products() -> None:
    query, value = keras.Input((5, 8)), keras.Input((7, 8))
    assert macs(keras.Model([query, value], L.Attention()([query, value]))).total == 2 * 5 * 7 * 8


@pytest.mark.parametrize(
    ("build", "shapes", "expected"),
    [
        (lambda a, b: ops.matmul(a, b), [(3, 4), (4, 5)], 3 * 4 * 5),
        (lambda a, b: ops.einsum("bij,bkj->bik", a, b), [(3, 4), (5, 4)], 3 * 4 * 5),
        (lambda a, b: L.Dot(axes=(2, 2))([a, b]), [(3, 4), (5, 4)], 3 * 4 * 5),
        (lambda a, b: L.Dot(axes=1)([a, b]), [(4,), (4,)], 4),
        (lambda a: ops.matmul(a, np.ones((4, 6), "float32")), [(3, 4)], 3 * 4 * 6),
        (lambda a: ops.tensordot(a, np.ones((4, 6), "float32"), axes=1), [(3, 4)], 3 * 4 * 6),
        (lambda a: ops.conv(a, np.ones((3, 3, 4, 2), "float32")), [(6, 6, 4)], 16 * 2 * 36),
        (
            lambda a: ops.depthwise_conv(a, np.ones((3, 3, 4, 2), "float32")),
            [(6, 6, 4)],
            16 * 8 * 9,
        ),
        (
            lambda a: ops.separable_conv(
                a, np.ones((3, 3, 4, 2), "float32"), np.ones((1, 1, 8, 5), "float32")
            ),
            [(6, 6, 4)],
            16 * (8 * 9 + 8 * 5),
        ),
        (
            lambda a: ops.conv_transpose(a, np.ones((2, 2, 3, 4), "float32"), strides=2),
            [(5, 5, 4)],
            25 * 4 * 4 * 3,
        ),
        (
            lambda a, b: ops.dot_product_attention(a, b, b),
            [(5, 3, 4), (7, 3, 4)],
            2 * 3 * 5 * 7 * 4,
        ),
        (lambda a: ops.sum(ops.exp(a) * 2.0 + a[:, 1:2]), [(3, 4)], 0),
    ],
)
def test_an_operation_by_hand_arithmetic(build, shapes, expected) -> None:
    inputs = [keras.Input(shape) for shape in shapes]
    found = macs(keras.Model(inputs, build(*inputs)))
    assert (found.total, found.unknown) == (expected, ())


def test_a_shared_layer_costs_at_every_call_and_nested_models_are_entered() -> None:
    inputs = keras.Input((4,))
    shared = L.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="deep")], name="inner")
    found = macs(keras.Model(inputs, inner(shared(shared(inputs)))))
    assert [(entry.name, entry.macs) for entry in found.operations] == [
        ("shared", 16),
        ("shared", 16),
        ("inner/deep", 12),
    ]


def test_a_custom_layer_is_looked_into_and_leaves_no_trace() -> None:
    class Block(L.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.inside = L.Dense(6)

        def build(self, shape):
            self.inside.build(shape)
            self.table = self.add_weight(shape=(6, 5), name="table")

        def call(self, x):
            return ops.matmul(self.inside(x), self.table)

    inputs = keras.Input((4,))
    block = Block()
    model = keras.Model(inputs, block(inputs))

    def nodes() -> tuple[int, int]:
        return len(block.inside._inbound_nodes), len(block.inside._outbound_nodes)

    before = nodes()
    found = macs(model)
    assert [(entry.kind, entry.macs) for entry in found.operations] == [
        ("Dense", 4 * 6),
        ("Matmul", 6 * 5),
    ]
    assert nodes() == before


def test_what_cannot_be_followed_is_named() -> None:
    import tensorflow as tf

    class Opaque(L.Layer):
        def call(self, x):
            return tf.linalg.matmul(x, tf.ones((4, 4)))

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((3, 4))
    found = macs(keras.Model(inputs, L.Dense(2)(Opaque(name="opaque")(inputs))))
    assert found.total == 3 * 4 * 2
    assert len(found.unknown) == 1
    assert found.unknown[0].startswith("opaque (")
    assert found.unknown[0].endswith(
        "Opaque): its call does what symbols cannot follow (ValueError)"
    )


def test_an_operation_without_a_rule_is_named() -> None:
    inputs = keras.Input((4, 4))
    found = macs(keras.Model(inputs, ops.qr(inputs)[0]))
    assert len(found.unknown) == 1
    assert "no rule" in found.unknown[0]


def test_a_subclass_with_its_own_call_does_not_inherit_the_rule() -> None:
    class Twice(L.Dense):
        def call(self, x):
            return super().call(super().call(x))

    class Plain(L.Dense):
        pass

    assert one(Plain(4), (4,)) == 16
    assert one(Twice(4), (4,)) == 32


def test_a_subclassed_model_needs_a_shape() -> None:
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.conv, self.head = L.Conv2D(4, 3), L.Dense(2)

        def call(self, x):
            return self.head(ops.mean(self.conv(x), (1, 2)))

    net = Net()
    net(np.zeros((1, 8, 8, 3), "float32"))
    assert macs(net, (8, 8, 3)).total == 36 * 4 * 27 + 4 * 2
    with pytest.raises(OptionError, match="net: is no functional model; give input_shape"):
        macs(net)


def test_open_sizes_need_a_shape() -> None:
    model = keras.Sequential([keras.Input((None, None, 3), name="image"), L.Conv2D(4, 3)])
    assert macs(model, (10, 10, 3)).total == 64 * 4 * 27
    assert macs(model, {"image": (5, 5, 3)}).total == 9 * 4 * 27
    with pytest.raises(OptionError, match=r"'image' has the open shape \(None, None, 3\)"):
        macs(model)
    with pytest.raises(OptionError, match="expected the inputs image. Received picture"):
        macs(model, {"picture": (5, 5, 3)})
    with pytest.raises(OptionError, match=r"has the shape \(None, None, 3\). Received \(9, 9, 4\)"):
        macs(model, (9, 9, 4))


@pytest.mark.parametrize(
    "window",
    [
        lambda: L.Conv2D(4, 3),
        lambda: L.DepthwiseConv2D(4),
        lambda: L.MaxPooling2D(3),
        lambda: L.AveragePooling2D(5),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_shape_that_the_model_cannot_take_is_refused(window, inside) -> None:
    class Block(L.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.window = window()

        def build(self, shape):
            self.window.build(shape)

        def call(self, x):
            return self.window(x)

    layer = Block() if inside else window()
    model = keras.Sequential([keras.Input((None, None, 3), name="image"), layer], name="tiny")
    with pytest.raises(ModelError, match=r"tiny: cannot be called on the shape \(1, 2, 2, 3\)"):
        macs(model, (2, 2, 3))


def test_what_a_model_leaves_empty_itself_costs_nothing() -> None:
    inputs = keras.Input((None, 3))
    found = macs(keras.Model(inputs, L.Dense(2)(inputs[:, 4:])), (4, 3))
    assert (found.total, found.unknown) == (0, ())


def test_a_fixed_batch_counts_as_it_is() -> None:
    inputs = keras.Input((4,), batch_size=8)
    assert macs(keras.Model(inputs, L.Dense(2)(inputs))).total == 8 * 4 * 2


def test_other_models_are_refused() -> None:
    import tf_keras

    unbuilt = keras.Sequential([L.Dense(3)], name="unbuilt")
    with pytest.raises(ModelError, match="unbuilt: is not built"):
        macs(unbuilt, (4,))
    assert not unbuilt.built
    with pytest.raises(ModelError, match=r"Received tf_keras\.Sequential"):
        macs(tf_keras.Sequential())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    # ConvNeXt: 4.46 G as its paper says. The others are the sums over their convolutions.
    [
        ("MobileNetV2", 0.301),
        ("EfficientNetB0", 0.386),
        ("ResNet50", 3.858),
        ("ConvNeXtTiny", 4.456),
    ],
)
def test_applications_have_their_published_costs(name: str, expected: float) -> None:
    model = getattr(keras.applications, name)(weights=None)
    found = macs(model)
    assert round(found.total / 1e9, 3) == expected
    assert found.unknown == ()


def test_the_cost_reads_as_a_table() -> None:
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, name="a"), L.Dense(2, name="b")])
    assert str(macs(model)).splitlines() == [
        "40 multiply-accumulates",
        "operation  kind   macs  share",
        "---------  -----  ----  ------",
        "a          Dense  32    80.0 %",
        "b          Dense  8     20.0 %",
    ]
    assert str(Macs(0, (), ("odd: no rule",))).splitlines()[-1] == "not counted: odd: no rule"
