import keras
from keras import layers as kl

import tfprune


def net():
    inputs = keras.Input((4,))
    x = kl.Dense(6, name="stem")(inputs)
    y = kl.Dense(6, name="down")(kl.LayerNormalization()(kl.Dense(8, name="up")(x)))
    x = kl.Add(name="sum")([x, y])
    return keras.Model(inputs, kl.Dense(2, name="out")(x), name="net")


def test_a_block_that_goes_takes_its_groups_to_nothing() -> None:
    model = net()
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
    _, report = tfprune.shrink(net(), {"channels": 0.5}, ranking="uniform", round_to=1)
    assert not report.exact
    assert "LayerNormalization takes its statistics" in report.reasons[0]
    assert report.achieved == 0.5


def test_masks_that_stay_behind_are_named() -> None:
    model = tfprune.prune(net(), 0.5)
    _, report = tfprune.shrink(model, {"blocks": 1})
    assert any("pruning masks of 4 weights are not copied" in note for note in report.notes)
