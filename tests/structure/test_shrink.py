import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import OptionError


def net():
    inputs = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(16, 3, name="conv")(inputs)))
    return keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x)), name="net")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"importance": "tailor"}, "unknown importance 'tailor'.*Did you mean taylor"),
        ({"ranking": "globl"}, "unknown ranking 'globl'.*Did you mean global"),
        ({"round_to": 0}, "round_to: expected an integer of at least 1"),
        ({"round_to": 2.0}, "round_to: expected an integer"),
        ({"ranking": ["global"]}, "unknown ranking"),
        ({"seed": -1}, "seed: expected an integer of at least 0, not -1"),
        ({"seed": "a"}, "seed: expected an integer"),
        ({"only": 3}, "only: expected names, regular expressions or predicates. Received 3"),
        ({"cap": 0}, "cap: expected a share"),
        ({"cap": 1.5}, "cap: expected a share"),
        ({"heads": "no"}, "heads: expected True or False. Received 'no'"),
        ({"verify": None}, "verify: expected True or False. Received None"),
        ({"ratios": [("conv", 0.5)]}, "ratios: expected the share to keep, by name"),
    ],
)
def test_wrong_options_are_refused_before_any_work(options, message) -> None:
    with pytest.raises(OptionError, match=message):
        tfprune.shrink("not even a model", {"macs": 0.5}, **options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3,), r"expected a shape like \(8, 8, 3\), without the batch. Received \(3,\)"),
        ((8, 8, 4), "expected a shape like"),
        ([(8, 8, 3), (8, 8, 3)], "the model takes 1 inputs. Received 2 shapes"),
        ("x", "expected a tuple of sizes without the batch"),
        (8, "expected a tuple of sizes without the batch"),
        ((0, 8, 3), "expected a tuple of sizes"),
    ],
)
def test_shapes_that_the_model_does_not_take_are_refused(shape, message) -> None:
    with pytest.raises(OptionError, match=message):
        tfprune.shrink(net(), {"channels": 0.5}, input_shape=shape)
    with pytest.raises(OptionError, match=message):
        tfprune.units(net(), input_shape=shape)


def test_no_target_needs_ratios() -> None:
    with pytest.raises(OptionError, match="allowed only with ratios="):
        tfprune.shrink(net(), None)


def test_keeping_everything_is_the_identity() -> None:
    model = net()
    small, report = tfprune.shrink(model, {"macs": 1.0})
    assert report.before == report.after
    data = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(small(data), model(data))


def test_without_verification_the_report_says_so() -> None:
    _, report = tfprune.shrink(net(), {"macs": 0.5}, verify=False)
    assert report.error is None
    assert "not verified" in str(report)


def test_the_same_call_gives_the_same_model() -> None:
    model = net()
    for importance in ("l2", "random"):
        one, first = tfprune.shrink(model, {"macs": 0.5}, importance=importance, seed=3)
        two, second = tfprune.shrink(model, {"macs": 0.5}, importance=importance, seed=3)
        assert first == second
        for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_open_sizes_need_an_input_shape_only_for_multiplications() -> None:
    inputs = keras.Input((None, None, 3))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(16, 3)(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    _, report = tfprune.shrink(model, {"params": 0.6})
    assert report.before.macs is None
    _, report = tfprune.shrink(model, {"macs": 0.5}, input_shape=(12, 12, 3))
    assert report.after.macs == report.before.macs / 2


def test_data_driven_importances_work_end_to_end() -> None:
    model = net()
    rng = np.random.default_rng(0)
    data = rng.normal(size=(16, 8, 8, 3)).astype("float32"), rng.integers(0, 2, 16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for importance in ("taylor", "hessian", "activation"):
        small, report = tfprune.shrink(
            model, {"channels": 0.5}, importance=importance, data=data, loss=loss
        )
        assert small.get_layer("conv").filters == 8
        assert report.importance == importance


def test_masks_that_are_not_copied_are_named() -> None:
    model = tfprune.prune(net(), 0.5)
    _, report = tfprune.shrink(model, {"channels": 0.5})
    assert any("pruning masks of" in note for note in report.notes)


def residual_net():
    inputs = keras.Input((4,))
    x = kl.Dense(6, name="stem")(inputs)
    y = kl.Dense(6, name="down")(kl.LayerNormalization()(kl.Dense(8, name="up")(x)))
    x = kl.Add(name="sum")([x, y])
    return keras.Model(inputs, kl.Dense(2, name="out")(x), name="net")


def test_the_groups_of_a_removed_block_have_no_units_left() -> None:
    model = residual_net()
    small, report = tfprune.shrink(model, {"blocks": 1})
    changes = {change.name: (change.before, change.after) for change in report.groups}
    assert changes == {"stem": (6, 6), "up": (8, 0)}
    assert (report.before.units, report.after.units) == (14, 6)
    assert report.before.params == 4 * 6 + 6 + 6 * 8 + 8 + 16 + 8 * 6 + 6 + 6 * 2 + 2
    assert report.after.params == small.count_params() == 4 * 6 + 6 + 6 * 2 + 2
    assert (report.before.macs, report.after.macs) == (24 + 48 + 48 + 12, 24 + 12)
    by_layer = {change.layer: change.params_after for change in report.layers}
    assert by_layer["up"] == by_layer["down"] == 0
    # Its normalization went with it: nothing that is left computes anything else.
    assert report.exact
    assert report.reasons == ()


def test_an_inexact_cut_has_its_reason() -> None:
    _, report = tfprune.shrink(residual_net(), {"channels": 0.5}, ranking="uniform", round_to=1)
    assert not report.exact
    assert "LayerNormalization takes its statistics" in report.reasons[0]
    assert report.achieved == 0.5


def test_masks_are_named_also_when_a_block_is_removed() -> None:
    model = tfprune.prune(residual_net(), 0.5)
    _, report = tfprune.shrink(model, {"blocks": 1})
    assert any("pruning masks of 4 weights are not copied" in note for note in report.notes)
