import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError, OptionError
from tfprune.structure.ids import rule_registry


class Scale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def call(self, x):
        return tf.multiply(x, self.scale)


class Wider(kl.Dense):
    """A subclass that leaves `call` and `build` as they are."""


class Other(kl.Dense):
    def call(self, x, training=None):
        return super().call(x)[..., ::-1]


def test_a_custom_rule_is_used(check) -> None:
    inputs = keras.Input((4,))
    x = Scale(name="own")(kl.Dense(8, name="before")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert len(tfprune.units(model)) == 0

    @tfprune.rules.register(Scale)
    def scale(flow, call):
        axes = flow.axes(call.args[0])
        flow.site(call.op).bind(call.op.scale, 0, axes[-1])
        return axes

    try:
        small, report = tfprune.shrink(model, {"channels": 1.0}, ranking="uniform")
        assert report.error <= 1e-4
        assert small.get_layer("own").scale.shape == (8,)
        small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
        assert small.get_layer("own").scale.shape == (4,)
        with pytest.raises(OptionError, match="already has a rule"):
            tfprune.rules.register(Scale)
    finally:
        rule_registry.forget(Scale)


def test_only_classes_of_layers_have_rules() -> None:
    with pytest.raises(OptionError, match="expected a class of layers. Received str"):
        tfprune.rules.register("Dense")
    with pytest.raises(OptionError, match="the operation Add already has a rule"):
        rule_registry.ops("Add")(lambda flow, call: ())


def test_a_subclass_has_its_parents_rule_unless_it_computes_otherwise() -> None:
    assert rule_registry.find(Wider(3)) is rule_registry.find(kl.Dense(3)) is not None
    assert rule_registry.find(Other(3)) is None


def test_an_operation_of_another_package_has_no_rule() -> None:
    class Add(keras.Operation):
        def call(self, x):
            return x

    assert rule_registry.find(Add()) is None
    assert kl.Dense in rule_registry.known_layers()


@pytest.mark.parametrize(
    "given",
    [None, 5, (None,), (None, None, None), [(None, None)] * 2, (None, "a"), (None, np.arange(3))],
)
def test_a_rule_that_returns_something_else_is_an_error_with_its_layer(given) -> None:
    class Wrong(keras.layers.Layer):
        def call(self, x, training=None):
            return x * 1.0

    tfprune.rules.register(Wrong)(lambda flow, call: given)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(Wrong(name="odd")(kl.Dense(8)(inputs))))
    with pytest.raises(ModelError, match="the rule of odd .* must return a tuple for each output"):
        tfprune.units(model)
    rule_registry.forget(Wrong)


def test_a_rule_is_a_function() -> None:
    with pytest.raises(OptionError, match="expected a function of the flow and a call"):
        tfprune.rules.register(type("New", (keras.layers.Layer,), {}))(None)
