import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from tfprune.graph.read import read
from tfprune.graph.tracing.open_size import Size
from tfprune.graph.tracing.trace import Trace, can_be_rebuilt, can_trace
from tfprune.graph.tracing.weight import Weight
from tfprune.keras_support.internals import AddOperation


class Pair(keras.layers.Layer):
    def build(self, shape):
        self.one, self.two = kl.Dense(4, name="one"), kl.Dense(4, name="two")
        self.one.build(shape)
        self.two.build((*shape[:-1], 4))

    def call(self, x):
        return self.two(self.one(x))


def test_a_trace_is_what_the_layer_does_and_can_be_forgotten() -> None:
    layer = Pair()
    layer(np.ones((2, 3), "float32"))
    start = keras.Input((3,))
    trace = Trace(layer, [start], (start,), {})
    data = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_array_equal(trace.function([data]), layer(data))
    assert len(layer.one._inbound_nodes) == 1
    trace.forget()
    assert layer.one._inbound_nodes == layer.two._outbound_nodes == []


class Alike(Pair):
    """Two layers of one name, as the projections of two attentions have them."""

    def build(self, shape):
        super().build(shape)
        self.two.name = self.one.name


def test_layers_of_one_name_are_told_apart_and_keep_it() -> None:
    layer, start = Alike(), keras.Input((3,))
    layer.build((None, 3))
    trace = Trace(layer, [start], (start,), {})
    assert len(trace.function._operations) == 3
    assert layer.one.name == layer.two.name == "one"


class Failing(Pair):
    def call(self, x):
        super().call(x)
        raise RuntimeError("half way")


def test_a_trace_that_fails_leaves_nothing_behind() -> None:
    layer, start = Failing(), keras.Input((3,))
    layer.build((None, 3))
    with pytest.raises(RuntimeError, match="half way"):
        Trace(layer, [start], (start,), {})
    assert layer.one._inbound_nodes == []


class Holds(keras.layers.Layer):
    """A layer without a config that could bring it back."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.table = table

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


def test_which_layers_stand_alone() -> None:
    assert can_be_rebuilt(kl.Dense(3))
    assert can_be_rebuilt(Pair())
    assert not can_be_rebuilt(Holds(np.ones(2)))


def test_which_layers_can_be_opened() -> None:
    pair, holds, plain = Pair(), Holds(np.ones(2)), Holds(1)
    for layer in (pair, holds, plain):
        layer.build((None, 3))
    assert can_trace(pair)
    assert can_trace(holds)
    assert can_trace(plain)
    for left_alone in (kl.Dense(3), kl.Lambda(lambda x, mask: x), AddOperation()):
        assert not can_trace(left_alone)


def _squared(x):
    return x * x


_SHARED = kl.Dense(4)


def _shared(x):
    return _SHARED(x)


@pytest.mark.parametrize(
    ("function", "opened"),
    [
        (lambda x: x[:, -1], True),
        (lambda x: _squared(x) + 1, True),
        (lambda x: _SHARED(x), False),
        (lambda x: _shared(x), False),
        (_SHARED.call, False),
        (lambda x, training=False: x, False),
        (lambda x, mask=None: x, False),
    ],
)
def test_a_lambda_is_opened_where_it_holds_nothing(function, opened) -> None:
    assert can_trace(kl.Lambda(function)) is opened
    assert not can_trace(kl.Lambda(_squared, mask=lambda x, mask: mask))


class Tied(keras.Model):
    """A model that reads the table of its embedding back."""

    def __init__(self, how):
        super().__init__()
        self.words, self.body = kl.Embedding(9, 4, name="words"), kl.Dense(4)
        self.norm, self.how = kl.BatchNormalization(), how

    def call(self, x):
        x, table = self.norm(self.body(self.words(x))), self.words.embeddings
        if self.how == "transposed":
            return keras.ops.matmul(x, keras.ops.transpose(table))
        return keras.ops.einsum("btd,vd->btv", x, table)


@pytest.mark.parametrize("how", ["transposed", "as it is"])
def test_a_table_that_is_read_back_is_one_weight(how, check) -> None:
    model = Tied(how)
    model(np.zeros((1, 5), "int32"))
    small, report = check(model, exact=True)
    assert not [note for note in report.notes if "outside the call" in note]
    assert report.before.params == model.count_params()
    assert report.after.params < report.before.params
    assert [tuple(layer.weight.shape) for layer in small.layers if type(layer) is Weight] == [
        (9, 1)
    ]


class Holding(keras.layers.Layer):
    """A layer that reads the table of another layer of the model."""

    def __init__(self, words, **kwargs):
        super().__init__(**kwargs)
        self.words = words

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.words.embeddings))


def test_a_table_that_another_layer_reads_is_one_weight(check) -> None:
    inputs, words = keras.Input((5,), dtype="int32"), kl.Embedding(9, 4, name="words")
    model = keras.Model(inputs, Holding(words)(kl.Dense(4)(words(inputs))))
    small, report = check(model, exact=True)
    assert report.before.params == 9 * 4 + 4 * 4 + 4
    assert sum(layer.count_params() for layer in small.layers) == report.after.params
    assert sum(type(layer) is Weight for layer in small.layers) == 1


class Decoder(keras.layers.Layer):
    """Sizes that are open, a weight of its own and a layer in it: all that tracing replaces."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(1, shape[-1]), name="scale")
        self.inner = kl.Dense(shape[-1], name="inner")
        self.inner.build(shape)

    def call(self, x):
        batch, length, width = keras.ops.shape(x)
        ramp = keras.ops.cast(keras.ops.arange(length), x.dtype)
        y = self.inner(keras.ops.reshape(x, (batch, length, width)) * self.scale)
        return y + keras.ops.expand_dims(ramp, -1)


def decoder():
    inputs = keras.Input((None, 3))
    return keras.Model(inputs, Decoder(name="decoder")(inputs))


def in_threads(*functions):
    """What functions give that run at the same time; their first error is raised."""
    results, errors = [None] * len(functions), []

    def run(place):
        try:
            results[place] = functions[place]()
        except Exception as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def reading(model):
    """What is read of a model; the numbers in names are Keras's count of those made so far."""
    graph = read(model, lambda op: False)
    return graph.notes, graph.traced, [type(call.op).__name__ for call in graph.calls]


def test_while_one_thread_traces_another_sees_keras_as_it_is() -> None:
    """Inside of the traced call, so that nothing depends on which thread is quicker."""
    symbol, numbers = keras.Input((None, 3)), np.ones((2, 3), "float32")
    dense, dropout = kl.Dense(2), kl.Dropout(0.5, seed=1)
    dense.build((None, 3))
    expected = np.asarray(dense(numbers))

    def other():
        assert keras.ops.shape(symbol) == (None, None, 3)
        np.testing.assert_array_equal(dense(numbers), expected)
        assert dense.kernel.value.shape == (3, 2)
        assert keras.random.normal((2,), seed=keras.random.SeedGenerator(1)).shape == (2,)
        assert dropout(numbers, training=True).shape == (2, 3)
        with pytest.raises(ValueError, match="incompatible"):
            Both()(keras.Input((4,)))
        return True

    class Both(Pair):
        def call(self, x):
            return self.two(kl.Conv2D(2, 3)(x))

    class Asking(Pair):
        def build(self, shape):
            super().build(shape)
            self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                assert isinstance(keras.ops.shape(x)[0], Size)
                assert isinstance(self.scale, keras.KerasTensor)
                seen.extend(in_threads(other, lambda: layer(numbers)))
            return super().call(x) * self.scale

    seen: list[object] = []
    layer, start = Asking(), keras.Input((3,))
    layer.build((None, 3))
    trace = Trace(layer, [start], (start,), {})
    trace.forget()
    assert seen[0] is True
    np.testing.assert_array_equal(seen[1], layer(numbers))
    assert not trace.reads


def test_a_thread_that_builds_runs_and_trains_is_not_disturbed_by_one_that_traces() -> None:
    x, done = np.random.default_rng(0).normal(size=(8, 5, 3)).astype("float32"), threading.Event()

    @tf.function
    def compiled(model, batch):
        return model(batch)

    def work():
        model = decoder()
        model.set_weights([np.full(weight.shape, 0.1) for weight in model.weights])
        model.compile("sgd", "mse", jit_compile=False)
        shapes = model.output_shape, model.layers[1](keras.Input((7, 3))).shape
        losses = model.fit(x, x, batch_size=4, shuffle=False, verbose=0).history["loss"]
        called = np.asarray(compiled(model, tf.constant(x)))
        return shapes, losses, model.predict(x, verbose=0), model(x).numpy(), called

    def trace():
        target, found = decoder(), []
        while not done.is_set():
            found.append(reading(target))
        return found

    def loop():
        try:
            return [work() for _ in range(2)]
        finally:
            done.set()

    (shapes, *alone), plain = work(), keras.Layer.__call__
    together, traced = in_threads(loop, trace)
    for got_shapes, *got in together:
        assert got_shapes == shapes
        for one, two in zip(alone, got, strict=True):
            np.testing.assert_array_equal(one, two)
    assert len(traced) > 1
    assert all(one == traced[0] for one in traced)
    assert traced[0][1] == ["decoder"]
    assert keras.Layer.__call__ is plain


def test_two_threads_trace_one_model_at_the_same_time() -> None:
    model = decoder()
    alone = reading(model)
    for found in in_threads(*[lambda: [reading(model) for _ in range(6)]] * 2):
        assert found == [alone] * 6
    assert len(model.layers[1].inner._inbound_nodes) == 0
