import keras
import numpy as np
import tensorflow as tf
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.graph.read import read
from tfprune.structure import rules
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.propagate import propagate
from tfprune.structure.ids.rule_registry import forget


def carried(model, counts=None) -> Flow:
    graph = read(model, lambda op: rules.find(op) is not None)
    flow = Flow(graph)
    (start,) = [graph.inputs] if not isinstance(graph.inputs, list) else graph.inputs
    flow.axes_of[start.index] = (None,) * len(flow.shape(start))
    propagate(flow, graph, counts or {id(call): 0.0 for call in graph.calls})
    return flow


def axes_of_output(flow: Flow) -> tuple:
    (end,) = keras.tree.flatten(flow.graph.outputs)
    return flow.axes(end)


def test_each_call_hands_its_ids_on() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3), kl.ReLU(), kl.Dense(2)])
    flow = carried(model)
    before, last = axes_of_output(flow)
    assert before is None
    np.testing.assert_array_equal(last, [3, 4])


def test_several_outputs_have_their_own() -> None:
    x = inputs = keras.Input((4,))
    left, right = ops.split(kl.Dense(5)(x), [2], axis=-1)
    flow = carried(keras.Model(inputs, kl.Concatenate()([right, left])))
    np.testing.assert_array_equal(axes_of_output(flow)[-1], [2, 3, 4, 0, 1])


class Own(kl.Layer):
    """A layer without a rule."""

    def build(self, shape) -> None:
        self.w = self.add_weight(shape=(shape[-1],), name="w")

    def call(self, x):
        return tf.multiply(x, self.w)


def test_what_has_no_rule_holds_what_it_touches() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3), Own(name="own"), kl.Dense(2)])
    flow = carried(model)
    (held, why), *_ = flow.frozen
    np.testing.assert_array_equal(held, [0, 1, 2])
    assert why.startswith("own has no rule (")


def test_what_is_multiplied_beyond_the_ids_is_charged_to_its_call() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3)])
    graph = read(model, lambda op: rules.find(op) is not None)
    (call,) = graph.calls
    flow = Flow(graph, sizes=[(1, *value.shape[1:]) for value in graph.values])
    flow.axes_of[keras.tree.flatten(graph.inputs)[0].index] = (None, None)
    propagate(flow, graph, {id(call): 20.0})
    assert [(cost.call, cost.now) for cost in flow.costs] == [(call, 12.0), (call, 8.0)]
    assert tfprune.macs(model).total == 12


class Linear(kl.Layer):
    """A custom layer, whose rule does not mention its cost."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape) -> None:
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")

    def call(self, x):
        return ops.matmul(x, self.w)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_a_layer_of_ones_own_costs_what_is_left_of_its_kernel() -> None:
    @rules.register(Linear)
    def linear(flow, call):
        site, x = flow.site(call.op), flow.axes(call.args[0])
        out = site.make("units", call.op.units)
        site.bind(call.op.w, 0, x[-1], "use")
        site.bind(call.op.w, 1, out, "make")
        return (*x[:-1], out)

    try:
        layers = [kl.Dense(24), Linear(16), kl.Dense(3)]
        model = keras.Sequential([keras.Input((5, 8)), *layers])
        small, report = tfprune.shrink(model, {"channels": 0.5}, round_to=1)
    finally:
        forget(Linear)
    assert small.layers[1].w.shape[0] < 24 or small.layers[1].w.shape[1] < 16
    assert report.before.macs == tfprune.macs(model).total
    assert report.after.macs == tfprune.macs(small).total
