from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras.src.applications.convnext import StochasticDepth

import tfprune
from tests.structure.targets.test_options import USUAL
from tfprune.errors import ModelError
from tfprune.structure.groups.units import units
from tfprune.structure.targets.closed import cut_closed
from tfprune.structure.targets.options import ShrinkOptions


def test_zero_branches_and_zero_units_are_removed() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(6, name="stem")(inputs)
    y = kl.Dense(6, name="down", kernel_initializer="zeros")(x)
    x = kl.Dense(5, name="hidden")(kl.Add(name="sum")([x, y]))
    model = keras.Model(inputs, kl.Dense(2)(x))
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[:, [1, 3]] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    found = units(model)
    cut = cut_closed(found, ShrinkOptions(target="zeros", **USUAL))
    assert cut.same
    assert len(cut.branches.arms) == 1
    (hidden,) = [p for p in cut.left.flow.producers if p.op.name == "hidden"]
    assert np.flatnonzero(~cut.kept_mask[hidden.start : hidden.stop]).tolist() == [1, 3]


def test_gates_are_removed_with_the_units_they_close() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="hidden"), kl.Dense(2)])
    with pytest.raises(ModelError, match="has no gates: place some"):
        cut_closed(units(model), ShrinkOptions(target="gates", **USUAL))
    gated = tfprune.add_gates(model, kind="hard")
    found = units(gated)
    cut = cut_closed(found, ShrinkOptions(target="gates", **USUAL))
    assert [gated.get_layer("hidden_gate") is call.op for call in found.graph.calls
            if id(call.op) in cut.drop] == [True]  # fmt: skip
    assert cut.notes == ("no gate is closed: they are between 1 and 1; close() them",)


HEAD = ["stem", "out"]


def weighted(model):
    return [layer.name for layer in model.layers if layer.weights]


def net(ending, join=None, units=6):
    """A stem, one residual branch with an ending of its own, and a head."""
    inputs = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.Conv2D(units, 3, name="stem", bias_initializer="normal")(inputs))
    y = kl.BatchNormalization(name="bn_a")(kl.Conv2D(5, 3, padding="same", name="a")(x))
    y = ending(kl.Conv2D(units, 3, padding="same", name="b")(kl.ReLU()(y)))
    x = join([x, y]) if join else x + y
    x = kl.GlobalAveragePooling2D()(kl.ReLU()(x))
    return keras.Model(inputs, kl.Dense(2, name="out")(x), name="net")


def check(model, layers, tmp_path: Path | None = None):
    small, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-6
    assert report.against == "the original"
    assert weighted(small) == layers
    assert report.after.params == small.count_params()
    data = np.random.default_rng(5).normal(size=(4, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(small(data), model(data), atol=1e-6)
    if tmp_path is not None:
        small.save(tmp_path / "small.keras")
        loaded = keras.models.load_model(tmp_path / "small.keras")
        np.testing.assert_array_equal(loaded(data), small(data))
    return report


def zero(layer):
    layer.set_weights([weight * 0 for weight in layer.get_weights()])


@pytest.mark.parametrize(
    "ending",
    [
        lambda y: y,
        lambda y: kl.Dropout(0.2)(y),
        lambda y: StochasticDepth(0.1)(y),
        lambda y: kl.ReLU()(y) * 0.1,
    ],
    ids=["plain", "dropout", "stochastic depth", "scaled"],
)
def test_a_branch_that_is_zero_is_removed_whole(ending, tmp_path: Path) -> None:
    model = net(ending)
    zero(model.get_layer("b"))
    report = check(model, HEAD, tmp_path)
    (block,) = report.blocks
    assert block.removed
    assert report.plan.blocks[0].layers == ("a", "bn_a", "b")
    assert "1 of 1 residual blocks removed" in str(report)
    assert {change.name: change.after for change in report.groups} == {"stem": 6, "a": 0}


@pytest.mark.parametrize("join", [kl.Add(name="join"), kl.Subtract(name="join")], ids=str)
def test_the_sum_may_be_a_layer(join) -> None:
    model = net(lambda y: y, join=type(join).from_config(join.get_config()))
    zero(model.get_layer("b"))
    report = check(model, HEAD)
    assert report.plan.blocks[0].block == "join"


def test_a_normalization_at_the_end_of_a_branch_must_be_constant_too(tmp_path: Path) -> None:
    def ending(y):
        return kl.BatchNormalization(name="bn_b", beta_initializer="zeros")(y)

    model = net(ending)
    zero(model.get_layer("b"))
    rng = np.random.default_rng(0)
    norm = model.get_layer("bn_b")
    # What is left of the moving mean would speak: it is the same for every input, but not zero.
    norm.moving_mean.assign(rng.normal(size=6))
    norm.moving_variance.assign(rng.uniform(0.5, 2, 6))
    report = check(model, HEAD, tmp_path)
    assert any("replaced by its constant output" in n for n in report.notes)
    assert report.plan.blocks == ()
    # With gamma and beta closed as well it is silent whatever the statistics.
    norm.gamma.assign(np.zeros(6))
    report = check(model, HEAD, tmp_path)
    assert report.plan.blocks
    assert report.notes == ()


def test_a_constant_under_a_padded_window_is_not_constant() -> None:
    """Padding brings zeros in at the edge, so what the last convolution gives is not uniform."""
    model = net(lambda y: y)
    zero(model.get_layer("a"))
    model.get_layer("bn_a").beta.assign(np.ones(5))
    report = tfprune.shrink(model, "zeros")[1]
    assert report.error <= 1e-6
    assert not report.blocks[0].removed
    # Without it the last convolution has nothing but its bias.
    model.get_layer("bn_a").beta.assign(np.zeros(5))
    model.get_layer("b").bias.assign(np.arange(6.0))
    report = check(model, HEAD)
    assert report.blocks[0].removed


def test_a_branch_with_a_relu_that_is_zero_only_on_the_samples_is_kept() -> None:
    model = net(lambda y: kl.ReLU()(y))
    model.get_layer("b").bias.assign(np.full(6, -1e4))
    report = tfprune.shrink(model, "zeros")[1]
    assert not report.blocks[0].removed


def test_sums_of_several_addends_and_without_a_residual_are_cut() -> None:
    inputs = keras.Input((4,))
    one, two, three = (kl.Dense(5, name=name)(inputs) for name in ("one", "two", "three"))
    model = keras.Model(inputs, kl.Dense(2, name="out")(kl.Add(name="sum")([one, two, three])))
    zero(model.get_layer("two"))
    report = check(model, ["one", "three", "out"])
    assert any("two removed from sum" in note for note in report.notes)
    zero(model.get_layer("one"))
    zero(model.get_layer("three"))
    small, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-6
    assert len(weighted(small)) == 2


def test_units_read_only_by_a_removed_branch_are_removed() -> None:
    """The channel of the stem is read only by the removed branch."""
    model = net(lambda y: y)
    zero(model.get_layer("b"))
    kernel, bias = model.get_layer("out").get_weights()
    kernel[2] = 0
    model.get_layer("out").set_weights([kernel, bias])
    small, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-6
    assert small.get_layer("stem").filters == 5


def test_the_plan_removes_the_same_again(tmp_path: Path) -> None:
    model = net(lambda y: kl.Dropout(0.1)(y))
    zero(model.get_layer("b"))
    report = tfprune.shrink(model, "zeros")[1]
    report.plan.save(tmp_path / "plan.json")
    trained = net(lambda y: kl.Dropout(0.1)(y))
    small, again = tfprune.shrink(trained, tfprune.Plan.load(tmp_path / "plan.json"))
    assert weighted(small) == HEAD
    assert again.error <= 1e-5
    assert again.plan == report.plan


def test_a_branch_whose_gates_are_all_closed_is_removed(tmp_path: Path) -> None:
    model = net(lambda y: kl.BatchNormalization(name="bn_b")(y))
    gated = tfprune.add_gates(model, kind="hard", only="a")
    gated.get_layer("a_gate").close(range(5))
    gated.get_layer("bn_b").moving_mean.assign(np.linspace(-1, 1, 6))
    small, report = tfprune.shrink(gated, "gates")
    assert report.error <= 1e-6
    assert weighted(small) == HEAD
    assert report.blocks[0].removed


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_constant_branches_are_removed_in_mixed_precision(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = net(lambda y: kl.BatchNormalization(name="bn_b", beta_initializer="ones")(y))
        zero(model.get_layer("b"))
        small, report = tfprune.shrink(model, "zeros")
    finally:
        keras.config.set_dtype_policy("float32")
    assert weighted(small) == HEAD
    assert report.error <= 1e-4
