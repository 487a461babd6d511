import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as kl

import tfprune
from tests.structure.targets.test_options import USUAL
from tfprune.errors import FilterError, ModelError, OptionError
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import units
from tfprune.structure.select.ranking import RANKINGS, RankedGroup, bundle, check_filters
from tfprune.structure.targets.cost import candidates
from tfprune.structure.targets.options import ShrinkOptions


def net(widths=(16, 24, 40)):
    x = inputs = keras.Input((4,))
    for number, width in enumerate(widths):
        x = kl.Dense(width, activation="relu", name=f"d{number}")(x)
    return keras.Model(inputs, kl.Dense(2, name="out")(x))


def pool(model, score=None, **options):
    found = units(model)
    score = np.arange(found.flow.size, dtype=float) if score is None else score
    options = {**USUAL, "round_to": 1, "cap": 1.0, **options}
    return candidates(found, score, ShrinkOptions(target={"channels": 0.5}, **options))[0]


def test_uniform_removes_the_same_share_of_each_group() -> None:
    assert RANKINGS["uniform"](pool(net()), 0.25) == [12, 18, 30]


def test_global_compares_scores_relative_to_the_mean_of_their_group() -> None:
    found = units(net((4, 4)))
    score = np.ones(found.flow.size)
    score[found[0].units] = [1, 1, 1, 1]
    score[found[1].units] = [10, 10, 10, 370]
    first, second = RANKINGS["global"](pool(found.model, score), 3 / 8)
    assert (first, second) == (4, 1)


def test_isomorphic_ranks_within_groups_of_equal_structure() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(8, name="plain")(inputs)
    for number in range(2):
        x = kl.BatchNormalization()(kl.Dense(8, name=f"normed{number}")(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    chosen = pool(model)
    kept = RANKINGS["isomorphic"](chosen, 0.5)
    by_name = {c.group.name: count for c, count in zip(chosen, kept, strict=True)}
    assert by_name["plain"] == 4
    assert by_name["normed0"] + by_name["normed1"] == 8


def test_of_equal_units_the_lower_index_is_kept() -> None:
    group = units(net((5,)))[0]
    bundles, scores = bundle(group, np.array([1.0, 2, 1, 2, 1]))
    assert bundles.ravel().tolist() == group.units[[4, 2, 0, 3, 1]].tolist()
    assert scores.tolist() == [1, 1, 1, 2, 2]


def test_amounts_and_shares_of_one_cost_agree() -> None:
    model = net((64, 96))
    _, by_share = tfprune.shrink(model, {"params": 0.5}, verify=False)
    _, by_amount = tfprune.shrink(model, {"params": model.count_params() // 2}, verify=False)
    assert by_share.plan == by_amount.plan


def test_kept_counts_are_multiples_and_at_least_one() -> None:
    small, _ = tfprune.shrink(net((64, 4, 40)), {"channels": 0.01}, cap=1.0, verify=False)
    assert [small.get_layer(f"d{n}").units for n in range(3)] == [8, 4, 8]


def test_the_cap_holds_in_every_group() -> None:
    small, _ = tfprune.shrink(net((64, 64)), {"channels": 0.1}, cap=0.5, round_to=1, verify=False)
    assert [small.get_layer(f"d{n}").units for n in range(2)] == [32, 32]


@pytest.mark.parametrize(("width", "cap", "stay"), [(64, 0.8, 16), (512, 0.95, 32)])
def test_the_cap_leaves_multiples_too(width, cap, stay) -> None:
    small, _ = tfprune.shrink(net((width,)), {"channels": 0.01}, cap=cap, verify=False)
    assert small.get_layer("d0").units == stay


@given(
    count=st.integers(1, 600),
    step=st.integers(1, 64),
    cap=st.floats(0, 1),
    asked=st.floats(0, 1),
)
def test_kept_counts_are_a_multiple_or_all_and_respect_the_cap(count, step, cap, asked) -> None:
    where, most = np.arange(count), math.floor(cap * count + 1e-9)
    group = Group(0, "d0", "channels", where, np.zeros(count, int), (), (), True, ())
    kept = RankedGroup(group, where[:, None], np.zeros(count), step, most).kept(asked * count)
    assert 1 <= kept <= count
    assert kept % step == 0 or kept == count
    assert kept >= count - most


def test_an_unreachable_target_is_an_error_with_the_least_cost() -> None:
    with pytest.raises(
        OptionError,
        match=r"params 0\.05: at most 2\d\d wanted, but at least [\d,]+ of [\d,]+ \([\d.]+%\) "
        r"are kept with cap=0.5, round_to=8 .*\. Raise cap, lower round_to",
    ):
        tfprune.shrink(net((64, 64)), {"params": 0.05}, cap=0.5)


def test_a_percentage_instead_of_a_share_gets_a_hint() -> None:
    with pytest.raises(OptionError, match=r"macs 50: at most .* Did you mean 0\.5\?"):
        tfprune.shrink(net((64, 64)), {"macs": 50})


@pytest.mark.parametrize("options", [{"round_to": 16}, {"skip": "d0"}, {"round_to": 10**9}])
def test_channels_of_which_none_can_be_removed_are_an_error(options) -> None:
    with pytest.raises(OptionError, match=r"channels 0.5: none of 16 channels can be .*groups"):
        tfprune.shrink(net((16,)), {"channels": 0.5}, **options)


def test_a_share_of_channels_far_from_the_target_gets_a_note() -> None:
    _, report = tfprune.shrink(net((24, 16)), {"channels": 1e-9}, verify=False)
    (note,) = report.notes
    assert note == (
        "0.40 of the prunable channels kept for a target of 1e-09: no nearer with "
        "cap=0.95, round_to=8 (2 prunable groups)"
    )
    near = tfprune.shrink(net((24, 16)), {"channels": 0.6}, round_to=1, verify=False)[1]
    assert not near.notes


@pytest.mark.parametrize("cost", ["macs", "params", "channels"])
def test_an_amount_above_that_of_the_model_gets_a_note(cost) -> None:
    _, report = tfprune.shrink(net((16,)), {cost: 2_000_000}, verify=False)
    assert report.notes == (f"the model already meets its target of {cost} 2,000,000",)


def test_only_skip_and_ratios() -> None:
    model = net((16, 24, 40))
    small, _ = tfprune.shrink(model, {"channels": 0.5}, only=["d0", "d2"], ranking="uniform",
                              round_to=1, verify=False)  # fmt: skip
    assert [small.get_layer(f"d{n}").units for n in range(3)] == [8, 24, 20]
    small, _ = tfprune.shrink(model, {"channels": 0.5}, skip="d[12]", ranking="uniform",
                              round_to=1, verify=False)  # fmt: skip
    assert [small.get_layer(f"d{n}").units for n in range(3)] == [8, 24, 40]
    small, _ = tfprune.shrink(model, None, ratios={"d0": 0.25, "d2": 0.75}, round_to=1,
                              verify=False)  # fmt: skip
    assert [small.get_layer(f"d{n}").units for n in range(3)] == [4, 24, 30]


def test_a_ratio_for_layers_that_another_option_keeps_is_an_error() -> None:
    for options in ({"only": "d1"}, {"skip": "d0"}):
        with pytest.raises(FilterError, match="ratios: 'd0' is kept whole by only=, skip="):
            tfprune.shrink(net(), None, ratios={"d0": 0.5}, **options)


def test_a_ratio_that_is_rounded_away_is_noted() -> None:
    small, report = tfprune.shrink(net((16, 32)), None, ratios={"d.": 0.25})
    assert [small.get_layer(f"d{n}").units for n in range(2)] == [8, 8]
    assert report.notes == ("d0: 8 of 16 kept for a share of 0.25: counts are multiples of 8",)


def test_filters_that_match_nothing_are_errors() -> None:
    found = units(net())
    with pytest.raises(FilterError, match="only: 'dd1' matches nothing.*Did you mean d1"):
        check_filters(found, "only", ["dd1"])
    with pytest.raises(FilterError, match="'out' cannot be cut: it is an output of the model"):
        tfprune.shrink(found.model, {"channels": 0.5}, skip=["out"])
    with pytest.raises(FilterError, match="ratios: 'x' matches nothing"):
        tfprune.shrink(found.model, None, ratios={"x": 0.5})
    with pytest.raises(OptionError, match="expected the share to keep"):
        tfprune.shrink(found.model, None, ratios={"d0": 1.5})


def test_a_model_without_prunable_units_is_an_error() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2, name="only")(inputs), name="net")
    with pytest.raises(
        ModelError, match="'net' has no prunable units .*only: it is an output of the model"
    ):
        tfprune.shrink(model, {"channels": 0.5})


class Twice(kl.Layer):
    """A layer of a user's own, with a weight and no rule."""

    def build(self, shape) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, x):
        return tf.matmul(x, self.kernel)


def test_the_error_without_prunable_units_names_layers_without_a_rule() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, kl.Dense(2, name="out")(Twice(name="own")(inputs)))
    assert "own: 4 kept (own has no rule" in str(tfprune.units(model))
    with pytest.raises(ModelError, match=r"own has no rule \(.*Twice\)"):
        tfprune.shrink(model, {"macs": 0.5})


def test_no_tensor_is_emptied() -> None:
    """The second half of a split holds the least important units of all."""
    inputs = keras.Input((4,))
    x = kl.Dense(8, name="in")(inputs)
    left, right = keras.ops.split(x, 2, axis=-1)
    outputs = kl.Dense(2, name="l")(left) + kl.Dense(2, name="r")(right)
    model = keras.Model(inputs, outputs)
    kernel = np.ones((4, 8), "float32")
    kernel[:, 4:] = 0.01
    model.get_layer("in").set_weights([kernel, np.zeros(8)])
    small, _ = tfprune.shrink(
        model, {"channels": 0.5}, round_to=1, only="in", importance=lambda r: np.abs(r).sum(1)
    )
    assert small.get_layer("r").kernel.shape[0] >= 1
