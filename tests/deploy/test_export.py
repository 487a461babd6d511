"""What a model takes and gives, and how it is written down."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.artefact import TensorSpec
from tfprune.deploy.export import (
    called,
    check_batch,
    export,
    full_precision,
    generation,
    interface,
    recurrent_layers,
)
from tfprune.errors import ModelError, OptionError

L = keras.layers


def test_names_shapes_and_types_of_nested_inputs():
    image = keras.Input((4, 4, 3), dtype="uint8", name="image")
    words = keras.Input((None,), dtype="int32", name="words")
    features = L.Concatenate()(
        [L.Flatten()(image), L.GlobalAveragePooling1D()(L.Embedding(9, 2)(words))]
    )
    face = interface(keras.Model({"words": words, "image": image}, L.Dense(2)(features)))

    assert face.inputs == (
        TensorSpec("words", (-1, -1), "int32"),
        TensorSpec("image", (-1, 4, 4, 3), "uint8"),
    )
    assert face.vocabulary["words"] == 9
    outputs = face.call({"image": np.zeros((1, 4, 4, 3), "uint8"), "words": np.zeros((1, 5), int)})
    assert [value.shape for value in outputs.values()] == [(1, 2)]


class _Unasked(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)
        self.built = True

    def call(self, x, training=None):
        return self.dense(x)


def test_a_subclassed_model_that_knows_nothing_asks_for_a_signature():
    with pytest.raises(ModelError, match="does not know its input shapes; give input_signature="):
        interface(_Unasked())
    face = interface(_Unasked(), keras.InputSpec(shape=(None, 3), dtype="float32"))
    assert face.inputs == (TensorSpec("input", (-1, 3), "float32"),)
    assert interface(_Unasked(), example=np.zeros((7, 3))).inputs == face.inputs


def test_a_subclassed_model_remembers_the_shape_of_its_first_call():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, x, training=None):
            return self.dense(x)

    model = Net()
    model(np.zeros((5, 3), "float32"))
    assert interface(model).inputs == (TensorSpec("input", (-1, 3), "float32"),)


def test_text_inputs_are_refused():
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, L.Identity()(inputs))
    with pytest.raises(ModelError, match="is text: a file takes numbers"):
        interface(model)


def test_generation_tells_the_two_kerases_apart():
    assert generation(keras.Sequential()) == "keras"
    assert generation("model") is None

    import tf_keras

    assert generation(tf_keras.Sequential()) == "tf_keras"


def test_full_precision_ends_with_its_block():
    layer = L.Dense(2, dtype="mixed_float16")
    model = keras.Sequential([keras.Input((3,)), layer])
    with full_precision(model) as lowered:
        assert lowered
        assert layer.compute_dtype == "float32"
    assert layer.compute_dtype == "float16"
    with pytest.raises(ZeroDivisionError), full_precision(model):
        1 / 0  # noqa: B018
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


class _Gives(keras.Model):
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
    model = _Gives(make)
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


def test_a_signature_without_a_type_is_taken_for_floats_and_one_without_sizes_refused():
    face = interface(_Unasked(), keras.InputSpec(shape=(None, 3)))
    assert face.inputs == (TensorSpec("input", (-1, 3), "float32"),)
    with pytest.raises(OptionError, match="input_signature: expected shapes and types"):
        interface(_Unasked(), tf.TensorSpec(None))


def test_calibration_data_of_nested_inputs_that_cannot_be_told_asks_for_a_signature():
    with pytest.raises(ModelError, match="give input_signature="):
        interface(_Unasked(), example={"a": np.zeros((2, 3)), "b": [np.zeros((2, 3))]})


def test_types_that_were_guessed_are_known_to_be():
    model = _Gives(lambda h: h)
    model(np.zeros((1, 3), "float32"))
    assert interface(model).guessed
    assert not interface(model, example=np.zeros((1, 3), "float32")).guessed


def test_a_batch_is_a_whole_number_that_the_inputs_allow():
    fixed = [TensorSpec("image", (4, 8), "float32")]
    assert check_batch(np.int64(3)) == 3
    assert check_batch(4, fixed) == 4
    assert check_batch(None, fixed) is None
    with pytest.raises(OptionError, match="batch: 3 .* input 'image' has a batch of 4; leave it"):
        check_batch(3, fixed)
    for wrong in (True, 0, 1.0, "1"):
        with pytest.raises(OptionError, match="expected a positive integer"):
            check_batch(wrong)
