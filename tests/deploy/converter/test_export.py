"""How a model is written down."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.converter.export import called, export, full_precision, recurrent_layers
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ModelError
from tfprune.graph.model_signature import interface

L = keras.layers


def test_full_precision_ends_with_its_block():
    layer = L.Dense(2, dtype="mixed_float16")
    model = keras.Sequential([keras.Input((3,)), layer])
    with full_precision(model) as lowered:
        assert lowered
        assert layer.compute_dtype == "float32"
    assert layer.compute_dtype == "float16"
    with pytest.raises(ZeroDivisionError), full_precision(model):
        raise ZeroDivisionError
    assert layer.compute_dtype == "float16"
    with full_precision(keras.Sequential([keras.Input((3,)), L.Dense(1)])) as lowered:
        assert not lowered


def test_recurrent_layers_are_found_inside_others():
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, L.Bidirectional(L.LSTM(2, name="inner"))(inputs))
    outer = keras.Sequential([keras.Input((3, 2)), model])
    assert len(recurrent_layers(outer)) == 2
    assert recurrent_layers(keras.Sequential([L.Dense(2)])) == []


def test_export_gives_output_names_in_the_order_of_the_model(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, {"z": L.Dense(1)(inputs), "a": L.Dense(3)(inputs)})
    assert export(interface(model), tmp_path, batch=None) == ("z", "a")
    assert (tmp_path / "saved_model.pb").is_file()


class Gives(keras.Model):
    def __init__(self, make):
        super().__init__()
        self.dense = L.Dense(2)
        self.make = make

    def call(self, x):
        return self.make(self.dense(x))


def test_outputs_in_lists_of_a_dict_have_the_same_names_in_the_file(tmp_path):
    inputs = keras.Input((2,))
    heads = [L.Dense(1)(inputs), L.Dense(3)(inputs)]
    model = keras.Model(inputs, {"boxes": heads, "more": {"score": L.Dense(2)(inputs)}})
    face = interface(model)
    names = ("boxes_0", "boxes_1", "more_score")
    assert export(face, tmp_path, batch=None) == names
    assert tuple(face.call({face.inputs[0].name: np.zeros((1, 2), "float32")})) == names


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda h: (h, None), "output 'output_1' is None: return only tensors"),
        (lambda h: (h, tf.reduce_sum(h)), "output 'output_1' is a single number"),
        (lambda h: (h, 1.0), "output 'output_1' is a single number"),
        (lambda h: (), "gives no output"),
        (lambda h: tf.sparse.from_dense(h), "is a SparseTensor: return a dense tensor"),
        (lambda h: {"a": tf.strings.as_string(h)}, "output 'a' is of type string"),
        (lambda h: tf.complex(h, h), "is of type complex64: return real numbers"),
    ],
)
def test_an_output_that_no_file_can_give_is_named(make, fault, tmp_path):
    model = Gives(make)
    model(np.zeros((1, 3), "float32"))
    face = interface(model, keras.InputSpec(shape=(None, 3), dtype="float32"))
    with pytest.raises(ModelError, match=fault):
        export(face, tmp_path, batch=None)


def test_operations_have_the_names_of_their_layers():
    inputs = keras.Input((2,))
    shared = L.Dense(2, name="dense_1")
    inner = keras.Sequential([keras.Input((2,)), L.Dense(2, name="dense")], name="inner")
    face = interface(keras.Model(inputs, shared(inner(shared(inputs))), name="net"))
    key = face.inputs[0].name

    @tf.function(autograph=False)
    def trace(x):
        return called(face, {key: x})

    graph = trace.get_concrete_function(tf.TensorSpec((None, 2))).graph
    made = [op.name for op in graph.get_operations() if op.type == "MatMul"]
    # The second call of a shared layer has a number.
    assert made == ["net/dense_1/MatMul", "net/inner/dense/MatMul", "net/dense_1_1/MatMul"]


def test_what_tensorflow_tells_a_notebook_of_its_folders_is_held_back(tmp_path, caplog):
    inputs = keras.Input((2,), name="a-b")
    model = keras.Model(inputs, L.Dense(1)(inputs))
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.INFO)
            logger.addHandler(caplog.handler)
        export(interface(model), tmp_path, batch=None)
        assert caplog.messages == []
        assert [logger.level for logger in loggers] == [logging.INFO] * 2
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(caplog.handler)
            logger.setLevel(level)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8"])
@pytest.mark.parametrize("kind", [L.LSTM, L.GRU, L.SimpleRNN])
def test_the_dropout_of_a_recurrent_layer_leaves_no_state_in_the_file(kind, scheme):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 6, 1))
    h = L.Reshape((8, 12))(L.Conv2D(2, 3, padding="same", activation="relu")(inputs))
    layer = kind(8, return_sequences=True, dropout=0.25, recurrent_dropout=0.1)
    model = keras.Model(inputs, L.Dense(5, "softmax")(L.Bidirectional(layer)(h)))
    x = np.random.default_rng(0).normal(size=(40, 8, 6, 1)).astype("float32")
    before = [v.numpy() for v in model.non_trainable_variables]
    artifact = to_tflite(model, scheme=scheme, calibration=x)
    assert "VAR_HANDLE" not in artifact.report.ops
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
