from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets

import tfprune
from tfprune.errors import DataError, FilterError, ModelError, OptionError
from tfprune.sparsity.choices.patterns import KeepOf
from tfprune.sparsity.choices.selection import keep_count
from tfprune.sparsity.masks import holds_of
from tfprune.sparsity.oneshot import work

L = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((40, 8, 8, 4)).astype("float32")
TOKENS = RNG.integers(1, 30, (40, 7)).astype("int32")


def convnet() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 4))
    h = L.Conv2D(16, 3, padding="same", activation="relu", name="stem")(x)
    h = L.BatchNormalization(name="norm")(h)
    branch = L.Conv2D(16, 3, padding="same", groups=4, use_bias=False, name="grouped")(h)
    h = L.Add()([h, L.ReLU()(branch)])
    h = L.SeparableConv2D(12, 3, strides=2, name="separable")(h)
    inner = keras.Sequential([keras.Input((12,)), L.Dense(10, activation="relu")], name="inner")
    h = inner(L.GlobalAveragePooling2D()(h))
    return keras.Model(x, L.Dense(5, name="head")(h), name="convnet")


def transformer() -> keras.Model:
    keras.utils.set_random_seed(0)
    tokens = keras.Input((7,), dtype="int32")
    h = L.Embedding(30, 16, name="words")(tokens)
    h = L.LayerNormalization()(L.Add()([h, L.MultiHeadAttention(4, 4, name="mha")(h, h)]))
    gqa = L.GroupQueryAttention(4, 4, 2, name="gqa")
    h = L.LayerNormalization()(L.Add()([h, gqa(h, h)]))
    h = L.Bidirectional(L.LSTM(6), name="memory")(h)
    return keras.Model(tokens, L.Dense(3, name="head")(h), name="transformer")


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.shared = L.Dense(4, activation="tanh")
        self.head = L.Dense(2)

    def call(self, x: Any) -> Any:
        return self.head(self.shared(self.shared(x)))


def drift(model: Any, wanted: np.ndarray, x: np.ndarray) -> float:
    return float(np.mean((model.predict(x, verbose=0) - wanted) ** 2) / np.mean(wanted**2))


@pytest.mark.slow
@pytest.mark.parametrize(("build", "x"), [(convnet, IMAGES), (transformer, TOKENS)])
def test_counts_are_exact_and_the_outputs_stay_nearer_than_by_magnitude(
    build: Any, x: np.ndarray
) -> None:
    model = build()
    trained, wanted = model.get_weights(), model.predict(x, verbose=0)
    assert tfprune.prune_oneshot(model, x, 0.6, batch_size=16) is model
    report = tfprune.oneshot_report(model)
    for row in report:
        kernel = tfprune.sparsity_of(model)[row.path]
        assert row.zeros == kernel.zeros == kernel.size - keep_count(kernel.size, 0.6)
        assert kernel.held
        if row.method == "reconstruct":
            assert row.error <= row.magnitude_error
    mine = drift(model, wanted, x)
    tfprune.strip_pruning(model)
    model.set_weights(trained)
    skip = [entry.layer for entry in report.skipped if "/" in entry.layer]
    tfprune.prune(model, 0.6, skip=skip)
    assert mine < 0.6 * drift(model, wanted, x)


def test_every_layer_that_has_a_rule_is_reconstructed_and_the_others_are_named() -> None:
    model = tfprune.prune_oneshot(convnet(), IMAGES, 0.5)
    assert [(row.path.split("/")[0], row.method) for row in tfprune.oneshot_report(model)] == [
        (name, "reconstruct") for name in ("stem", "grouped", "separable", "inner", "head")
    ]
    report = tfprune.oneshot_report(tfprune.prune_oneshot(transformer(), TOKENS, 0.5))
    methods = {row.path: row.method for row in report}
    assert [path for path, method in methods.items() if method == "magnitude"] == [
        path for path in methods if "memory" in path
    ]
    assert len([path for path in methods if path.startswith(("mha", "gqa"))]) == 8
    assert "words/embeddings" in [entry.layer for entry in report.skipped]


def test_layers_pruned_by_magnitude_are_a_warning(caplog: Any) -> None:
    tfprune.prune_oneshot(transformer(), TOKENS, 0.5)
    assert any("memory" in message and "magnitude" in message for message in caplog.messages)


@pytest.mark.parametrize("method", ["reconstruct", "wanda"])
def test_two_of_four_in_every_kernel(method: str) -> None:
    model = tfprune.prune_oneshot(convnet(), IMAGES, 0.5, pattern="2:4", method=method)
    for hold in holds_of(model):
        kept = hold.kernel.view(hold.weights() != 0)
        scores = np.where(kept, 2.0, 1.0)
        assert np.array_equal(KeepOf(2, 4).mask(scores, 0), kept)
        # Ten inputs are two fours and a rest of two, which stays.
        assert np.count_nonzero(kept) == kept.size * (6 / 10 if kept.shape[1] == 10 else 1 / 2)


def test_blocks_are_zeroed_whole() -> None:
    model = tfprune.prune_oneshot(convnet(), IMAGES, 0.5, pattern="block(4,1)", only="stem")
    (hold,) = holds_of(model)
    blocks = hold.kernel.view(hold.mask_array()).reshape(9, 4, 16)
    assert np.all(blocks.all(axis=1) | ~blocks.any(axis=1))
    assert np.count_nonzero(blocks) == 288


def test_digits_are_classified_well_without_training() -> None:
    digits = datasets.load_digits()
    x, y = (digits.data / 16).astype("float32"), digits.target
    keras.utils.set_random_seed(0)
    layers = [L.Dense(64, activation="relu"), L.Dense(32, activation="relu"), L.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(5e-3), loss=loss)
    model.fit(x[:1300], y[:1300], batch_size=64, epochs=15, verbose=0)
    trained = model.get_weights()

    def accuracy() -> float:
        return float(np.mean(model.predict(x[1300:], verbose=0).argmax(1) == y[1300:]))

    dense = accuracy()
    tfprune.prune(model, 0.8)
    by_magnitude = accuracy()
    tfprune.strip_pruning(model)
    model.set_weights(trained)
    tfprune.prune_oneshot(model, x[:256], 0.8)
    assert dense > 0.85
    assert accuracy() > by_magnitude + 0.1
    assert accuracy() > dense - 0.1


def test_a_subclassed_model_with_a_shared_layer() -> None:
    keras.utils.set_random_seed(0)
    model = Subclassed()
    x = RNG.standard_normal((50, 4)).astype("float32")
    wanted = model(x).numpy()
    tfprune.prune_oneshot(model, x, 0.5)
    assert [row.method for row in tfprune.oneshot_report(model)] == ["reconstruct"] * 2
    assert drift(model, wanted, x) < 0.5


def test_half_of_the_weights_on_equal_inputs_are_pruned_without_error() -> None:
    x = np.repeat(RNG.standard_normal((100, 3)), 2, axis=1).astype("float32")
    model = keras.Sequential([keras.Input((6,)), L.Dense(4)])
    wanted = model.predict(x, verbose=0)
    tfprune.prune_oneshot(model, x, 0.5, pattern="1:2", damping=1e-6)
    assert drift(model, wanted, x) < 1e-9


def test_zeros_are_kept_in_training_until_masks_are_stripped() -> None:
    model = tfprune.prune_oneshot(convnet(), IMAGES, 0.7)
    masks = [hold.mask_array() for hold in holds_of(model)]
    model.compile(optimizer="adam", loss="mse")
    model.fit(IMAGES, np.zeros((40, 5)), callbacks=[tfprune.UpdatePruningStep()], verbose=0)
    for hold, mask in zip(holds_of(model), masks, strict=True):
        assert np.array_equal(hold.mask_array(), mask)
        assert not hold.weights()[~mask].any()
    stripped = tfprune.strip_pruning(model)
    assert holds_of(stripped) == []
    assert tfprune.sparsity_of(stripped).sparsity > 0.69


def test_an_earlier_compiled_step_is_not_used_again() -> None:
    model = convnet()
    model.compile(optimizer="sgd", loss="mse")
    model.fit(IMAGES, np.zeros((40, 5)), verbose=0)
    tfprune.prune_oneshot(model, IMAGES, 0.5)
    model.fit(IMAGES, np.zeros((40, 5)), verbose=0)
    assert tfprune.sparsity_of(model).sparsity > 0.49


def test_masks_of_an_earlier_call_are_taken_over() -> None:
    model = tfprune.prune(convnet(), 0.2)
    tfprune.prune_oneshot(model, IMAGES, 0.8)
    assert all(hold.pruning.choices.schedule.final() == 0.8 for hold in holds_of(model))
    assert tfprune.sparsity_of(model).sparsity > 0.79
    tfprune.strip_pruning(model)
    assert all(hold is None for hold in [model.get_layer("head").kernel.constraint])


def test_only_and_skip_leave_other_layers_unchanged() -> None:
    model = convnet()
    before = {w.path: w.numpy() for w in model.weights}
    tfprune.prune_oneshot(model, IMAGES, 0.5, only=["stem", "head"], skip="head")
    changed = [w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])]
    assert changed == ["stem/kernel", "stem/bias"]
    reasons = {entry.layer: entry.reason for entry in tfprune.oneshot_report(model).skipped}
    assert reasons["head/kernel"] == "left out by only= or skip="


def test_a_table_gives_the_sparsity_of_each_layer() -> None:
    model = tfprune.prune_oneshot(convnet(), IMAGES, 0.5, allocation={"stem": 0.25, "head": 0.9})
    table = tfprune.sparsity_of(model)
    assert (table["stem/kernel"].zeros, table["head/kernel"].zeros) == (144, 45)
    assert table["grouped/kernel"].zeros == 0


def test_the_same_call_gives_the_same_bits() -> None:
    first, second = (tfprune.prune_oneshot(convnet(), IMAGES, 0.6).get_weights() for _ in "ab")
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_frozen_layers_are_pruned_and_state_is_left() -> None:
    model = convnet()
    model.get_layer("stem").trainable = False
    mean = model.get_layer("norm").moving_mean.numpy()
    tfprune.prune_oneshot(model, IMAGES, 0.5)
    assert tfprune.sparsity_of(model)["stem/kernel"].zeros == 288
    assert np.array_equal(model.get_layer("norm").moving_mean.numpy(), mean)


def test_half_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = convnet()
    finally:
        keras.config.set_dtype_policy("float32")
    wanted = model.predict(IMAGES, verbose=0)
    tfprune.prune_oneshot(model, IMAGES, 0.5)
    assert drift(model, wanted, IMAGES) < 0.3


def test_after_an_error_the_model_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convnet()
    before = model.get_weights()
    done = []

    def fail_later(job: Any, *rest: Any) -> Any:
        if len(done) == 2:
            raise MemoryError("no more")
        done.append(job)
        return work.prune_layer(job, *rest)

    monkeypatch.setattr("tfprune.sparsity.oneshot.prune.prune_layer", fail_later)
    with pytest.raises(MemoryError):
        tfprune.prune_oneshot(model, IMAGES, 0.5)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert holds_of(model) == []
    assert "call" not in vars(model.get_layer("stem"))


def test_progress_advances_once_a_layer() -> None:
    steps: list[float] = []

    class Task:
        def advance(self, steps_done: float = 1) -> None:
            steps.append(steps_done)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            steps.append(-1)

    class Bar:
        def task(self, name: str, total: float | None = None) -> Any:
            steps.append(total or 0)
            return Task()

    tfprune.prune_oneshot(convnet(), IMAGES, 0.5, progress=Bar())
    assert steps == [5, 1, 1, 1, 1, 1, -1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsity": 50}, OptionError, "Did you mean 0.5"),
        ({"sparsity": 1.0}, OptionError, "in range"),
        ({"method": "sparsegpt"}, OptionError, "unknown method 'sparsegpt'. Known: reconstruct"),
        ({"pattern": "2:4", "sparsity": 0.8}, OptionError, "makes 50% zeros; pass sparsity=0.5"),
        ({"pattern": "2:4", "allocation": "erk"}, OptionError, "requires allocation='uniform'"),
        ({"damping": 0}, OptionError, "damping: expected a number above 0"),
        ({"batch_size": 0}, OptionError, "batch_size: expected a whole number"),
        ({"only": "tail"}, FilterError, "only: 'tail' matches nothing"),
        ({"data": IMAGES[:0]}, DataError, "data= is empty"),
        ({"data": IMAGES * np.nan}, DataError, "NaN or infinity"),
        ({"data": IMAGES[:, :4]}, DataError, "expected a batch of shape"),
    ],
)
def test_wrong_calls_are_one_line_and_change_nothing(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = convnet()
    before = model.get_weights()
    given = {"data": IMAGES, "sparsity": 0.5} | options
    with pytest.raises(error, match=message) as caught:
        tfprune.prune_oneshot(model, **given)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert holds_of(model) == []


def test_other_objects_than_keras_3_models_are_refused() -> None:
    import tf_keras

    old = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(ModelError, match=r"Received tf_keras\S+; convert it with"):
        tfprune.prune_oneshot(old, IMAGES, 0.5)
    with pytest.raises(ModelError, match=r"expected a keras.Model. Received keras.Dense"):
        tfprune.prune_oneshot(L.Dense(2), IMAGES, 0.5)
    with pytest.raises(ModelError, match="expected a keras.Model. Received tensorflow"):
        tfprune.prune_oneshot(tf.Module(), IMAGES, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("build", "x"), [(convnet, IMAGES), (transformer, TOKENS)])
def test_weights_are_few_multiples_of_a_step_of_their_output(build: Any, x: np.ndarray) -> None:
    model = build()
    wanted = model.predict(x, verbose=0)
    tfprune.prune_oneshot(model, x, 0.6, bits=3, batch_size=16)
    report = tfprune.oneshot_report(model)
    assert report.bits == 3
    assert "3 bits" in str(report)
    for hold in holds_of(model):
        weights = hold.weights()
        assert not weights[hold.mask_array() == 0].any()
        assert report[hold.kernel.path].zeros == np.count_nonzero(weights == 0)
        view = hold.kernel.view(weights)
        for column in view.reshape(-1, view.shape[-1]).T:
            assert np.unique(np.abs(column)).size <= 4
    assert drift(model, wanted, x) < 1


def test_rounding_goes_with_reconstruction_only() -> None:
    with pytest.raises(OptionError, match="bits: expected one of"):
        tfprune.prune_oneshot(convnet(), IMAGES, 0.5, bits=5)
    with pytest.raises(OptionError, match="bits: method 'wanda' does not change the weights"):
        tfprune.prune_oneshot(convnet(), IMAGES, 0.5, bits=4, method="wanda")


def test_wide_products_are_rounded_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MAX_INPUTS", 8)
    x = RNG.standard_normal((50, 12)).astype("float32")
    model = keras.Sequential([keras.Input((12,)), L.Dense(4)])
    tfprune.prune_oneshot(model, x, 0.5, bits=2)
    for column in model.layers[0].kernel.numpy().T:
        assert np.unique(np.abs(column)).size <= 2
