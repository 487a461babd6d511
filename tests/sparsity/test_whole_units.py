import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError, OptionError
from tfprune.sparsity.choices.patterns import WholeUnits, resolve_pattern
from tfprune.sparsity.masks import holds_of, prunings_of

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32") + (X[:, 1] > 0)


def mlp(seed=1):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = kl.Dense(12, name="one")(inputs)
    x = kl.ReLU()(kl.BatchNormalization(name="norm")(x))
    x = kl.Dense(8, activation="relu", name="two")(x)
    model = keras.Model(inputs, kl.Dense(3, name="out")(x))
    model.compile(keras.optimizers.Adam(0.01),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # fmt: skip
    return model


def ramp(final=0.5, end=12):
    return tfprune.PolynomialDecay(0.0, final, 0, end, frequency=3)


def closed(model, name="one"):
    kernel = model.get_layer(name).kernel.numpy()
    return np.flatnonzero(~kernel.any(axis=0)).tolist()


def fit(model, epochs, *callbacks):
    return model.fit(X, Y, epochs=epochs, batch_size=16, verbose=0, shuffle=False,
                     callbacks=[tfprune.UpdatePruningStep(), *callbacks])  # fmt: skip


def test_patterns_by_name() -> None:
    assert resolve_pattern("channel") == WholeUnits("channel")
    assert resolve_pattern(WholeUnits("head")) == WholeUnits("head")
    with pytest.raises(OptionError, match="expected 'channel' or 'head'. Received 'row'"):
        WholeUnits("row")
    with pytest.raises(OptionError, match=r"'channel\(3\)'"):
        resolve_pattern("channel(3)")


def test_the_schedule_closes_more_units_over_time_and_opens_none() -> None:
    model = tfprune.prune(mlp(), 0.75, pattern="channel", schedule=ramp(0.75))
    seen = [closed(model)]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(closed(model))

    fit(model, 4, Watch())
    counts = [len(units) for units in seen]
    assert counts[0] == 0
    assert counts[-1] == 9
    assert len(set(counts)) > 3
    for before, after in itertools.pairwise(seen):
        assert set(before) <= set(after)
    assert all(hold.revived == 0 for hold in holds_of(model))


@pytest.mark.parametrize(
    "options",
    [{"jit_compile": True}, {"steps_per_execution": 2}, {"run_eagerly": True}],
    ids=str,
)
def test_biases_gammas_and_betas_are_held_in_the_compiled_step(options) -> None:
    model = mlp()
    tfprune.prune(model, 0.5, pattern="channel")
    model.compile("adam", model.loss, **options)
    fit(model, 2)
    dead = closed(model)
    assert len(dead) == 6
    norm = model.get_layer("norm")
    for weight in (model.get_layer("one").bias, norm.gamma, norm.beta):
        assert not weight.numpy()[dead].any()
        assert weight.numpy().any()


def test_the_units_with_the_largest_scores_are_kept() -> None:
    model = mlp()
    kernel = np.ones((6, 12)) * np.arange(1, 13)
    model.get_layer("one").set_weights([kernel, np.zeros(12)])
    tfprune.prune(model, 0.5, pattern="channel", only="one")
    assert closed(model) == [0, 1, 2, 3, 4, 5]
    assert closed(model, "two") == []


def test_ties_keep_the_lower_index() -> None:
    model = mlp()
    model.get_layer("one").set_weights([np.ones((6, 12)), np.zeros(12)])
    tfprune.prune(model, 0.5, pattern="channel", only="one")
    assert closed(model) == [6, 7, 8, 9, 10, 11]


def test_the_table_and_the_masks_as_a_file(tmp_path: Path) -> None:
    model = tfprune.prune(mlp(), 0.5, pattern="channel")
    table = tfprune.sparsity_of(model)
    assert table["one/kernel"].sparsity == 0.5
    assert table["out/kernel"].zeros == 0
    assert any(entry.layer == "out" for entry in table.skipped)
    path = tfprune.save_masks(model, tmp_path / "masks.npz")
    other = tfprune.load_masks(mlp(seed=5), path)
    assert closed(other) == closed(model)
    fit_plain = other.fit(X, Y, epochs=1, verbose=0)
    assert np.isfinite(fit_plain.history["loss"][0])
    tfprune.strip_pruning(other)
    small, report = tfprune.shrink(other, "zeros")
    assert report.error <= 1e-5
    assert (small.get_layer("one").units, small.get_layer("two").units) == (6, 4)


@pytest.mark.parametrize("score", ["magnitude", "random"])
@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one(score, tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def start():
        return tfprune.prune(mlp(), 0.5, pattern="channel", score=score, schedule=ramp())

    whole = start()
    fit(whole, 5)
    broken = start()
    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(broken, 5, keras.callbacks.BackupAndRestore(backup), Stop())
    again = start()
    fit(again, 5, keras.callbacks.BackupAndRestore(backup))
    assert closed(again) == closed(whole)
    for one, other in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_stripping_removes_all_masks() -> None:
    model = tfprune.prune(mlp(), 0.5, pattern="channel")
    assert len(holds_of(model)) == 6  # two kernels, two biases, gamma and beta
    tfprune.strip_pruning(model)
    assert holds_of(model) == []
    assert prunings_of(model) == []
    assert len(closed(model)) == 6


def test_a_part_of_a_model_is_refused_and_nothing_is_held() -> None:
    model = mlp()
    with pytest.raises(ModelError, match="pattern 'channel' needs the whole model.*keras.Dense"):
        tfprune.prune(model.get_layer("one"), 0.5, pattern="channel")
    with pytest.raises(ModelError, match="needs the whole model"):
        tfprune.prune(model.layers[1:3], 0.5, pattern="channel")
    with pytest.raises(ModelError, match="is not built"):
        tfprune.prune(keras.Sequential([kl.Dense(3)]), 0.5, pattern="channel")
    with pytest.raises(OptionError, match="prune_oneshot: pattern 'channel' closes units over"):
        tfprune.prune_oneshot(model, X, 0.5, pattern="channel")
    assert holds_of(model) == []


def test_in_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    tfprune.prune(model, 0.5, pattern="channel", schedule=ramp(end=6))
    fit(model, 2)
    _, report = tfprune.shrink(tfprune.strip_pruning(model), "zeros")
    assert report.error <= 1e-4
    assert [change.after for change in report.groups] == [6, 4]
