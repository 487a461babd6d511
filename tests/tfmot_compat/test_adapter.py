"""`tf_keras` models through tfprune's names: pruned by tensorflow-model-optimization itself."""

import os
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfprune
from tfprune.errors import ModelError, OptionError, ScheduleWarning
from tfprune.sparsity.choices.schedules import PruningSchedule
from tfprune.tfmot_compat import adapter

X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
Y = np.random.default_rng(1).standard_normal((64, 1)).astype("float32")


def dense() -> tf_keras.Model:
    layers = tf_keras.layers
    return tf_keras.Sequential([layers.Input((8,)), layers.Dense(10), layers.Dense(1)])


def fit(model, epochs: int = 2):
    """Train 8 steps an epoch."""
    model.compile("adam", "mse")
    callbacks = [tfprune.UpdatePruningStep()]
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


def left(model) -> list[int]:
    return [int(np.count_nonzero(w.numpy())) for w in model.weights if "kernel" in w.name]


class EveryOther(PruningSchedule):
    def __call__(self, step):
        return step % 2 == 0, 0.8

    def get_config(self):
        return {"class_name": "EveryOther", "config": {}}


SCHEDULES = [
    (tfprune.ConstantSparsity(0.5, 0, frequency=1), [40, 5]),
    (tfprune.PolynomialDecay(0.0, 0.8, 0, 16, frequency=1), [16, 2]),
    (tfprune.OneShot(0.5), [40, 5]),
    (tfprune.Geometric(0.8, rounds=2, round_steps=5), [16, 2]),
    (EveryOther(), [16, 2]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "expected"), SCHEDULES)
def test_every_schedule_prunes_a_model(schedule, expected) -> None:
    wrapped = tfprune.prune_low_magnitude(dense(), schedule)
    assert isinstance(wrapped.layers[0], adapter.type_of_wrapper())
    stripped = tfprune.strip_pruning(fit(wrapped))
    assert left(stripped) == expected
    assert type(stripped.layers[0]) is tf_keras.layers.Dense


def in_files():
    """Each schedule in one form of file is a slow test, in the other an exhaustive one."""
    for place, (schedule, expected) in enumerate(SCHEDULES):
        for number, suffix in enumerate((".keras", ".h5")):
            mark = pytest.mark.slow if place % 2 == number else pytest.mark.exhaustive
            yield pytest.param(schedule, expected, suffix, marks=mark)


@pytest.mark.parametrize(("schedule", "expected", "suffix"), list(in_files()))
def test_a_saved_wrapped_model_continues_training(schedule, expected, suffix, tmp_path) -> None:
    wrapped = fit(tfprune.prune_low_magnitude(dense(), schedule))
    path = tmp_path / f"wrapped{suffix}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5", UserWarning)
        wrapped.save(path)
    with tfprune.prune_scope():
        loaded = tf_keras.models.load_model(path)
    again = loaded.layers[0].pruning_schedule
    assert again.get_config() == schedule.get_config()
    callbacks = [tfprune.UpdatePruningStep()]
    loaded.fit(X, Y, batch_size=8, verbose=0, callbacks=callbacks)
    assert int(loaded.layers[0].pruning_step) == 24
    assert left(tfprune.strip_pruning(loaded)) == expected


def test_a_ramp_that_ends_off_its_frequency_reaches_the_end() -> None:
    wrapped = tfprune.prune_low_magnitude(dense(), tfprune.PolynomialDecay(0.0, 0.8, 0, 13))
    assert left(tfprune.strip_pruning(fit(wrapped))) == [16, 2]


class FromStepThree(PruningSchedule):
    """Written for tensorflow-model-optimization, with tensors."""

    def __call__(self, step):
        return self._should_prune_in_step(step, 3, -1, 100), tf.constant(0.5)

    def get_config(self):
        return {"class_name": "FromStepThree", "config": {}}


class WithBranches(FromStepThree):
    """Written for numbers."""

    def __call__(self, step):
        if step == 3:
            return True, 0.5
        return False, 0.0


def steps_of_pruning(generation, schedule) -> list[int]:
    """Return the steps, from 1, after which the first kernel has more zeros."""
    layers = [generation.layers.Input((8,)), generation.layers.Dense(10)]
    model = tfprune.prune_low_magnitude(generation.Sequential(layers), schedule)
    model.compile("adam", "mse")
    zeros = [0]

    def count(batch, logs):
        kernel = next(w for w in model.weights if "kernel" in w.name)
        zeros.append(int((np.abs(kernel.numpy()) < 0.03).sum()) // 30)

    look = generation.callbacks.LambdaCallback(on_train_batch_end=count)
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[look, tfprune.UpdatePruningStep()])
    return [step for step in range(1, 9) if zeros[step] > zeros[step - 1]]


@pytest.mark.parametrize("kind", [FromStepThree, WithBranches])
def test_a_schedule_of_ones_own_fires_at_the_step_it_names_as_with_the_peer(kind) -> None:
    api = adapter.sparsity_api()
    theirs = type(kind.__name__, (kind, api.PruningSchedule), {})
    assert steps_of_pruning(tf_keras, kind()) == steps_of_pruning(tf_keras, theirs()) == [3]


@pytest.mark.parametrize("schedule", [SCHEDULES[0][0], SCHEDULES[1][0], FromStepThree()])
def test_a_wrapper_has_the_schedule_that_was_given(schedule) -> None:
    wrapped = tfprune.prune_low_magnitude(tf_keras.layers.Dense(4), schedule)
    assert wrapped.pruning_schedule is schedule


def test_a_compiled_step_calls_the_schedule_inside_xla() -> None:
    schedule = tfprune.PolynomialDecay(0.0, 0.8, 0, 8, frequency=3)
    model = tfprune.prune_low_magnitude(dense(), schedule)
    model.compile("adam", "mse", jit_compile=True)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert left(tfprune.strip_pruning(model)) == [16, 2]


class Cell(tf_keras.layers.SimpleRNNCell, tfprune.PrunableLayer):
    def get_prunable_weights(self):
        return [self.recurrent_kernel]


def test_recurrent_cells_name_their_weights() -> None:
    schedule = tfprune.ConstantSparsity(0.5, 0, frequency=1)
    rnn = tfprune.prune_low_magnitude(tf_keras.layers.RNN(Cell(4)), schedule, input_shape=(2, 4))
    model = tf_keras.Sequential([rnn])
    model.compile("sgd", "mse")
    model.fit(X.reshape(64, 2, 4), np.zeros((64, 4)), verbose=0,
              callbacks=[tfprune.UpdatePruningStep()])  # fmt: skip
    kernels = [w.numpy() for w in tfprune.strip_pruning(model).layers[0].cell.weights[:2]]
    assert [np.count_nonzero(kernel) for kernel in kernels] == [16, 8]


def test_variables_of_several_replicas_are_read_and_masked() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        schedule = tfprune.ConstantSparsity(0.5, 0, frequency=1)
        model = tfprune.prune_low_magnitude(dense(), schedule)
        model.compile("adam", "mse")
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    model.layers[0].layer.kernel.assign(np.ones((8, 10)))
    assert left(tfprune.strip_pruning(model)) == [40, 5]


def test_a_loop_of_ones_own_may_name_the_epoch_batch() -> None:
    model = tfprune.prune_low_magnitude(dense(), tfprune.ConstantSparsity(0.5, 0, frequency=1))
    model.compile("adam", "mse")
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(2):
        callback.on_train_batch_begin(batch=-1)
        model.train_on_batch(X, Y)
        callback.on_epoch_end(**{["batch", "epoch"][epoch]: -1})
        assert left(model) == [40, 5]


def test_layers_and_lists_are_wrapped() -> None:
    schedule = tfprune.ConstantSparsity(0.5, 0, frequency=1)
    first = tfprune.prune_low_magnitude(tf_keras.layers.Dense(10), schedule, input_shape=(8,))
    rest = tfprune.prune_low_magnitude([tf_keras.layers.Dense(1)], schedule)
    assert left(tfprune.strip_pruning(fit(tf_keras.Sequential([first, *rest])))) == [40, 5]


def test_options_reach_the_peer() -> None:
    wrapped = tfprune.prune_low_magnitude(dense(), block_size=(2, 1), block_pooling_type="MAX")
    layer = wrapped.layers[0]
    assert (layer.block_size, layer.block_pooling_type) == ((2, 1), "MAX")
    wrapped = tfprune.prune_low_magnitude(dense(), sparsity_m_by_n=(2, 4))
    assert left(tfprune.strip_pruning(fit(wrapped))) == [40, 6]


class FirstOnly(tfprune.PruningPolicy):
    def allow_pruning(self, layer):
        return layer.units == 10

    def ensure_model_supports_pruning(self, model):
        assert len(model.layers) == 2


def test_policies_reach_the_peer() -> None:
    schedule = tfprune.ConstantSparsity(0.5, 0, frequency=1)
    wrapped = tfprune.prune_low_magnitude(dense(), schedule, pruning_policy=FirstOnly())
    assert left(tfprune.strip_pruning(fit(wrapped))) == [40, 10]
    with pytest.raises(ValueError, match="Could not find `Conv2D 3x3` layer"):
        tfprune.prune_low_magnitude(
            dense(), schedule, pruning_policy=tfprune.PruneForLatencyOnXNNPack()
        )


class Table(tf_keras.layers.Layer, tfprune.PrunableLayer):
    def build(self, shape):
        self.table = self.add_weight(name="table", shape=(8, 4), initializer="normal")

    def call(self, x):
        return x @ self.table

    def get_prunable_weights(self):
        return [self.table]


def test_a_prunable_layer_is_pruned() -> None:
    layers = [tf_keras.layers.Input((8,)), Table(), tf_keras.layers.Dense(1)]
    schedule = tfprune.ConstantSparsity(0.5, 0, frequency=1)
    wrapped = fit(tfprune.prune_low_magnitude(tf_keras.Sequential(layers), schedule))
    assert np.count_nonzero(tfprune.strip_pruning(wrapped).layers[0].table.numpy()) == 16


def test_strip_pruning_applies_the_masks() -> None:
    wrapped = tfprune.prune_low_magnitude(dense(), tfprune.ConstantSparsity(0.5, 0, frequency=1))
    wrapped.compile("adam", "mse")
    callback = tfprune.UpdatePruningStep()
    callback.set_model(wrapped)
    callback.on_train_begin()
    for _ in range(5):
        wrapped.train_on_batch(X, Y)
    assert left(wrapped) != [40, 5]
    assert left(tfprune.strip_pruning(wrapped)) == [40, 5]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (tfprune.ConstantSparsity(0.5, 0), "never fires: .*step 16"),
        (tfprune.PolynomialDecay(0.0, 0.8, 0, 99, frequency=20), "never fires"),
        (tfprune.PolynomialDecay(0.0, 0.8, 0, 30, frequency=10), r"ends at 0\.563 of 0\.8"),
        (
            adapter.sparsity_api().PolynomialDecay(0.0, 0.8, 0, 16, frequency=10),
            r"ends at 0\.758 of 0\.8.*every `frequency` steps",
        ),
        (tfprune.Geometric(0.8, rounds=2, round_steps=20), "of 0.8: this training ends at step 16"),
    ],
)
def test_a_training_too_short_for_its_schedule_warns(schedule, message) -> None:
    with pytest.raises(ScheduleWarning, match=message):
        fit(tfprune.prune_low_magnitude(dense(), schedule))


def pruned() -> tf_keras.Model:
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 0, 12, frequency=4)
    return tfprune.prune_low_magnitude(dense(), schedule)


def test_a_training_that_is_stopped_early_warns() -> None:
    model = pruned()
    stop = tf_keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", batch == 5)
    )
    model.compile("adam", "mse")
    with pytest.warns(ScheduleWarning, match="training ends at step 6"):
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0,
                  callbacks=[tfprune.UpdatePruningStep(), stop])  # fmt: skip


@pytest.mark.parametrize("frequency", [None, 5])
def test_the_averages_that_an_optimizer_ends_with_have_the_zeros(frequency) -> None:
    model = pruned()
    optimizer = tf_keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=frequency)
    model.compile(optimizer, "mse")
    callbacks = [tfprune.UpdatePruningStep()]
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    assert left(model) == [40, 5]


def test_weights_restored_at_the_end_of_training_are_masked_with_a_warning() -> None:
    model = pruned()
    before = model.layers[0].layer.kernel.numpy()
    restore = tf_keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: model.layers[0].layer.kernel.assign(before)
    )
    model.compile("adam", "mse")
    with pytest.warns(ScheduleWarning, match="pruned weights of dense.* back to zero"):
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0,
                  callbacks=[restore, tfprune.UpdatePruningStep()])  # fmt: skip
    assert left(model) == [40, 5]


def test_stripping_warns_of_a_schedule_that_never_pruned() -> None:
    wrapped = tfprune.prune_low_magnitude(dense(), tfprune.ConstantSparsity(0.5, 100))
    with pytest.warns(ScheduleWarning, match="dense.*, dense.* was never pruned: .*never fired"):
        tfprune.strip_pruning(wrapped)


class Block(tf_keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        schedule = tfprune.ConstantSparsity(0.5, 0, frequency=1)
        self.inner = tfprune.prune_low_magnitude(tf_keras.layers.Dense(4), schedule)

    def build(self, shape) -> None:
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_wrappers_inside_a_custom_layer_are_found() -> None:
    block = Block()
    fit(tf_keras.Sequential([tf_keras.layers.Input((8,)), block, tf_keras.layers.Dense(1)]))
    assert np.count_nonzero(block.inner.layer.kernel.numpy()) == 16


class Subclassed(tf_keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def call(self, x):
        return self.block(x)


def test_a_subclassed_model_is_built_first_and_not_stripped() -> None:
    model = Subclassed()
    with pytest.raises(ModelError, match="has no weights yet; build the model first"):
        fit(model)
    model(X)
    fit(model)
    assert np.count_nonzero(model.block.inner.layer.kernel.numpy()) == 16
    with pytest.raises(ModelError, match=r"Received .*Subclassed"):
        tfprune.strip_pruning(model)


def test_the_callback_without_anything_pruned_is_an_error() -> None:
    with pytest.raises(ModelError, match="nothing of the model 'sequential.*' is pruned"):
        fit(dense())


def test_no_schedule_is_one_line() -> None:
    with pytest.raises(OptionError, match="expected a tfprune.PruningSchedule. Received float"):
        tfprune.prune_low_magnitude(dense(), 0.5)


def test_summaries_are_written_for_tensorboard(tmp_path) -> None:
    wrapped = tfprune.prune_low_magnitude(dense(), tfprune.ConstantSparsity(0.5, 0, frequency=1))
    wrapped.compile("adam", "mse")
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(str(tmp_path))]
    wrapped.fit(X, Y, verbose=0, callbacks=callbacks)
    tags = set()
    for path in tmp_path.glob("metrics/*"):
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            event = tf.compat.v1.Event.FromString(record)
            tags |= {value.tag for value in event.summary.value}
    assert any(tag.endswith("mask:0/sparsity") for tag in tags)


SCRIPT = """
import tfprune as sparsity

pruning_params = {
    "pruning_schedule": sparsity.PolynomialDecay(
        initial_sparsity=0.2, final_sparsity=0.8, begin_step=1, end_step=13, frequency=3
    ),
    "block_size": (1, 1),
    "block_pooling_type": "AVG",
}
model = keras.Sequential([
    keras.layers.InputLayer((8,)),
    keras.layers.Dense(10, activation="relu"),
    sparsity.prune_low_magnitude(
        keras.layers.Dense(10), sparsity.ConstantSparsity(0.5, begin_step=2, frequency=2)
    ),
    keras.layers.Dense(1),
])
model = sparsity.prune_low_magnitude(model, **pruning_params)
model.compile("adam", "mse")
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[
    sparsity.UpdatePruningStep(), sparsity.PruningSummaries(log_dir=log_dir)
])
model.save(f"{log_dir}/pruned.keras")
with sparsity.prune_scope():
    loaded = keras.models.load_model(f"{log_dir}/pruned.keras")
stripped = sparsity.strip_pruning(loaded if keras.__name__ == "tf_keras" else model)
stripped.save(f"{log_dir}/stripped.keras")
kept = [int((w != 0).sum()) for w in
        keras.models.load_model(f"{log_dir}/stripped.keras").get_weights()[::2]]
"""


LOOP = """
import tensorflow as tf
import tfprune as sparsity

class WithBias(keras.layers.Dense, sparsity.PrunableLayer):
    def get_prunable_weights(self):
        return [self.kernel, self.bias]

half = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=1)
assert half(tf.constant(3))[1].numpy() == half(3)[1].numpy() == 0.5
first = WithBias(10, bias_initializer="normal")
model = keras.Sequential([
    sparsity.prune_low_magnitude(first, half, input_shape=(8,)),
    sparsity.prune_low_magnitude(keras.layers.Dense(1), half, block_size=[1, 1]),
])
assert all(layer.pruning_schedule is half for layer in model.layers)
optimizer = keras.optimizers.Adam()
model.optimizer = optimizer
step_callback = sparsity.UpdatePruningStep()
step_callback.set_model(model)
log_callback = sparsity.PruningSummaries(log_dir=log_dir)
log_callback.set_model(model)
step_callback.on_train_begin()
for _ in range(2):
    log_callback.on_epoch_begin(epoch=-1)
    for _ in range(3):
        step_callback.on_train_batch_begin(batch=-1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
    step_callback.on_epoch_end(batch=-1)
model = sparsity.strip_pruning(model)
kept = [int((w != 0).sum()) for w in model.get_weights()[:3]]
"""


@pytest.mark.parametrize("generation", [tf_keras, keras])
def test_a_loop_for_the_peer_runs_with_only_its_import_changed(generation, tmp_path) -> None:
    names = {"keras": generation, "x": X, "y": Y, "log_dir": str(tmp_path)}
    exec(LOOP, names)
    assert names["kept"] == [40, 5, 5]
    assert list(tmp_path.glob("metrics/*"))


@pytest.mark.slow
@pytest.mark.parametrize("generation", [tf_keras, keras])
def test_a_script_for_the_peer_runs_with_only_its_import_changed(generation, tmp_path) -> None:
    names = {"keras": generation, "x": X, "y": Y, "log_dir": str(tmp_path)}
    exec(SCRIPT, names)
    assert names["kept"] == [16, 50, 2]


def test_the_environment_and_tf_keras_are_not_changed() -> None:
    adapter.sparsity_api()
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert tf.keras.__version__ == keras.__version__
