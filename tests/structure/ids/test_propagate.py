import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import ModelError
from tfprune.graph.read import read
from tfprune.structure import rules
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.propagate import propagate
from tfprune.structure.ids.rule_registry import forget


def test_einsum_layers_pass_sizes_on(check) -> None:
    inputs = keras.Input((None, 6))
    x = kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 3, 4), name="up")(inputs)
    x = kl.EinsumDense("bthk,hkd->btd", output_shape=(None, 8), name="down")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    _, report = tfprune.shrink(model, {"macs": 0.5}, round_to=1, input_shape=(10, 6))
    assert report.before.macs == 10 * (6 * 3 * 4 + 3 * 4 * 8 + 8 * 2)
    assert report.achieved <= 0.5


class Shy(keras.layers.Layer):
    """A layer whose output spec fails for any shape but its first."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")
        self.first = shape

    def compute_output_spec(self, x):
        if hasattr(self, "first") and tuple(x.shape) != tuple(self.first):
            raise RuntimeError("another shape")
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def call(self, x):
        return x * self.scale


def test_a_layer_without_a_rule_need_not_know_its_output() -> None:
    inputs = keras.Input((None, 6))
    x = Shy(name="shy")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="hidden")(x)))
    found = tfprune.units(model, input_shape=(10, 6))
    assert [group.name for group in found] == ["hidden"]


def test_wrong_shapes_are_errors() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(kl.Conv2D(4, 5)(inputs)))
    with pytest.raises(ValueError, match="negative"):
        tfprune.units(model, input_shape=(3, 3, 3))


def test_a_shape_that_a_layer_cannot_take_is_one_line() -> None:
    inputs = keras.Input((None, None, 3))
    x = kl.Conv2D(4, 3, name="one")(inputs)
    x = kl.Conv2D(4, 3, name="two")(x)
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(x))
    said = r"two cannot take .*\(None, 2, 2, 4\), batch first.*[^.]\. Pass another input_shape=$"
    with pytest.raises(ModelError, match=said) as told:
        tfprune.units(model, input_shape=(4, 4, 3))
    assert "\n" not in str(told.value)


class Sampled(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.numbers = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.numbers)


def test_the_random_generator_of_a_layer_does_not_advance() -> None:
    inputs = keras.Input((4,))
    layer = Sampled()
    model = keras.Model(inputs, kl.Dense(2)(layer(kl.Dense(8)(inputs))))
    before = keras.ops.convert_to_numpy(layer.numbers.state).tolist()
    tfprune.units(model)
    assert keras.ops.convert_to_numpy(layer.numbers.state).tolist() == before


class Crooked(kl.Layer):
    """A layer without a rule, and with a wrong output spec."""

    def call(self, x):
        return keras.ops.flip(keras.ops.cumsum(x, axis=1), axis=1)

    def compute_output_shape(self, shape):
        return 1 / 0 if None not in shape else shape


def test_a_layer_with_a_wrong_output_spec_is_traced() -> None:
    x = inputs = keras.Input((None, 6))
    x = Crooked(name="own", trainable=False)(kl.Dense(4)(x))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="after")(x)))
    found = tfprune.units(model, input_shape=(10, 6))
    assert found.prunable_share > 0


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


def test_ids_pass_from_call_to_call() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3), kl.ReLU(), kl.Dense(2)])
    flow = carried(model)
    before, last = axes_of_output(flow)
    assert before is None
    np.testing.assert_array_equal(last, [3, 4])


def test_several_outputs_have_their_own_ids() -> None:
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


def test_a_layer_without_a_rule_freezes_its_channels() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3), Own(name="own"), kl.Dense(2)])
    flow = carried(model)
    (held, why), *_ = flow.frozen
    np.testing.assert_array_equal(held, [0, 1, 2])
    assert why.startswith("own has no rule (")


def test_multiplications_beyond_the_ids_are_counted_for_their_call() -> None:
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


def test_the_cost_of_a_custom_layer_is_that_of_its_cut_kernel() -> None:
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


@pytest.mark.parametrize("sums", [True, False])
def test_a_penalty_on_an_output_keeps_its_units_unless_it_is_a_sum_over_them(sums: bool) -> None:
    penalty = keras.regularizers.L2(0.1) if sums else keras.regularizers.OrthogonalRegularizer()
    inputs = keras.Input((6,))
    hidden = kl.Dense(8, activity_regularizer=penalty, name="hidden")(inputs)
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(hidden)))
    assert [group.layers for group in found.groups] == ([("hidden",)] if sums else [])
