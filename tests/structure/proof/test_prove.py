from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

import tfprune
from tests.keras_release import KERAS
from tfprune.errors import ModelError, OptionError
from tfprune.structure.groups.units import units
from tfprune.structure.ids.rule_registry import forget
from tfprune.structure.proof import prove as prove_module
from tfprune.structure.proof.prove import prove
from tfprune.structure.rebuild.cut import branches_of, uncut
from tfprune.structure.rebuild.rebuild import rebuild


def conv_net(activation="softmax"):
    inputs = keras.Input((6, 6, 3))
    x = kl.ReLU()(kl.BatchNormalization(name="bn")(kl.Conv2D(8, 3, name="conv")(inputs)))
    x = kl.Dense(3, activation=activation, name="out")(kl.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def cut_in_half(model):
    found = units(model)
    cut = replace(uncut(found), removed=found[0].units[:4])
    return cut, rebuild(cut)


def test_a_correct_cut_is_verified() -> None:
    model = conv_net()
    proof = prove(*cut_in_half(model))
    assert proof.error <= 1e-6
    assert proof.outputs == 1
    assert model.get_layer("out").activation is keras.activations.softmax


@pytest.mark.parametrize("layer", ["conv", "bn", "out"])
def test_a_wrong_slice_in_any_layer_is_found(layer: str) -> None:
    """The rows of one weight are taken at other positions than those that live."""
    model = conv_net()
    cut, small = cut_in_half(model)
    for site in cut.whole.sites:
        if site.op.name == layer:
            site.bindings[:] = [
                type(b)(b.weight, b.axis, b.ids[::-1], b.role, b.along, b.scale)
                if len(b.ids) == 8
                else b
                for b in site.bindings
            ]
    with pytest.raises(ModelError, match="differs from the original with its removed units"):
        prove(cut, small)


def test_a_missing_factor_is_found() -> None:
    inputs = keras.Input((5, 6))
    y = kl.MultiHeadAttention(2, 8, name="mha")(inputs, inputs)
    model = keras.Model(inputs, y)
    found = units(model)
    (group,) = [group for group in found if group.name == "mha.key_dim"]
    cut = replace(uncut(found), removed=group.units[:6])
    small = rebuild(cut)
    assert prove(cut, small).error <= 1e-5
    for site in found.sites:
        site.factors.clear()
    with pytest.raises(ModelError, match="nothing was returned"):
        prove(cut, small)


def test_verifying_changes_neither_model() -> None:
    model = conv_net()
    cut, small = cut_in_half(model)
    before = [w.copy() for w in model.get_weights()], [w.copy() for w in small.model.get_weights()]
    prove(cut, small)
    for old, new in zip(before[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(before[1], small.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_that_augment_are_run_as_in_inference() -> None:
    """They augment unless they are called with training=False."""
    inputs = keras.Input((8, 8, 3))
    x = kl.RandomContrast(0.5)(kl.RandomRotation(0.3)(inputs))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(16, 3, activation="relu", name="conv")(x))
    model = keras.Model(inputs, kl.Dense(3)(kl.Dropout(0.5)(x)))
    small, report = tfprune.shrink(model, {"channels": 0.5})
    assert report.error <= 1e-5
    assert small.get_layer("conv").filters == 8


def test_weights_that_are_not_finite_are_named() -> None:
    model = conv_net()
    model.get_layer("conv").kernel.assign(model.get_layer("conv").kernel * np.nan)
    with pytest.raises(ModelError, match="gives NaN .* layer 'conv' has such weights; fix it"):
        tfprune.shrink(model, {"channels": 1.0})
    with pytest.raises(
        OptionError, match="none of 8 channels can be removed with .*conv kept whole"
    ):
        tfprune.shrink(model, {"channels": 0.5})


@pytest.mark.parametrize("spoilt", ["a", "b"])
def test_numbers_that_are_not_finite_are_found_in_any_output(spoilt: str) -> None:
    """In Python, the largest of 0.0 and NaN is 0.0."""
    inputs = keras.Input((4,))
    x = kl.Dense(16, name="h")(inputs)
    model = keras.Model(inputs, [kl.Dense(2, name=name)(x) for name in "ab"])
    model.get_layer(spoilt).bias.assign([np.nan, 0])
    with pytest.raises(ModelError, match=f"gives NaN .* layer '{spoilt}' has such weights"):
        tfprune.shrink(model, {"channels": 0.5})


def test_masks_reach_the_layers_after_a_zeroed_call() -> None:
    if KERAS < (3, 12):
        pytest.skip(f"Attention of Keras {keras.__version__} fails on the mask of a sequence")
    ids = keras.Input((12,), dtype="int32")
    x = kl.Embedding(20, 16, mask_zero=True)(ids)
    for norm in (kl.LayerNormalization(), kl.BatchNormalization(), kl.UnitNormalization()):
        x = norm(x)
        x = kl.Dense(16)(x)
        y = kl.MultiHeadAttention(2, 8)(x, x)
        z = kl.Attention()([x, y])
    model = keras.Model(ids, kl.Dense(2)(y + z))
    _, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-5


class Sampled(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def test_both_models_draw_the_same_random_numbers() -> None:
    inputs = keras.Input((4,))
    x = Sampled()(kl.Dense(3)(kl.Dense(16)(inputs)))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8)(x)))
    model(np.ones((2, 4)))
    before = [int(v.numpy()[1]) for v in model.non_trainable_variables]
    _, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-5
    assert [int(v.numpy()[1]) for v in model.non_trainable_variables] == before


def test_a_network_that_ends_with_one_position_is_verified() -> None:
    model = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None)
    _, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-4


@pytest.mark.parametrize("left", [1, 2, 3])
def test_sample_counts_for_which_keras_miscomputes_sums_are_avoided(left: int) -> None:
    """Keras 3.15 computes a wrong sum for two samples and two channels."""
    inputs = keras.Input((5,))
    x = keras.layers.Dense(4, name="a")(inputs)
    x = x + keras.ops.sum(keras.layers.Dense(3, name="b")(x), axis=-1, keepdims=True)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    small, report = tfprune.shrink(model, {"channels": left / 4}, only="a", round_to=1)
    assert small.get_layer("a").units == left
    assert report.error <= 1e-5


def residual_net():
    inputs = keras.Input((4,))
    x = kl.Dense(5, name="stem")(inputs)
    x = kl.Add(name="one")([x, kl.BatchNormalization()(kl.Dense(5, name="a")(x))])
    x = kl.Add(name="two")([x, kl.Dense(5, name="b")(x)])
    return keras.Model(inputs, kl.Dense(2, name="out")(x))


def test_the_reference_has_the_removed_branch_zeroed() -> None:
    found = units(residual_net())
    cut = uncut(found).without(branches_of(found.blocks[:1]), None)
    assert prove(cut, rebuild(cut)).error <= 1e-6
    other = replace(cut, branches=branches_of(found.blocks[1:]))
    with pytest.raises(ModelError, match="differs from the original"):
        prove(other, rebuild(other))


@pytest.mark.parametrize(
    ("errors", "passes"), [([5e-4, 1e-6], True), ([5e-4, 5e-4], False), ([5e-3, 1e-6], False)]
)
def test_a_difference_slightly_above_the_tolerance_is_compared_again_in_64_bits(
    errors: list[float], passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, seen = iter(errors), []

    def difference(expected, actual):
        seen.append(keras.backend.standardize_dtype(actual[0].dtype))
        return next(left)

    monkeypatch.setattr(prove_module, "_difference", difference)
    cut, small = cut_in_half(conv_net())
    if passes:
        assert prove(cut, small).error == errors[1]
    else:
        with pytest.raises(ModelError, match="of the output's scale"):
            prove(cut, small)
    assert seen == ["float32", "float64"][: 1 if errors[0] > 1e-3 else 2]


def test_in_64_bits_a_correct_cut_is_exact_and_a_wrong_one_still_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare = prove_module._compare_zeroed
    given = {"seed": 0, "input_shape": None}
    cut, small = cut_in_half(conv_net())
    assert compare(cut, small, "float64", **given).error < 1e-14
    sliced = prove_module.sliced

    def spoiled(*args):
        return {key: [array * 1.001 for array in arrays] for key, arrays in sliced(*args).items()}

    monkeypatch.setattr(prove_module, "sliced", spoiled)
    rounded, exact = (compare(cut, small, dtype, **given).error for dtype in (None, "float64"))
    assert exact > 1e-4
    assert rounded == pytest.approx(exact, rel=0.01)


class Narrow(kl.Layer):
    def call(self, x):
        return tf.raw_ops.AddV2(x=x, y=tf.constant(1.0))


def test_the_first_comparison_decides_for_a_layer_of_32_bits_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tfprune.rules.register(Narrow)(lambda flow, call: flow.axes(call.args[0]))
    inputs = keras.Input((6, 6, 3))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(8, 3)(inputs))
    cut, small = cut_in_half(keras.Model(inputs, kl.Dense(3)(Narrow()(x))))
    forget(Narrow)
    with pytest.raises(TypeError, match="float32 that does not match type float64"):
        prove_module._compare_zeroed(cut, small, "float64", seed=0, input_shape=None)
    monkeypatch.setattr(prove_module, "_difference", lambda *_: 5e-4)
    with pytest.raises(ModelError, match=r"by 0\.0005 of the output's scale"):
        prove(cut, small)
