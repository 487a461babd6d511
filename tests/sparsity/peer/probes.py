"""Ask tensorflow-model-optimization what it does where it errs; print the answers as JSON.

Runs in a process of its own. Every probe returns plain numbers or strings; what raises on the
peer is answered by the message of its error.
"""

import json
import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

_ = tf.keras.layers  # Touched first: stays Keras 3.
BEFORE = (tf.keras.__version__, os.environ.get("TF_USE_LEGACY_KERAS"))
import keras  # noqa: E402 - after tf.keras was touched
import tensorflow_model_optimization as tfmot  # noqa: E402 - so is this
import tf_keras  # noqa: E402 - and this

api = tfmot.sparsity.keras
layers = tf_keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 8)).astype("float32")
Y = RNG.standard_normal((64, 1)).astype("float32")
PROBES = {}


def probe(function):
    PROBES[function.__name__] = function
    return function


def message(call) -> str:
    """Return the message of the error that a call ends in, or nothing if it does not."""
    try:
        call()
    except (ValueError, TypeError, AttributeError, tf.errors.InvalidArgumentError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def dense(units: int = 10):
    return tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(units), layers.Dense(1)])


def every_step(target: float = 0.5, begin: int = 0):
    return api.ConstantSparsity(target, begin, frequency=1)


def fit(model, epochs: int = 2, callbacks=(), **options):
    """Train 8 steps an epoch."""
    model.compile("adam", "mse", **options)
    found = [api.UpdatePruningStep(), *callbacks] if not isinstance(callbacks, list) else callbacks
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=found)
    return model


def zeros(array) -> float:
    return float(np.mean(np.asarray(array) == 0))


def kernel_zeros(model) -> float:
    return zeros(np.concatenate([w.numpy().ravel() for w in model.weights if "kernel" in w.name]))


@probe
def implicit_masks():
    differences = {}
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    for name in ("lstm", "attention"):
        x = tf_keras.Input((4,), dtype="int32")
        h = layers.Embedding(5, 4, mask_zero=True)(x)
        y = layers.LSTM(3)(h) if name == "lstm" else layers.MultiHeadAttention(2, 3)(h, h)
        plain = tf_keras.Model(x, y)
        before = plain(ids).numpy()
        wrapped = api.prune_low_magnitude(plain, every_step(begin=100))
        differences[name] = float(abs(wrapped(ids).numpy() - before).max())
    return differences


@probe
def default_frequency():
    return {
        "constant": kernel_zeros(
            fit(api.prune_low_magnitude(dense(), api.ConstantSparsity(0.5, 0)))
        ),
        "polynomial": kernel_zeros(
            fit(api.prune_low_magnitude(dense(), api.PolynomialDecay(0.0, 0.8, 0, 16)))
        ),
    }


@probe
def missed_target():
    schedule = api.PolynomialDecay(0.0, 0.8, 0, 15, frequency=10)
    return kernel_zeros(fit(api.prune_low_magnitude(dense(), schedule)))


@probe
def shared_layer():
    layer = api.prune_low_magnitude(layers.Dense(8), every_step())
    x = tf_keras.Input((8,))
    model = tf_keras.Model(x, layers.Dense(1)(layer(layer(x))))
    fit(model, epochs=1)
    return int(layer.pruning_step)


@probe
def ties():
    model = tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(1, kernel_initializer="ones")])
    wrapped = api.prune_low_magnitude(model, every_step())
    wrapped.compile("sgd", "mse")
    x, y = np.ones((8, 8), "float32"), np.zeros((8, 1), "float32")
    wrapped.fit(x, y, verbose=0, callbacks=[api.UpdatePruningStep()])
    return kernel_zeros(wrapped)


@probe
def strip_after_train_on_batch():
    model = api.prune_low_magnitude(dense(), every_step())
    model.compile("adam", "mse")
    callback = api.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for _ in range(5):
        model.train_on_batch(X, Y)
    return kernel_zeros(api.strip_pruning(model))


@probe
def checkpoints():
    found = {}
    for name in ("before", "after", "batches"):
        with tempfile.TemporaryDirectory() as folder:
            path = (
                f"{folder}/{{epoch}}.weights.h5" if name != "batches" else f"{folder}/b.weights.h5"
            )
            freq = 4 if name == "batches" else "epoch"
            save = tf_keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=freq)
            step = api.UpdatePruningStep()
            model = api.prune_low_magnitude(dense(), every_step())
            fit(model, epochs=1, callbacks=[save, step] if name != "after" else [step, save])
            saved = api.prune_low_magnitude(dense(), every_step())
            saved.load_weights(os.path.join(folder, sorted(os.listdir(folder))[-1]))
            found[name] = kernel_zeros(saved)
    return found


@probe
def pattern_in_config():
    wrapped = api.prune_low_magnitude(layers.Dense(4), every_step(), sparsity_m_by_n=(2, 4))
    with api.prune_scope():
        again = layers.deserialize(layers.serialize(wrapped))
    return {"before": str(wrapped.sparsity_m_by_n), "after": str(again.sparsity_m_by_n)}


@probe
def inference_writes():
    model = fit(api.prune_low_magnitude(dense(), every_step()))
    kernel = next(w for w in model.trainable_weights if "kernel" in w.name)
    kernel.assign(tf.ones_like(kernel))
    model.predict(X, verbose=0)
    return float(kernel.numpy().mean())


@probe
def second_model():
    original = dense()
    before = original.get_weights()[0].copy()
    fit(api.prune_low_magnitude(original, every_step()))
    return {"same": bool(np.array_equal(original.get_weights()[0], before)),
            "zeros": zeros(original.get_weights()[0])}  # fmt: skip


@probe
def no_callback():
    model = api.prune_low_magnitude(dense(), every_step())
    without = message(lambda: fit(api.prune_low_magnitude(dense(), every_step()), callbacks=[]))
    compiled = message(lambda: fit(model, epochs=1, callbacks=[], jit_compile=True))
    return {"graph": without, "jit_compile": compiled, "zeros": kernel_zeros(model),
            "step": int(model.layers[0].pruning_step)}  # fmt: skip


@probe
def frozen_layer():
    model = dense()
    model.layers[0].trainable = False
    wrapped = fit(api.prune_low_magnitude(model, every_step()))
    return {"zeros": zeros(wrapped.get_weights()[0])}


class Block(layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = api.prune_low_magnitude(layers.Dense(4), every_step())

    def build(self, shape):
        self.inner.build(shape)
        super().build(shape)

    def call(self, x):
        return self.inner(x)


@probe
def layer_in_custom_layer():
    model = tf_keras.Sequential([tf_keras.Input((8,)), Block(), layers.Dense(1)])
    return message(lambda: fit(model))


class Subclassed(tf_keras.Model):
    def __init__(self, wrap: bool):
        super().__init__()
        make = api.prune_low_magnitude if wrap else (lambda layer, schedule: layer)
        self.hidden, self.head = (
            make(layers.Dense(4), every_step()),
            make(layers.Dense(1), every_step()),
        )

    def call(self, x):
        return self.head(self.hidden(x))


@probe
def subclassed_model():
    trained = Subclassed(True)
    return {
        "whole": message(lambda: api.prune_low_magnitude(Subclassed(False), every_step())),
        "layers": message(lambda: fit(trained)),
        "strip": message(lambda: api.strip_pruning(trained)),
    }


@probe
def block_on_convolution():
    model = tf_keras.Sequential([tf_keras.Input((6, 6, 2)), layers.Conv2D(4, 3)])
    return message(lambda: api.prune_low_magnitude(model, every_step(), block_size=(2, 2)))


@probe
def block_equal_to_a_dimension():
    model = tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(4), layers.Dense(1)])
    wrapped = api.prune_low_magnitude(model, every_step(), block_size=(4, 4))
    return message(lambda: fit(wrapped))


@probe
def custom_schedule():
    class Mine(api.PruningSchedule):
        def __call__(self, step):
            return step > 0, tf.constant(0.5)

        def get_config(self):
            return {"class_name": "Mine", "config": {}}

    wrapped = api.prune_low_magnitude(dense(), Mine())

    def load(path):
        with api.prune_scope():
            tf_keras.models.load_model(path)

    with tempfile.TemporaryDirectory() as folder:
        wrapped.save(f"{folder}/wrapped.h5")
        return message(lambda: load(f"{folder}/wrapped.h5"))


@probe
def keras_3():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    whole = message(lambda: api.prune_low_magnitude(model, every_step()))
    listed = message(lambda: api.prune_low_magnitude(list(model.layers), every_step()))
    stripped = message(lambda: api.strip_pruning(model))
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, callbacks=[api.UpdatePruningStep()])
    return {"whole": whole, "list": listed, "strip": stripped, "zeros": kernel_zeros(model)}


class MyDense(layers.Dense):
    pass


UNSUPPORTED = {
    "subclass": lambda x: MyDense(4)(x),
    "Rescaling": lambda x: layers.Rescaling(2.0)(x),
    "Normalization": lambda x: layers.Normalization(mean=0.0, variance=1.0)(x),
    "Bidirectional": lambda x: layers.Bidirectional(layers.LSTM(2))(layers.Reshape((4, 2))(x)),
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(2))(layers.Reshape((4, 2))(x)),
    "EinsumDense": lambda x: layers.EinsumDense("ab,bc->ac", output_shape=4)(x),
    "Attention": lambda x: layers.Attention()([layers.Reshape((4, 2))(x)] * 2),
    "PReLU": lambda x: layers.PReLU()(x),
    "Conv1DTranspose": lambda x: layers.Conv1DTranspose(2, 2)(layers.Reshape((4, 2))(x)),
    "ConvLSTM2D": lambda x: layers.ConvLSTM2D(2, 1)(layers.Reshape((2, 2, 2, 1))(x)),
    "GroupNormalization": lambda x: layers.GroupNormalization(2)(x),
    "SpectralNormalization": lambda x: layers.SpectralNormalization(layers.Dense(2))(x),
    "tf op": lambda x: tf.nn.relu(x) * 2.0,
}


@probe
def unsupported_layers():
    found = {}
    for name, make in UNSUPPORTED.items():
        x = tf_keras.Input((8,))
        model = tf_keras.Model(x, layers.Dense(1)(layers.Flatten()(make(x))))
        found[name] = message(lambda model=model: api.prune_low_magnitude(model, every_step()))
    return found


@probe
def side_effects():
    return {
        "before": BEFORE,
        "after": (tf.keras.__version__, os.environ.get("TF_USE_LEGACY_KERAS")),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: function() for name, function in PROBES.items()}) + "\n")
