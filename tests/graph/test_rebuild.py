import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.flat import FlatEdits, flat_graph
from tfprune.graph.rebuild import read_weights, rebuild

X = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")


class _Halved(FlatEdits):
    """Drops ReLUs, and halves what each call of a Dense layer gives."""

    def is_dropped(self, op):
        return type(op) is kl.ReLU

    def kind(self, op):
        return Doubled if type(op) is kl.Dense else type(op)

    def after(self, call, made):
        return made * 0.5 if type(call.op) is kl.ReLU else made


class Doubled(kl.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * 2


def test_edits_change_classes_and_what_follows_a_call() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, kl.Dense(2)(kl.ReLU()(kl.Dense(4)(inputs))))
    graph = flat_graph(model)
    weights = read_weights(graph)
    edited = rebuild(graph, weights, _Halved(), weights).model
    assert edited.inputs[0].name == model.inputs[0].name
    linear = keras.Sequential([model.layers[1], model.layers[3]])
    np.testing.assert_allclose(edited(X), linear(X) * 2, rtol=1e-5, atol=1e-6)
    dense = graph.calls[0].op
    kept = rebuild(graph, {}, _Halved()).model
    assert not np.allclose(kept.layers[1].kernel, dense.kernel), "it keeps weights of its own"
