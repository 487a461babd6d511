"""The contract of every importance, ranking and kind of target; new ones are tested too."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tests.structure.depth.test_choose_blocks import LABELLED, LOSS, deep, removed
from tests.structure.select.test_importance import evidence, net, scores
from tests.structure.select.test_ranking import net as widths
from tests.structure.select.test_ranking import pool
from tests.structure.targets.test_options import USUAL
from tfprune.graph.rebuild import read_weights
from tfprune.structure.depth.choose_blocks import BLOCK_IMPORTANCES
from tfprune.structure.groups.units import units
from tfprune.structure.proof.prove import prove
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.select.importance import IMPORTANCES, UnitEvidence, score_units
from tfprune.structure.select.plan import Plan, Removal
from tfprune.structure.select.ranking import RANKINGS
from tfprune.structure.targets.options import TARGETS, ShrinkOptions

# What draws, and so knows nothing of what it judges.
CONTROLS = {"random"}


@pytest.fixture(autouse=True, scope="module")
def _fresh_session():
    yield
    keras.backend.clear_session(free_memory=False)


def branched() -> keras.Model:
    """Convolutions with a shortcut and a depthwise one; each unit goes through a BatchNorm."""
    inputs = keras.Input((6, 6, 3))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(6, 1, name="stem")(inputs)))
    y = kl.ReLU()(kl.BatchNormalization()(kl.DepthwiseConv2D(3, padding="same")(x)))
    y = kl.BatchNormalization()(kl.Conv2D(6, 3, padding="same", name="branch")(y))
    x = kl.GlobalAveragePooling2D()(kl.Add()([x, y]))
    x = kl.BatchNormalization()(kl.Dense(5, name="hidden")(x))
    return keras.Model(inputs, kl.Dense(2)(x))


@pytest.mark.parametrize("name", IMPORTANCES)
def test_an_importance_gives_each_unit_a_number_and_changes_nothing(name: str) -> None:
    model = branched()
    before = [weight.copy() for weight in model.get_weights()]
    given = evidence(model, data=LABELLED)
    first, second = score_units(name, given), score_units(name, given)
    np.testing.assert_array_equal(first, second)
    for group in given.found.groups:
        mine = first[group.units]
        assert mine.shape == (len(group.units),)
        assert np.isfinite(mine).all(), group.name
        assert (mine >= 0).all()
        assert np.ptp(mine) > 0 or name == "bn_scale"  # all are 1 in a new model
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", sorted(set(IMPORTANCES) - CONTROLS))
def test_a_permutation_of_the_channels_permutes_the_scores(name: str) -> None:
    plain, model, order = net(), net(), [2, 0, 1]
    kernel, bias = model.get_layer("a").get_weights()
    model.get_layer("a").set_weights([kernel[:, order], bias[order]])
    rows, last = model.get_layer("b").get_weights()
    model.get_layer("b").set_weights([rows[order], last])
    np.testing.assert_allclose(scores(name, model), scores(name, plain)[order], rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(IMPORTANCES) - CONTROLS))
def test_a_unit_without_effect_is_removed_first(name: str) -> None:
    """High means keep: nothing makes the unit, nothing scales it and nothing uses it."""
    model = net()
    kernel, bias = model.get_layer("a").get_weights()
    kernel = kernel + np.random.default_rng(2).normal(size=kernel.shape)
    scale = np.array([1.0, 0.0, 1.0])
    model.get_layer("a").set_weights([kernel * scale, bias])
    gamma, *others = model.get_layer("bn").get_weights()
    model.get_layer("bn").set_weights([gamma * scale, *others])
    rows, last = model.get_layer("b").get_weights()
    rows = np.random.default_rng(3).normal(size=rows.shape)
    model.get_layer("b").set_weights([rows * scale[:, None], last])
    found = scores(name, model)
    if name == "fpgm":  # It asks for what others can stand in for: the median, not the least.
        assert np.isfinite(found).all()
    else:
        assert found[1] < found[[0, 2]].min()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", RANKINGS)
def test_a_ranking_returns_counts_within_the_groups(name: str, share: float) -> None:
    chosen = pool(widths())
    kept = RANKINGS[name](chosen, share)
    assert all(0 <= k <= len(c.bundles) for c, k in zip(chosen, kept, strict=True))
    if share == 0.0:
        assert kept == [len(c.bundles) for c in chosen]
    assert RANKINGS[name]([], share) == []


@pytest.mark.parametrize("name", RANKINGS)
def test_a_ranking_keeps_less_where_more_is_to_be_removed(name: str) -> None:
    chosen = pool(widths())
    asked = np.array([RANKINGS[name](chosen, share) for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)])
    assert (np.diff(asked, axis=0) <= 0).all()


@pytest.mark.parametrize("cost", ["macs", "params"])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
@pytest.mark.parametrize("name", RANKINGS)
def test_a_cost_is_met_without_removing_far_too_much(cost: str, name: str, share: float) -> None:
    _, report = tfprune.shrink(widths((64, 96)), {cost: share}, ranking=name, verify=False)
    assert share - 0.2 < report.achieved <= share


@pytest.mark.parametrize("name", RANKINGS)
def test_filters_caps_and_multiples_hold_under_every_ranking(name: str) -> None:
    def left(**options) -> list[int]:
        options = {"ranking": name, "verify": False, "round_to": 1, **options}
        small, _ = tfprune.shrink(widths((32, 48, 64)), {"channels": 0.5}, **options)
        return [small.get_layer(f"d{number}").units for number in range(3)]

    plain = left()
    assert 48 <= sum(plain) <= 108  # "fast" asks for less where that saves no time
    assert left(only="d1")[::2] == [32, 64]
    assert left(only="d1")[1] < 48
    assert all(count >= 1 for count in plain)
    assert left(skip="d1")[1] == 48
    assert sum(left(skip="d1")) < 144
    assert all(count % 8 == 0 for count in left(round_to=8))
    assert all(
        count >= width * 0.6 for count, width in zip(left(cap=0.4), (32, 48, 64), strict=True)
    )


@pytest.mark.parametrize("name", BLOCK_IMPORTANCES)
def test_an_importance_gives_each_block_a_number_and_changes_nothing(name: str) -> None:
    model = deep(3)
    before = [weight.copy() for weight in model.get_weights()]
    found = units(model)
    given = UnitEvidence(found, read_weights(found.graph), LABELLED, LOSS)
    first, second = (BLOCK_IMPORTANCES[name](given, found.blocks) for _ in range(2))
    assert first.shape == (3,)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # And it is an importance that `shrink` takes.
    options = {"importance": name, "data": LABELLED, "loss": LOSS, "verify": False}
    assert len(removed(tfprune.shrink(model, {"blocks": 0.3}, **options)[1])) == 1


EXAMPLES = {
    "blocks": {"blocks": 0.3},
    "closed": "zeros",
    "cost": {"channels": 0.5},
    "plan": Plan("deep", (Removal("up_0", "filters", 6, (1, 2)),)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_kind_of_target_gives_a_cut_that_can_be_built_and_verified(name: str) -> None:
    model = deep(3)
    before = [weight.copy() for weight in model.get_weights()]
    found = units(model)
    options = ShrinkOptions(target=EXAMPLES[name], **{**USUAL, "round_to": 1})
    assert options.kind == name
    cut, again = (TARGETS[name](found, options) for _ in range(2))
    assert cut.whole is found
    np.testing.assert_array_equal(cut.removed, again.removed)
    assert (cut.branches.arms.keys(), cut.notes) == (again.branches.arms.keys(), again.notes)
    assert cut.weights.keys() == again.weights.keys() == read_weights(found.graph).keys()
    assert prove(cut, rebuild(cut)).error <= 1e-5
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
