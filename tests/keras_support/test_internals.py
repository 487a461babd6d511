"""Each function against what Keras does in public: it fails where a release moved something."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from tfprune.keras_support import internals as internals


class Block(keras.layers.Layer):
    """A layer with weights of its own and layers in it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.drop = kl.Dense(3), kl.Dropout(0.5)

    def build(self, shape):
        self.scale = self.add_weight(shape=(3,), name="scale")
        self.count = self.add_weight(shape=(), name="count", trainable=False)
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.drop(self.dense(x)) * self.scale


@pytest.fixture
def block():
    layer = Block()
    layer.build((None, 4))
    return layer


def test_layers_are_found_at_every_depth(block) -> None:
    model = keras.Sequential([keras.Input((4,)), block])
    assert internals.all_layers(model) == [model, *internals.layers_below(model)]
    assert {block, block.dense, block.drop} <= set(internals.layers_below(model))
    assert set(internals.direct_layers(block)) == {block.dense, block.drop}
    listed = internals.operations_in_config(model)
    assert [type(one).__name__ for one in listed] == ["InputLayer", "Block"]
    start = keras.Input((4,))
    functional = keras.Model(start, block(start) + 1)
    listed = internals.operations_in_config(functional)
    assert [one.name for one in listed] == [
        config["config"]["name"] for config in functional.get_config()["layers"]
    ]


def test_own_weights_are_those_that_no_layer_in_it_has(block) -> None:
    assert [id(one) for one in internals.own_trainable(block)] == [id(block.scale)]
    assert [id(one) for one in internals.own_fixed(block)] == [id(block.count)]
    own = [id(one) for one in internals.own_variables(block)]
    assert own == [id(block.scale), id(block.count)]
    assert len(internals.own_seed_generators(block.drop)) == 1


def test_graphs_are_read() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    total = a + b
    dense = kl.Dense(2)
    model = keras.Model({"a": a, "b": b}, [dense(total)])
    assert isinstance(model, internals.Functional)
    assert set(internals.symbolic_inputs_of(model)) == {"a", "b"}
    assert [tensor.shape for tensor in internals.symbolic_outputs_of(model)] == [(None, 2)]
    add = internals.maker_of(total)
    assert type(add) is internals.AddOperation
    assert internals.is_keras_operation(type(add))
    assert not internals.is_keras_operation(type(dense))
    order = [node.operation for node in internals.nodes_in_order(model)]
    assert order.index(add) < order.index(dense)


def test_a_sequential_has_a_functional_model_inside() -> None:
    model = keras.Sequential([kl.Dense(2)])
    assert internals.graph_inside(model) is None
    model.build((None, 3))
    inside = internals.graph_inside(model)
    assert isinstance(inside, internals.Functional)
    assert internals.symbolic_inputs_of(model) is internals.symbolic_inputs_of(inside)
    assert internals.symbolic_outputs_of(model) is internals.symbolic_outputs_of(inside)
    assert internals.graph_inside(inside) is None


def test_the_same_functions_read_the_other_generation() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    start = tf_keras.Input((3,))
    dense = tf_keras.layers.Dense(2)
    end = dense(start)
    model = tf_keras.Model(start, end)
    assert internals.maker_of(end) is dense
    assert internals.symbolic_inputs_of(model) is start
    assert internals.symbolic_outputs_of(model) is end
    assert internals.graph_inside(model) is None
    assert dense in internals.all_layers(model)
    assert dense in internals.direct_layers(model)


def test_later_calls_are_removed() -> None:
    dense = kl.Dense(2)
    first = dense(keras.Input((3,)))
    forget = internals.note_calls([dense])
    dense(keras.Input((3,)))
    kl.Dense(1)(first)
    assert (len(dense._inbound_nodes), len(dense._outbound_nodes)) == (2, 1)
    forget()
    assert (len(dense._inbound_nodes), len(dense._outbound_nodes)) == (1, 0)


def test_what_a_layer_was_made_and_built_with(block) -> None:
    assert internals.takes_training(block)
    assert not internals.takes_training(kl.Flatten())
    assert not internals.takes_training(internals.AddOperation())
    assert set(internals.context_arguments(block)) <= {"training"}
    assert internals.context_arguments(internals.AddOperation()) == ()
    assert list(internals.built_shapes(block).values()) == [(None, 4)]
    assert internals.built_shapes(kl.Dense(2)) == {}
    assert internals.output_shape_given(kl.Lambda(lambda x: x, output_shape=(5,))) == (5,)


def test_a_built_layer_takes_weights_while_it_is_unlocked(block) -> None:
    with internals.unlocked(block):
        block.more = block.add_weight(shape=(2,), name="more")
    assert any(weight is block.more for weight in block.weights)
    with pytest.raises(ValueError, match="cannot add new elements"):
        block.again = block.add_weight(shape=(2,), name="again")


def test_weights_behind_a_property_are_found() -> None:
    dense, words = kl.Dense(2), kl.Embedding(4, 2)
    dense.build((None, 3))
    words.build()
    assert internals.stored_kernel(dense) is dense.weights[0]
    assert internals.stored_table(words) is words.weights[0]
    with internals.unlocked(words):
        internals.store_kernel(words, dense.kernel)
    assert internals.stored_kernel(words) is internals.stored_kernel(dense)


def test_a_variable_without_a_value_begins_with_an_array() -> None:
    array = np.arange(3.0, dtype="float32")
    with keras.StatelessScope():
        assert internals.in_stateless_scope()
        late = keras.Variable("zeros", shape=(3,))
        assert internals.begin_with(late, array)
    np.testing.assert_array_equal(late, array)
    assert not internals.in_stateless_scope()
    assert not internals.begin_with(late, array + 1)
    np.testing.assert_array_equal(late, array)
    assert isinstance(late, internals.KerasVariable)
    assert isinstance(vars(internals.KerasVariable)["value"], property), "it is replaced by name"


def test_masks_are_copied() -> None:
    embedding = kl.Embedding(5, 2, mask_zero=True)
    given = embedding(np.array([[1, 0]]))
    np.testing.assert_array_equal(internals.mask_of(given), [[True, False]])
    moved = internals.copy_mask(given, tf.zeros((1, 2, 2)))
    np.testing.assert_array_equal(internals.mask_of(moved), [[True, False]])
    assert internals.mask_of(internals.copy_mask(tf.zeros((1, 2)), tf.ones((1, 2)))) is None
    passed = tf.ones((1, 2, 2))
    internals.pass_mask(kl.Dropout(0.1), given, passed)
    np.testing.assert_array_equal(internals.mask_of(passed), [[True, False]])


def test_what_a_model_was_compiled_with() -> None:
    model = keras.Sequential([keras.Input((3,)), kl.Dense(2)])
    assert internals.compile_config(model) == {}
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model.compile(keras.optimizers.SGD(schedule), "mse")
    assert internals.compile_config(model)["loss"] == "mse"
    assert internals.learning_rate_of(model.optimizer) is schedule
    assert internals.learning_rate_of(object()) is None


def test_names_of_classes_as_keras_writes_them() -> None:
    assert internals.to_snake_case("LeakyReLU") == keras.layers.LeakyReLU().name.rstrip(
        "_0123456789"
    )
    classes = (internals.LayerScale, internals.StochasticDepth, internals.CustomScaleLayer)
    assert all(issubclass(one, keras.layers.Layer) for one in classes)
    loss = internals.CompileLoss("mse")
    assert float(loss(np.ones((2, 1)), np.zeros((2, 1)))) == 1.0
