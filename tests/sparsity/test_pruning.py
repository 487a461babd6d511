import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tfprune.errors import FilterError, ModelError, OptionError, ScheduleWarning
from tfprune.sparsity.masks import holds_of, prunings_of

L = keras.layers


by_hand = pytest.mark.filterwarnings(  # these steps are meant to go without the schedule
    "ignore:the model trains, but nothing advances:tfprune.errors.ScheduleWarning"
)


def zeros(model) -> dict[str, int]:
    return {row.path: row.zeros for row in tfprune.sparsity_of(model)}


def test_without_a_schedule_the_model_is_pruned_at_once_and_held(model) -> None:
    assert tfprune.prune(model, 0.75) is model
    assert zeros(model) == {"hidden/kernel": 180, "head/kernel": 45}
    assert [hold.kernel.path for hold in holds_of(model)] == ["hidden/kernel", "head/kernel"]


@pytest.mark.parametrize(
    "filters",
    [{"only": "hidden"}, {"skip": ["head"]}, {"only": lambda kernel: kernel.layer.units == 20}],
)
def test_filters(model, filters) -> None:
    tfprune.prune(model, 0.75, **filters)
    assert zeros(model) == {"hidden/kernel": 180, "head/kernel": 0}
    assert any(
        e.layer == "head/kernel" and "left out" in e.reason
        for e in tfprune.sparsity_of(model).skipped
    )


def test_a_filter_that_matches_nothing_holds_nothing(model) -> None:
    with pytest.raises(
        FilterError, match="only: 'hiden/kernel' matches nothing.*Did you mean hidden"
    ):
        tfprune.prune(model, 0.5, only="hiden/kernel")
    assert holds_of(model) == []


@pytest.mark.parametrize("allocation", ["uniform", "global", "erk", {"hidden": 0.9, "head": 0.5}])
def test_allocations_share_the_total(model, allocation) -> None:
    tfprune.prune(model, 0.8, allocation=allocation)
    total = sum(zeros(model).values())
    expected = 216 + 30 if isinstance(allocation, dict) else 240
    assert abs(total - expected) <= 1


@pytest.mark.parametrize(
    ("pattern", "sparsity", "per_column"),
    [("2:4", 0.5, 6), ("1:4", 0.75, 3), ("1:3", 0.667, 4), ("block(4,1)", 0.5, None)],
)
def test_patterns(model, pattern, sparsity, per_column) -> None:
    tfprune.prune(model, sparsity, pattern=pattern, only="hidden")
    kernel = model.get_layer("hidden").kernel.numpy()
    if per_column:
        assert (np.count_nonzero(kernel, axis=0) == per_column).all()
    else:
        blocks = kernel.reshape(3, 4, 20)
        assert set(np.count_nonzero(blocks, axis=1).ravel()) == {0, 4}


@pytest.mark.parametrize("score", ["taylor", "gradient"])
def test_scores_by_gradient(model, data, score) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tfprune.prune(model, 0.5, score=score, data=data, loss=loss)
    assert zeros(model) == {"hidden/kernel": 120, "head/kernel": 30}


def test_movement_is_gathered_in_training_and_may_revive(model, data) -> None:
    schedule = tfprune.PolynomialDecay(0.0, 0.6, 0, 20, frequency=2)
    tfprune.prune(model, 0.6, score="movement", schedule=schedule)
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    before = model.get_layer("hidden").kernel.numpy()
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    # A weight that came back is zero until the optimizer moves it, so the masks are counted.
    masked = {hold.kernel.path: np.sum(~hold.mask_array()) for hold in holds_of(model)}
    assert masked == {"hidden/kernel": 144, "head/kernel": 36}
    assert before.shape == (12, 20)
    assert tfprune.sparsity_of(model)["hidden/kernel"].revived > 0


@by_hand
def test_movement_is_the_sum_of_weight_times_update(data) -> None:
    dense = L.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((12,)), dense])
    tfprune.prune(model, 0.5, score="movement", schedule=tfprune.ConstantSparsity(0.5, 90))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    (hold,) = holds_of(model)
    hold.start_movement()
    expected = np.zeros((12, 3), np.float32)
    for _ in range(4):
        before = dense.kernel.numpy()
        model.train_on_batch(data[0], np.eye(3)[data[1]])
        expected += before * (dense.kernel.numpy() - before)
    np.testing.assert_allclose(hold.movement.numpy(), expected, rtol=1e-5, atol=1e-7)


@by_hand
def test_movement_leaves_the_scores_of_pruned_weights_as_they_were(data) -> None:
    dense = L.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((12,)), dense])
    tfprune.prune(model, 0.5, score="movement", schedule=tfprune.ConstantSparsity(0.5, 90))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    (hold,) = holds_of(model)
    hold.start_movement()
    model.train_on_batch(data[0], np.eye(3)[data[1]])
    before = hold.movement.numpy()
    prunings_of(model)[0].update(0.5)
    model.train_on_batch(data[0], np.eye(3)[data[1]])
    pruned = ~hold.mask_array()
    np.testing.assert_array_equal(hold.movement.numpy()[pruned], before[pruned])
    assert (hold.movement.numpy() != before)[~pruned].all()


def test_random_prunes_the_same_at_every_update_and_by_seed() -> None:
    def masks(seed):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((9,)), L.Dense(9, name="d")])
        tfprune.prune(model, 0.5, score="random", seed=seed)
        first = holds_of(model)[0].mask_array()
        prunings_of(model)[0].update(0.7)
        assert not (holds_of(model)[0].mask_array() & ~first).any()
        return first

    assert (masks(0) == masks(0)).all()
    assert not (masks(0) == masks(1)).all()


def test_unbuilt_layers_are_held_when_they_are_built(data) -> None:
    layers = tfprune.prune_low_magnitude([L.Dense(8, "relu"), L.BatchNormalization(), L.Dense(3)])
    model = keras.Sequential(layers)
    assert holds_of(model) == []
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert zeros(tfprune.strip_pruning(model)) == {
        path: size // 2 for path, size in zip(zeros(model), (96, 24), strict=True)
    }


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = L.Dense(8, "relu"), L.Dense(3)

    def call(self, x):
        return self.second(self.first(x))


def test_an_unbuilt_subclassed_model_is_held_when_it_is_built(data) -> None:
    model = tfprune.prune_low_magnitude(Subclassed())
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert tfprune.sparsity_of(tfprune.strip_pruning(model)).sparsity == 0.5


def test_an_unbuilt_model_cannot_be_pruned_at_once() -> None:
    with pytest.raises(ModelError, match="has no weights to prune yet; build it"):
        tfprune.prune(Subclassed(), 0.5)


def test_filters_on_an_unbuilt_model_are_checked_when_training_begins(data) -> None:
    model = Subclassed()
    tfprune.prune(model, 0.5, schedule=tfprune.ConstantSparsity(0.5, 0), only="nowhere")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(FilterError, match="only: 'nowhere' matches nothing"):
        model.fit(*data, verbose=0, callbacks=[tfprune.UpdatePruningStep()])


def test_nested_and_shared_layers(data) -> None:
    shared = L.Dense(12, "relu", name="shared")
    x = keras.Input((12,))
    inner = keras.Model(x, shared(shared(x)), name="inner")
    model = keras.Sequential([keras.Input((12,)), inner, L.Dense(3, name="head")])
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 0, 8, frequency=8)
    tfprune.prune_low_magnitude(model, schedule)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data, batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert [row.zeros for row in tfprune.sparsity_of(model)] == [72, 18]


class Odd(keras.layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 4), name="table")

    def call(self, x):
        return tf.matmul(x, self.table)


def test_strict_names_the_layers_that_cannot_be_pruned() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(3)(Odd(name="odd")(L.BatchNormalization()(x))))
    with pytest.raises(ModelError, match=r"odd \(\w+\.Odd\): its call cannot be read"):
        tfprune.prune_low_magnitude(model, strict=True)
    assert holds_of(model) == []
    tfprune.prune_low_magnitude(model)
    assert [e.layer for e in tfprune.sparsity_of(model).skipped if not e.usual] == ["odd"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: tfprune.prune(m, 80), r"sparsity must be in range \[0,1\).*Did you mean 0.8"),
        (lambda m: tfprune.prune(m, 0.5, score="magnitud"), "Did you mean magnitude"),
        (lambda m: tfprune.prune(m, 0.5, pattern="3;4"), "unknown pattern"),
        (lambda m: tfprune.prune(m, 0.5, allocation="all"), "unknown allocation"),
        (lambda m: tfprune.prune(m, 0.5, allocation={"hiden": 0.5}), "matches no kernel"),
        (lambda m: tfprune.prune(m, 0.5, score="taylor"), r"pass data=\(x, y\)"),
        (lambda m: tfprune.prune(m, 0.5, score="movement"), "pass a schedule"),
        (lambda m: tfprune.prune(m, 0.5, pattern="2:4", allocation="global"), "sets 50% zeros"),
        (lambda m: tfprune.prune(m, 0.7, pattern="2:4"),
         r"prune: pattern 2:4 makes 50% zeros; pass sparsity=0.5\. Received 0.7"),
        (lambda m: tfprune.prune(m, 0.5, schedule=tfprune.ConstantSparsity(0.8, 0)),
         "sparsity=0.5, but the schedule ends at 0.8"),
        (lambda m: tfprune.prune(m, 0.5, schedule="polynomial"), "expected a tfprune.Pruning"),
        (lambda m: tfprune.prune("model.keras"), "expected a Keras 3 model.*Received str"),
        (lambda m: tfprune.prune_low_magnitude(m, block_size=(4,)), "block_size: expected"),
        (lambda m: tfprune.prune_low_magnitude(m, block_pooling_type="SUM"), "'AVG' or 'MAX'"),
        (lambda m: tfprune.prune_low_magnitude(m, sparsity_m_by_n=(2, 4), block_size=(2, 2)),
         "exclude each other"),
        (lambda m: tfprune.prune_low_magnitude(m, sparsity_m_by_n=(4, 4)), "expected 0 < n < m"),
        (lambda m: tfprune.prune_low_magnitude(m, sparsitty=1), "unexpected argument 'sparsitty'"),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused_and_change_nothing(model, call, message: str) -> None:
    before = [w.numpy() for w in model.weights]
    with pytest.raises((OptionError, ModelError, FilterError), match=message):
        call(model)
    assert holds_of(model) == []
    for was, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(was, weight.numpy())


def test_a_failed_call_leaves_an_earlier_one_in_place(model) -> None:
    tfprune.prune(model, 0.5)
    before = holds_of(model)
    with pytest.raises(FilterError):
        tfprune.prune(model, 0.8, allocation={"hiden": 0.5})
    assert holds_of(model) == before


def test_a_model_without_kernels_is_refused() -> None:
    model = keras.Sequential([keras.Input((4,)), L.BatchNormalization()], name="plain")
    with pytest.raises(ModelError, match="'plain' has no kernel to prune"):
        tfprune.prune(model)


def test_stripping_a_schedule_that_never_pruned_warns(model) -> None:
    tfprune.prune_low_magnitude(model)
    with pytest.warns(ScheduleWarning, match="hidden/kernel, head/kernel was never pruned"):
        tfprune.strip_pruning(model)


def test_stripping_a_model_that_was_never_built_warns_and_removes_the_hooks() -> None:
    dense = tfprune.prune_low_magnitude(L.Dense(3))
    with pytest.warns(ScheduleWarning, match="which has not been built"):
        tfprune.strip_pruning(dense)
    dense(np.ones((2, 4)))
    assert holds_of(dense) == []
