import json
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as kl

import tfprune
from tfprune.errors import DataError, FilterError, ModelError, OptionError
from tfprune.graph.rebuild import execute, read_weights
from tfprune.graph.residual_blocks import addends
from tfprune.structure.depth.choose_blocks import BLOCK_IMPORTANCES, score_blocks
from tfprune.structure.groups.units import units
from tfprune.structure.select.importance import IMPORTANCES, UnitEvidence


def deep(count=4, width=8, norm=True):
    """A stem, residual blocks of two convolutions, and a head."""
    inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(width, 3, name="stem")(inputs)
    for number in range(count):
        y = kl.Conv2D(6, 3, padding="same", name=f"up_{number}")(x)
        y = kl.BatchNormalization(beta_initializer="normal")(y) if norm else y
        y = kl.Conv2D(width, 1, name=f"down_{number}")(kl.ReLU()(y))
        x = kl.Add(name=f"sum_{number}")([x, y])
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.Flatten()(x)), name="deep")


def weaken(model, numbers, by=1e-3):
    for number in numbers:
        for name in (f"up_{number}", f"down_{number}"):
            layer = model.get_layer(name)
            layer.set_weights([weight * by for weight in layer.get_weights()])


def removed(report):
    return [block.name for block in report.blocks if block.removed]


def without_branches(model, names, data):
    """The outputs of the model with some branches left out, computed without the package."""
    found = units(model)
    muted = {block.arm for block in found.blocks if block.name in names}
    places = {id(call): place for place, call in enumerate(found.graph.calls)}

    def run(call, args, kwargs):
        for at, position in muted:
            if places[id(call)] == at:
                flat = list(args[0]) if isinstance(args[0], (list, tuple)) else list(args)
                assert len(flat) == len(addends(call))
                flat[position] = flat[position] * 0
                args = (flat,) if isinstance(args[0], (list, tuple)) else tuple(flat)
        return call.op(*args, **kwargs)

    return execute(found.graph, [keras.ops.convert_to_tensor(data)], run)


LABELLED = (
    np.random.default_rng(0).normal(size=(16, 6, 6, 3)).astype("float32"),
    np.random.default_rng(1).integers(0, 2, 16),
)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def spread(rows: np.ndarray) -> np.ndarray:
    return np.ptp(rows, axis=1)


@pytest.mark.parametrize(
    "importance", [*sorted(set(IMPORTANCES) - {"bn_scale", "random", "lamp"}), spread]
)
def test_the_least_important_blocks_are_removed(importance) -> None:
    model = deep()
    weaken(model, [1, 3])
    small, report = tfprune.shrink(
        model, {"blocks": 0.5}, importance=importance, data=LABELLED, loss=LOSS
    )
    assert removed(report) == ["sum_1", "sum_3"]
    assert report.achieved == 0.5
    assert report.error <= 1e-5
    assert report.exact
    assert report.after.params == small.count_params()
    assert report.after.macs == tfprune.macs(small).total
    np.testing.assert_allclose(
        small(LABELLED[0]), without_branches(model, removed(report), LABELLED[0]), atol=1e-5
    )


@pytest.mark.parametrize("importance", ["random", "lamp"])
def test_every_importance_removes_as_many_blocks(importance) -> None:
    _, report = tfprune.shrink(deep(), {"blocks": 0.5}, importance=importance, seed=4)
    assert len(removed(report)) == 2


def test_bn_scale_needs_normalizations_on_the_branch() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(8)(inputs)
    for number in range(3):
        y = kl.BatchNormalization(name=f"bn_{number}")(kl.Dense(8, name=f"d_{number}")(x))
        x = kl.Add(name=f"sum_{number}")([x, y])
    model = keras.Model(inputs, kl.Dense(2)(x))
    model.get_layer("bn_1").gamma.assign(np.full(8, 0.01))
    assert removed(tfprune.shrink(model, {"blocks": 0.3}, importance="bn_scale")[1]) == ["sum_1"]
    with pytest.raises(OptionError, match="bn_scale' is not defined for any of the 4 blocks"):
        tfprune.shrink(deep(norm=False), {"blocks": 0.5}, importance="bn_scale")


def test_an_importance_without_a_value_is_not_recommended_in_its_error() -> None:
    @keras.saving.register_keras_serializable("tests")
    class Own(kl.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1],), name="w")

        def call(self, x):
            return x * self.w

    x = inputs = keras.Input((4,))
    for number in range(2):
        x = x + Own(name=f"own_{number}")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    with pytest.raises(OptionError, match="'l2' is not defined .* Use taylor or activation with"):
        tfprune.shrink(model, {"blocks": 0.5}, importance="l2")


def test_every_importance_of_blocks_is_a_registered_importance() -> None:
    assert set(BLOCK_IMPORTANCES) <= set(IMPORTANCES)


def test_taylor_is_the_slope_of_the_loss_along_a_gate() -> None:
    model = deep(2)
    found = units(model)
    evidence = UnitEvidence(found, read_weights(found.graph), LABELLED, LOSS)
    scores = score_blocks("taylor", evidence, found.blocks)
    for block, score in zip(found.blocks, scores, strict=True):
        layer = model.get_layer(block.layers[-1])
        kept = layer.get_weights()

        def loss_at(gate, layer=layer, kept=kept):
            layer.set_weights([weight * gate for weight in kept])
            return float(LOSS(LABELLED[1], model(LABELLED[0])))

        slope = (loss_at(1.01) - loss_at(0.99)) / 0.02
        layer.set_weights(kept)
        assert score == pytest.approx(abs(slope), rel=2e-2, abs=1e-4)


@pytest.mark.parametrize(
    ("share", "count"), [(0.01, 1), (0.25, 1), (0.5, 2), (0.7, 3), (1, 4), (1.0, 4)]
)
def test_the_share_is_rounded_to_at_least_one_block(share, count) -> None:
    _, report = tfprune.shrink(deep(norm=False), {"blocks": share}, verify=False)
    assert len(removed(report)) == count


def test_only_and_skip_name_blocks_or_their_layers() -> None:
    model = deep()
    weaken(model, [1, 3])
    options = {"verify": False}
    report = tfprune.shrink(model, {"blocks": 0.5}, skip="sum_1", **options)[1]
    assert "sum_1" not in removed(report)
    assert "sum_3" in removed(report)
    report = tfprune.shrink(model, {"blocks": 0.5}, only=["up_0", "sum_2"], **options)[1]
    assert len(removed(report)) == 1
    report = tfprune.shrink(model, {"blocks": 1}, only=lambda b: "up_0" in b.layers, **options)[1]
    assert removed(report) == ["sum_0"]
    with pytest.raises(FilterError, match="only: 'sum_9' matches no block.*Did you mean sum_"):
        tfprune.shrink(model, {"blocks": 0.5}, only="sum_9")


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0, "blocks: expected the share in"),
        (-0.5, "blocks: expected the share in"),
        (25, r"expected the share in \(0, 1\].*Received 25. Did you mean 0.25\?"),
        (True, "expected the share"),
        ("all", "Received 'all'"),
        (float("nan"), "Received nan"),
    ],
)
def test_an_invalid_share_is_refused(share, message) -> None:
    with pytest.raises(OptionError, match=message):
        tfprune.shrink("not even a model", {"blocks": share})


def test_options_that_do_not_apply_to_blocks_are_refused() -> None:
    with pytest.raises(OptionError, match="ratios= and repair= apply to channels"):
        tfprune.shrink(deep(), {"blocks": 0.5}, ratios={"stem": 0.5})
    for target in ("zeros", tfprune.Plan("deep", ())):
        with pytest.raises(OptionError, match="it determines what is removed: leave out only="):
            tfprune.shrink(deep(), target, only="stem")
    with pytest.raises(OptionError, match="target zeros: it is exact and needs no repair"):
        tfprune.shrink(deep(), "zeros", repair=LABELLED[0])
    with pytest.raises(DataError, match="data=: this importance needs data"):
        tfprune.shrink(deep(), {"blocks": 0.5}, importance="taylor", loss=LOSS)


def test_a_model_without_blocks_is_refused_with_the_reason() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(4)(inputs)
    plain = keras.Model(inputs, kl.Dense(2)(x), name="plain")
    with pytest.raises(ModelError, match="'plain' has no removable residual block"):
        tfprune.shrink(plain, {"blocks": 0.5})
    x = kl.Add(name="sum")([kl.Dense(5, name="skip")(x), kl.Dense(5)(kl.Dense(3)(x))])
    model = keras.Model(inputs, kl.Dense(2)(x))
    with pytest.raises(ModelError, match="sum: its skip path is not the identity.*skip"):
        tfprune.shrink(model, {"blocks": 0.5})
    model = keras.Model(inputs, kl.Add(name="fine")([x, kl.Dense(5)(x)]))
    with pytest.raises(FilterError, match="only: 'sum' cannot be removed: its skip path"):
        tfprune.shrink(model, {"blocks": 0.5}, only="sum")


def test_the_report_names_removed_and_kept_blocks() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(6)(inputs)
    x = kl.Add(name="one")([x, kl.Dense(6, name="a")(x)])
    y = kl.Dense(5, name="c")(kl.Dense(7, name="b")(x))
    x = kl.Add(name="two")([y, kl.Dense(5, name="skip")(x)])
    _, report = tfprune.shrink(keras.Model(inputs, kl.Dense(2)(x)), {"blocks": 1})
    text = str(report)
    assert "1 of 2 residual blocks removed" in text
    assert "one  (a)" in text
    assert "from the original with the removed units and branches zeroed" in text
    assert "two kept: its skip path is not the identity: it contains skip" in text
    data = json.loads(json.dumps(report.to_json()))
    assert [block["removed"] for block in data["blocks"]] == [True, False]


def test_a_plan_of_blocks_and_channels(tmp_path: Path) -> None:
    model = deep()
    _, first = tfprune.shrink(model, {"blocks": 0.5})
    half, _ = tfprune.shrink(model, first.plan)
    _, second = tfprune.shrink(half, {"channels": 0.5}, round_to=1)
    plan = tfprune.Plan(model.name, second.plan.removals, first.plan.blocks)
    plan.save(tmp_path / "plan.json")
    plan = tfprune.Plan.load(tmp_path / "plan.json")
    # Keras counts on, so the normalizations of another building have other names.
    small, report = tfprune.shrink(deep(), plan)
    assert report.plan.removals == plan.removals
    assert report.error <= 1e-5
    assert report.after.params == second.after.params == small.count_params()
    assert removed(report) == removed(first)


def test_a_plan_that_does_not_fit_is_refused() -> None:
    plan = tfprune.shrink(deep(), {"blocks": 0.5})[1].plan
    inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(8, 3)(inputs)
    name = plan.blocks[0].block
    y = kl.Add(name=name)([x, kl.Conv2D(8, 1, name="another")(x)])
    with pytest.raises(OptionError, match=f"block '{name}' should have the layers up_"):
        tfprune.shrink(keras.Model(inputs, y), plan)
    y = kl.Add(name="else")([x, kl.Conv2D(8, 1, name="another")(x)])
    with pytest.raises(OptionError, match=f"has no block '{name}'"):
        tfprune.shrink(keras.Model(inputs, y), plan)


def test_an_error_in_removing_a_block_is_found(monkeypatch) -> None:
    """The proof is against the original with the branch zeroed, so another graph fails it."""
    from tfprune.structure.rebuild import cut

    right = cut.without

    def wrong(graph, arms):
        places = [place for place, call in enumerate(graph.calls) if addends(call)]
        others = [place for place in places if (place, 1) not in arms]
        return right(graph, {(others[0], 1): None})

    monkeypatch.setattr(cut, "without", wrong)
    with pytest.raises(ModelError, match="differs from the original"):
        tfprune.shrink(deep(), {"blocks": 0.25})


def test_a_branch_at_the_end_and_one_over_several_inputs(loose_inputs: bool) -> None:
    inputs, memory = keras.Input((5, 8)), keras.Input((7, 8))
    x = kl.Dense(8)(inputs)
    y = kl.MultiHeadAttention(2, 4, name="cross")(x, kl.Dense(8, name="key")(memory))
    model = keras.Model([inputs, memory], x + y)
    if not loose_inputs:
        with pytest.raises(ModelError, match="an input is not connected to an output"):
            tfprune.shrink(model, {"blocks": 1})
        return
    small, report = tfprune.shrink(model, {"blocks": 1})
    assert report.error <= 1e-6
    assert report.blocks[0].layers == ("key", "cross")
    assert len(small.inputs) == 2


def encoder(x, number, causal=False):
    y = kl.LayerNormalization(name=f"norm_a{number}")(x)
    y = kl.MultiHeadAttention(2, 8, name=f"mha_{number}")(y, y, use_causal_mask=causal)
    x = x + kl.Dropout(0.1)(y)
    y = kl.LayerNormalization(name=f"norm_b{number}")(x)
    y = kl.Dense(16, name=f"down_{number}")(kl.Dense(32, "gelu", name=f"up_{number}")(y))
    return kl.Add(name=f"sum_{number}")([x, y])


def test_attention_and_mlp_of_a_transformer_are_removed_separately() -> None:
    inputs = keras.Input((6,), dtype="int32")
    x = kl.Embedding(20, 16)(inputs)
    for number in range(3):
        x = encoder(x, number)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling1D()(x)))
    for name in ("mha_1", "down_2"):
        layer = model.get_layer(name)
        layer.set_weights([weight * 1e-3 for weight in layer.get_weights()])
    rng = np.random.default_rng(0)
    data = rng.integers(0, 20, (16, 6)), rng.integers(0, 2, 16)
    for importance in ("l2", "activation", "taylor"):
        small, report = tfprune.shrink(
            model, {"blocks": 1 / 3}, importance=importance, data=data, loss=LOSS
        )
        assert report.error <= 1e-5
        assert report.exact
        if importance != "l2":  # which sees the input kernels too
            assert [b.layers[1] for b in report.blocks if b.removed] == ["mha_1", "up_2"]
        np.testing.assert_allclose(
            small(data[0]), without_branches(model, removed(report), data[0]), atol=1e-5
        )


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    count=st.integers(1, 5),
    share=st.floats(0.05, 1.0),
    importance=st.sampled_from(["l1", "l2", "random"]),
    norm=st.booleans(),
)
def test_the_model_is_verified_for_any_removed_blocks(count, share, importance, norm) -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(count)
    model = deep(count, norm=norm)
    small, report = tfprune.shrink(model, {"blocks": share}, importance=importance, seed=count)
    assert len(removed(report)) == max(round(share * count), 1)
    assert report.error <= 1e-5
    data = LABELLED[0][:3]
    np.testing.assert_allclose(
        small(data), without_branches(model, removed(report), data), atol=1e-5
    )


def _shares():
    """Each application by one share in a slow test, and by the other in an exhaustive one."""
    for place, name in enumerate(
        ["ResNet50", "ConvNeXtTiny", "EfficientNetB0", "MobileNetV2", "InceptionResNetV2"]
    ):
        for number, share in enumerate((0.25, 0.75)):
            mark = pytest.mark.slow if place % 2 == number else pytest.mark.exhaustive
            yield pytest.param(name, share, marks=mark)


@pytest.mark.parametrize(("name", "share"), list(_shares()))
def test_blocks_of_applications_are_removed(name: str, share: float, tmp_path: Path) -> None:
    side = 96 if name == "InceptionResNetV2" else 64
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3))
    can = sum(block.removable for block in tfprune.units(model).blocks)
    small, report = tfprune.shrink(model, {"blocks": share})
    assert report.error <= 1e-4
    assert report.exact
    assert len(removed(report)) == round(share * can)
    assert report.after.params == small.count_params() < report.before.params
    assert report.after.macs < report.before.macs
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    data = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype("float32")
    np.testing.assert_allclose(loaded(data), small(data), atol=1e-6)
    # What is left can be cut in width like any other.
    _, narrow = tfprune.shrink(small, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert narrow.error <= 1e-4
