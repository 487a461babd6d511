"""Silent errors and wrong refusals of tensorflow-model-optimization.

Each test first shows the peer's answer, from `peer/probes.py`, then that ours is right.
"""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tfprune.errors import ModelError, ScheduleWarning
from tfprune.sparsity.choices.selection import keep_count
from tfprune.sparsity.masks import holds_of, prunings_of

pytestmark = pytest.mark.peer

PROBES = Path(__file__).parent / "peer" / "probes.py"
X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
Y = np.random.default_rng(1).standard_normal((64, 1)).astype("float32")


@pytest.fixture(scope="module")
def peer():
    done = subprocess.run(
        [sys.executable, str(PROBES)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def dense(units: int = 10) -> keras.Model:
    layers = [keras.Input((8,)), keras.layers.Dense(units), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def every_step(target: float = 0.5, begin: int = 0) -> tfprune.ConstantSparsity:
    return tfprune.ConstantSparsity(target, begin, frequency=1)


def fit(model: keras.Model, epochs: int = 2, before=(), after=(), **options) -> keras.Model:
    """Train 8 steps an epoch."""
    model.compile("adam", "mse", **options)
    callbacks = [*before, tfprune.UpdatePruningStep(), *after]
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


def assert_pruned(model: keras.Model, sparsity: float) -> None:
    rows = list(tfprune.sparsity_of(model))
    assert rows
    for row in rows:
        assert row.size - row.zeros == keep_count(row.size, sparsity), row


@pytest.mark.parametrize("name", ["lstm", "attention"])
@pytest.mark.slow
def test_implicit_masks_reach_the_layer_behind(peer, name) -> None:
    assert peer["implicit_masks"][name] > 1e-4
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    x = keras.Input((4,), dtype="int32")
    h = keras.layers.Embedding(5, 4, mask_zero=True)(x)
    layer = keras.layers.LSTM(3) if name == "lstm" else keras.layers.MultiHeadAttention(2, 3)
    y = layer(h) if name == "lstm" else layer(h, h)
    model = keras.Model(x, y)
    before = model(ids).numpy()
    tfprune.prune_low_magnitude(model, every_step(begin=100))
    np.testing.assert_array_equal(model(ids).numpy(), before)
    np.testing.assert_array_equal(tfprune.strip_pruning(tfprune.prune(model, 0.0))(ids), before)


@pytest.mark.slow
def test_the_default_frequency_prunes_in_a_short_training(peer) -> None:
    assert peer["default_frequency"] == {"constant": 0.0, "polynomial": 0.0}
    constant = tfprune.ConstantSparsity(0.5, 0)
    assert_pruned(fit(tfprune.prune_low_magnitude(dense(), constant)), 0.5)
    polynomial = tfprune.PolynomialDecay(0.0, 0.8, 0, 16)
    assert_pruned(fit(tfprune.prune_low_magnitude(dense(), polynomial)), 0.8)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (tfprune.ConstantSparsity(0.5, 17), r"begin_step=17.* never fires: .* ends at step 16"),
        (tfprune.PolynomialDecay(0.0, 0.8, 0, 99), r"end_step=99.* never prunes anything"),
        (tfprune.PolynomialDecay(0.0, 0.8, 0, 20, frequency=10), r"end_step=20.* ends at 0\.7 of"),
    ],
)
def test_a_training_too_short_for_its_schedule_is_warned_of_before_it_begins(
    schedule, message
) -> None:
    started = []
    note = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: started.append(epoch))
    with pytest.raises(ScheduleWarning, match=message):
        fit(tfprune.prune_low_magnitude(dense(), schedule), before=[note])
    assert started == []


def test_the_target_is_reached_where_the_frequency_does_not_divide(peer) -> None:
    assert peer["missed_target"] < 0.79
    schedule = tfprune.PolynomialDecay(0.0, 0.8, 0, 15, frequency=10)
    assert_pruned(fit(tfprune.prune_low_magnitude(dense(), schedule)), 0.8)


def test_a_shared_layer_advances_once_a_step(peer) -> None:
    assert peer["shared_layer"] == 16
    layer = tfprune.prune_low_magnitude(keras.layers.Dense(8), every_step())
    x = keras.Input((8,))
    model = keras.Model(x, keras.layers.Dense(1)(layer(layer(x))))
    fit(model, epochs=1)
    (pruning,) = prunings_of(model)
    assert pruning.step == 8
    assert len(holds_of(model)) == 1


def test_ties_are_pruned(peer) -> None:
    assert peer["ties"] == 0.0
    layers = [keras.Input((8,)), keras.layers.Dense(1, kernel_initializer="ones")]
    model = tfprune.prune_low_magnitude(keras.Sequential(layers), every_step())
    model.compile("sgd", "mse")
    x, y = np.ones((8, 8), "float32"), np.zeros((8, 1), "float32")
    model.fit(x, y, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert_pruned(model, 0.5)
    assert model.layers[0].kernel.numpy()[:4].all()


def test_a_model_trained_without_fit_is_stripped_sparse(peer) -> None:
    assert peer["strip_after_train_on_batch"] < 0.4
    model = tfprune.prune_low_magnitude(dense(), every_step())
    model.compile("adam", "mse")
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for batch in range(5):
        model.train_on_batch(X, Y)
        callback.on_train_batch_end(batch)
        assert_pruned(model, 0.5)
    assert_pruned(tfprune.strip_pruning(model), 0.5)


@pytest.mark.parametrize("place", ["before", "after", "batches"])
def test_checkpoints_are_sparse(peer, place, tmp_path) -> None:
    assert (peer["checkpoints"][place] > 0.4) == (place == "after")
    save = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.keras"), save_freq=4 if place == "batches" else "epoch"
    )
    order = {"after": [save]} if place == "after" else {"before": [save]}
    fit(tfprune.prune_low_magnitude(dense(), every_step()), epochs=1, **order)
    (saved,) = tmp_path.iterdir()
    assert_pruned(keras.saving.load_model(saved), 0.5)


def test_2_of_4_continues_after_saving_and_loading(peer, tmp_path) -> None:
    assert peer["pattern_in_config"] == {"before": "(2, 4)", "after": "None"}
    options = {"pruning_schedule": every_step(), "sparsity_m_by_n": (2, 4)}
    model = fit(tfprune.prune_low_magnitude(dense(), **options))
    masks = [hold.mask_array() for hold in holds_of(model)]
    model.save(tmp_path / "trained.keras")
    loaded = keras.saving.load_model(tmp_path / "trained.keras")
    tfprune.prune_low_magnitude(loaded, **options)
    loaded.fit(X, Y, batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    for hold, mask in zip(holds_of(loaded), masks, strict=True):
        np.testing.assert_array_equal(hold.mask_array(), mask)
    kernel = loaded.layers[0].kernel.numpy()
    assert (np.count_nonzero(kernel.reshape(2, 4, 10), axis=1) == 2).all()


def test_inference_writes_nothing(peer) -> None:
    assert peer["inference_writes"] == 0.5
    model = fit(tfprune.prune_low_magnitude(dense(), every_step()))
    kernel = model.layers[0].kernel
    kernel.assign(np.ones(kernel.shape))
    model.predict(X, verbose=0)
    model.evaluate(X, Y, verbose=0)
    assert kernel.numpy().mean() == 1.0


def test_pruning_makes_no_second_model_that_shares_the_layers(peer) -> None:
    assert peer["second_model"] == {"same": False, "zeros": 0.5}
    original = dense()
    assert tfprune.prune_low_magnitude(original, every_step()) is original
    assert "the same model" in tfprune.prune.__doc__
    assert "returned\n    themselves" in tfprune.prune_low_magnitude.__doc__


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_without_the_callback_warns_then_and_when_stripped(peer, jit_compile) -> None:
    assert "requires the UpdatePruningStep callback" in peer["no_callback"]["graph"]
    assert peer["no_callback"]["jit_compile"] == ""
    assert peer["no_callback"]["step"] == 7
    assert peer["no_callback"]["zeros"] < 0.4
    model = tfprune.prune_low_magnitude(dense(), every_step())
    model.compile("adam", "mse", jit_compile=jit_compile)
    with pytest.warns(ScheduleWarning, match="nothing advances ConstantSparsity"):
        model.fit(X, Y, batch_size=8, verbose=0)
    with pytest.warns(ScheduleWarning, match=r"never fired\. Was UpdatePruningStep\(\) among"):
        tfprune.strip_pruning(model)


def test_a_frozen_layer_keeps_the_weights_that_stay(peer) -> None:
    assert peer["frozen_layer"]["zeros"] == 0.5
    model = dense()
    model.layers[0].trainable = False
    before = model.layers[0].kernel.numpy()
    fit(tfprune.prune_low_magnitude(model, every_step(), strict=True))
    after = model.layers[0].kernel.numpy()
    np.testing.assert_array_equal(after[after != 0], before[after != 0])
    left = dense()
    left.layers[0].trainable = False
    tfprune.prune(left, 0.5, skip=lambda kernel: not kernel.layer.trainable)
    assert left.layers[0].kernel.numpy().all()


class Block(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.layers.Dense(4)

    def build(self, shape) -> None:
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_a_layer_inside_a_custom_layer_is_pruned(peer) -> None:
    assert "requires the UpdatePruningStep callback" in peer["layer_in_custom_layer"]
    block = Block()
    tfprune.prune_low_magnitude(block.inner, every_step())
    model = keras.Sequential([keras.Input((8,)), block, keras.layers.Dense(1)])
    fit(model)
    zeros = {row.path: row.zeros for row in tfprune.sparsity_of(model)}
    assert sorted(zeros.values()) == [0, 16]
    assert_pruned(fit(tfprune.prune_low_magnitude(model, every_step())), 0.5)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = keras.layers.Dense(4), keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.hidden(x))


@pytest.mark.parametrize("built", [True, False])
def test_a_subclassed_model_is_pruned_and_stripped(peer, built) -> None:
    assert "can only prune an object of the following types" in peer["subclassed_model"]["whole"]
    assert "has no attribute 'pruning_step'" in peer["subclassed_model"]["layers"]
    assert "only supported for Sequential" in peer["subclassed_model"]["strip"]
    model = Subclassed()
    if built:
        model(X)
    fit(tfprune.prune_low_magnitude(model, every_step()))
    assert_pruned(tfprune.strip_pruning(model), 0.5)


def test_blocks_of_a_convolution(peer) -> None:
    assert "2-dimensional weights" in peer["block_on_convolution"]
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(4, 3)])
    tfprune.prune_low_magnitude(model, every_step(), block_size=(2, 2))
    assert prunings_of(model)[0].advance(0)
    kernel = model.layers[0].kernel.numpy().reshape(9, 2, 2, 2)
    blocks = np.count_nonzero(kernel.transpose(0, 2, 1, 3).reshape(18, 4), axis=1)
    assert sorted(blocks) == [0] * 9 + [4] * 9


def test_a_block_as_large_as_a_dimension(peer) -> None:
    assert "Input tensor must be rank 2" in peer["block_equal_to_a_dimension"]
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    fit(tfprune.prune_low_magnitude(model, every_step(), block_size=(4, 4)))
    assert sorted(np.count_nonzero(model.layers[0].kernel.numpy(), axis=1)) == [0] * 4 + [4] * 4


def test_a_schedule_of_ones_own_needs_no_scope_to_load_what_it_pruned(peer, tmp_path) -> None:
    assert "Unknown" in peer["custom_schedule"]

    class Mine(tfprune.PruningSchedule):
        def __call__(self, step):
            return step > 0, 0.5

        def get_config(self):
            return {"class_name": "Mine", "config": {}}

    model = fit(tfprune.prune_low_magnitude(dense(), Mine()))
    model.save(tmp_path / "mine.keras")
    assert_pruned(keras.saving.load_model(tmp_path / "mine.keras"), 0.5)


def test_keras_3_models_and_lists_are_taken(peer) -> None:
    theirs = peer["keras_3"]
    assert "keras.models.Sequential" in theirs["whole"]
    assert theirs["whole"].endswith("You passed an object of type: Sequential.")
    assert "`Layer` instance. You passed: <Dense" in theirs["list"]
    assert "Expected model to be a `keras.Model` instance but got" in theirs["strip"]
    assert theirs["zeros"] == 0.0
    model = dense()
    assert tfprune.prune_low_magnitude(list(model.layers), every_step()) == model.layers
    fit(model)
    assert_pruned(tfprune.strip_pruning(model), 0.5)


def test_the_callback_without_anything_pruned_is_an_error(peer) -> None:
    assert peer["keras_3"]["zeros"] == 0.0
    with pytest.raises(ModelError, match="nothing of the model 'sequential.*' is pruned"):
        fit(dense())


class MyDense(keras.layers.Dense):
    pass


LAYERS = {
    "subclass": (lambda x: MyDense(4)(x), 1),
    "Rescaling": (lambda x: keras.layers.Rescaling(2.0)(x), 0),
    "Normalization": (lambda x: keras.layers.Normalization(mean=0.0, variance=1.0)(x), 0),
    "Bidirectional": (lambda x: keras.layers.Bidirectional(keras.layers.LSTM(2))(sequence(x)), 4),
    "TimeDistributed": (
        lambda x: keras.layers.TimeDistributed(keras.layers.Dense(2))(sequence(x)),
        1,
    ),
    "EinsumDense": (lambda x: keras.layers.EinsumDense("ab,bc->ac", output_shape=4)(x), 1),
    "Attention": (lambda x: keras.layers.Attention()([sequence(x)] * 2), 0),
    "PReLU": (lambda x: keras.layers.PReLU()(x), 0),
    "Conv1DTranspose": (lambda x: keras.layers.Conv1DTranspose(2, 2)(sequence(x)), 1),
    "ConvLSTM2D": (
        lambda x: keras.layers.ConvLSTM2D(2, 1)(keras.layers.Reshape((2, 2, 2, 1))(x)),
        2,
    ),
    "GroupNormalization": (lambda x: keras.layers.GroupNormalization(2)(x), 0),
    "SpectralNormalization": (
        lambda x: keras.layers.SpectralNormalization(keras.layers.Dense(2))(x),
        1,
    ),
    "tf op": (lambda x: keras.ops.relu(x) * 2.0, 0),
}


def sequence(x):
    return keras.layers.Reshape((4, 2))(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_the_peer_refuses(peer, name) -> None:
    assert "Please initialize `Prune` with a supported layer" in peer["unsupported_layers"][name]
    make, kernels = LAYERS[name]
    x = keras.Input((8,))
    head = keras.layers.Dense(1, name="head")
    model = keras.Model(x, head(keras.layers.Flatten()(make(x))))
    tfprune.prune_low_magnitude(model, every_step(), strict=True)
    assert len(holds_of(model)) == kernels + 1
    fit(model, epochs=1)
    assert_pruned(tfprune.strip_pruning(model), 0.5)


@pytest.mark.slow
def test_importing_and_pruning_change_neither_tf_keras_nor_the_environment(peer) -> None:
    before, after = peer["side_effects"]["before"], peer["side_effects"]["after"]
    assert (before[1], after[1]) == (None, "1")
    touched = "_ = tf.keras.layers\n"
    for first in ("", touched):
        script = f"""
import os, tensorflow as tf
{first}
environment = dict(os.environ)
import tfprune, tf_keras
model = tf_keras.Sequential([tf_keras.Input((8,)), tf_keras.layers.Dense(1)])
model = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0, frequency=1))
tfprune.strip_pruning(model)
assert {{k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}} == environment
print(tf.keras.__version__)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == keras.__version__


@pytest.mark.parametrize("part", ["model", "layer", "list"])
def test_a_part_pruned_after_the_whole_was_trained_is_held(part) -> None:
    """The step of the whole has been compiled without the masks of the part."""
    inner = dense()
    model = keras.Sequential([keras.Input((8,)), inner])
    model.compile("adam", "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    parts = {"model": inner, "layer": inner.layers[0], "list": inner.layers}
    tfprune.prune(parts[part], 0.5)
    zeros = {row.path: row.zeros for row in tfprune.sparsity_of(model)}
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert {row.path: row.zeros for row in tfprune.sparsity_of(model)} == zeros
    assert sum(zeros.values()) == (40 if part == "layer" else 45)


def test_eager_training_follows_the_schedule(model, data) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tfprune.prune_low_magnitude(model, every_step())
    model.compile("adam", loss, run_eagerly=True)
    model.fit(*data, batch_size=32, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert tf.executing_eagerly()
    assert_pruned(model, 0.5)
