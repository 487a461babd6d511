import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune


def zero(layer, positions, *, bias=True):
    kernel, *rest = layer.get_weights()
    kernel[..., positions] = 0
    if rest and bias:
        rest[0][positions] = 0
    layer.set_weights([kernel, *rest])


def conv_net(norm=True, padding="valid", beta="zeros"):
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(8, 3, name="a", bias_initializer="normal")(inputs)
    x = kl.BatchNormalization(beta_initializer=beta, name="bn")(x) if norm else x
    x = kl.Conv2D(6, 3, padding=padding, name="b")(kl.ReLU()(x))
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.GlobalAveragePooling2D()(x)))


def check(model, removed, note=None):
    small, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-5
    assert report.against == "the original"
    gone = {line.layer: line.positions for line in report.plan.removals if line.layer in removed}
    assert gone == {name: positions for name, positions in removed.items() if positions}
    assert small.count_params() == report.after.params
    if note is not None:
        assert any(note in line for line in report.notes)
    data = np.random.default_rng(5).normal(size=(4, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(small(data), model(data), atol=1e-5)
    return small


def test_units_whose_weights_are_all_zero_are_removed() -> None:
    model = conv_net(norm=False)
    zero(model.get_layer("a"), [1, 4])
    check(model, {"a": (1, 4)})


def test_a_constant_that_beta_makes_is_folded_into_the_bias() -> None:
    model = conv_net(beta="ones")
    zero(model.get_layer("a"), [0, 7])
    small = check(model, {"a": (0, 7)})
    assert not np.allclose(small.get_layer("b").bias, model.get_layer("b").bias)


def test_a_constant_under_padding_cannot_be_folded_and_is_named() -> None:
    model = conv_net(beta="ones", padding="same")
    zero(model.get_layer("a"), [0, 7])
    check(
        model,
        {"a": ()},
        note="2 closed units of a kept (0, 7): their constant output cannot be folded into b",
    )


def test_units_that_no_layer_reads_are_removed() -> None:
    model = conv_net()
    kernel, bias = model.get_layer("b").get_weights()
    kernel[:, :, 2] = 0
    model.get_layer("b").set_weights([kernel, bias])
    check(model, {"a": (2,)})


def test_a_residual_channel_is_removed_only_if_all_addends_are_zero() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(8, name="one")(inputs)
    x = x + kl.Dense(8, name="two")(kl.Dense(5, name="mid")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    zero(model.get_layer("one"), [1, 2, 3])
    zero(model.get_layer("two"), [2, 3, 4])
    check(model, {"one": (2, 3)})


def test_heads_whose_projections_are_zero_are_removed() -> None:
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, kl.MultiHeadAttention(3, 4, name="mha")(inputs, inputs))
    weights = model.get_layer("mha").get_weights()
    for index in (0, 2, 4):
        weights[index][:, 1] = 0
        weights[index + 1][1] = 0
    weights[6][1] = 0
    model.get_layer("mha").set_weights(weights)
    small = check(model, {})
    assert small.get_layer("mha").num_heads == 2


def test_a_width_that_queries_and_keys_use_is_kept() -> None:
    """It does not reach the output projection, but the scores depend on it."""
    inputs = keras.Input((5, 6))
    layer = kl.GroupQueryAttention(3, 4, 2, name="gqa")
    model = keras.Model(inputs, layer(inputs, inputs))
    weights = layer.get_weights()
    weights[6][:, 1] = 0
    layer.set_weights(weights)
    small = check(model, {})
    assert small.get_layer("gqa").head_dim == 3
    weights[0][..., 1], weights[1][..., 1] = 0, 0
    layer.set_weights(weights)
    small = check(model, {})
    assert small.get_layer("gqa").head_dim == 2


def test_recurrent_units_that_are_zero_are_removed() -> None:
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, kl.Dense(2)(kl.LSTM(4, name="lstm", bias_initializer="zeros",
                                                    unit_forget_bias=False)(inputs)))  # fmt: skip
    kernel, recurrent, bias = model.get_layer("lstm").get_weights()
    kernel[:, 1::4], recurrent[:, 1::4], bias[1::4] = 0, 0, 0
    model.get_layer("lstm").set_weights([kernel, recurrent, bias])
    check(model, {"lstm": (1,)})


def test_units_read_by_a_normalization_over_channels_are_kept() -> None:
    inputs = keras.Input((4,))
    x = kl.LayerNormalization()(kl.Dense(8, name="a")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    zero(model.get_layer("a"), [3])
    check(model, {"a": ()}, note="1 closed units of a kept")


def test_one_unit_is_kept_where_all_are_zero() -> None:
    model = conv_net(norm=False)
    zero(model.get_layer("a"), list(range(8)))
    small = check(model, {}, note="1 closed units of a kept (0): all of a are closed")
    assert small.get_layer("a").filters == 1


def test_the_unit_that_is_kept_keeps_its_constant() -> None:
    """Only the constants of removed units may be folded into the bias."""
    model = keras.Sequential(
        [keras.Input((3,)), kl.Dense(4, "sigmoid", name="a"), kl.Dense(2, name="b")]
    )
    zero(model.get_layer("a"), [0, 1, 2, 3])
    small = check(model, {"a": (1, 2, 3)}, note="all of a are closed, and one must be kept")
    kernel, bias = model.get_layer("b").get_weights()
    np.testing.assert_allclose(small.get_layer("b").bias, bias + 0.5 * kernel[1:].sum(axis=0))


def grouped_net(bias: str):
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 1, name="a", bias_initializer=bias)(inputs)
    x = kl.Conv2D(4, 1, groups=2, name="b")(x)
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.Flatten()(x)))


def test_blocks_keep_equal_counts() -> None:
    model = grouped_net("zeros")
    zero(model.get_layer("a"), [0, 1, 6])
    note = "1 closed units of a kept (0): the 2 blocks of a keep equal counts"
    check(model, {"a": (1, 6)}, note=note)


def test_the_constant_of_a_unit_kept_for_its_block_is_not_folded() -> None:
    """No unit is removed, so no constant may be folded."""
    model = grouped_net("ones")
    zero(model.get_layer("b"), [1], bias=False)
    model.get_layer("b").bias.assign([0, 1, 0, 0])
    small = check(
        model, {"b": ()}, note="1 closed units of b kept (1): the 2 blocks of b keep equal"
    )
    np.testing.assert_array_equal(small.get_layer("out").bias, model.get_layer("out").bias)


def test_a_constant_goes_into_the_bias_of_its_own_group() -> None:
    model = grouped_net("normal")
    zero(model.get_layer("a"), [0, 1, 5, 6], bias=False)
    small = check(model, {"a": (0, 1, 5, 6)})
    assert small.get_layer("b").kernel.shape == (1, 1, 2, 4)


def test_a_layer_called_twice_may_receive_two_constants() -> None:
    """The input of the second call is recorded too."""
    inputs = keras.Input((3,))
    shared = kl.Dense(4, name="shared")
    x = kl.Activation("sigmoid")(shared(kl.Dense(4, name="a")(inputs)))
    model = keras.Model(inputs, kl.Dense(2)(shared(x)))
    for name in ("a", "shared"):
        zero(model.get_layer(name), [2])
    check(model, {"a": (), "shared": ()}, note="folded into shared, which is called 2 times")


@pytest.mark.parametrize("kind", ["hard", "l1"])
def test_gates_are_closed_units_too(kind: str) -> None:
    model = tfprune.add_gates(conv_net(beta="ones", padding="same"), kind=kind, penalty=0.1)
    model.get_layer("a_gate").close([0, 5])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert small.get_layer("a").filters == 6
    assert not [layer for layer in small.layers if "gate" in layer.name]
