"""What a model takes and gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.verify.reference import draw
from tfprune.errors import DataError, ModelError, OptionError
from tfprune.graph.model_signature import check_batch, generation, interface
from tfprune.runtime.artifact import TensorSpec

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


class Unasked(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)
        self.built = True

    def call(self, x, training=None):
        return self.dense(x)


def test_a_subclassed_model_that_knows_nothing_asks_for_a_signature():
    with pytest.raises(ModelError, match="does not know its input shapes; give input_signature="):
        interface(Unasked())
    face = interface(Unasked(), keras.InputSpec(shape=(None, 3), dtype="float32"))
    assert face.inputs == (TensorSpec("input", (-1, 3), "float32"),)
    assert interface(Unasked(), example=np.zeros((7, 3))).inputs == face.inputs


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


def test_a_signature_without_a_type_is_taken_for_floats_and_one_without_sizes_refused():
    face = interface(Unasked(), keras.InputSpec(shape=(None, 3)))
    assert face.inputs == (TensorSpec("input", (-1, 3), "float32"),)
    with pytest.raises(OptionError, match="input_signature: expected shapes and types"):
        interface(Unasked(), tf.TensorSpec(None))


def test_calibration_data_of_nested_inputs_that_cannot_be_told_asks_for_a_signature():
    with pytest.raises(ModelError, match="give input_signature="):
        interface(Unasked(), example={"a": np.zeros((2, 3)), "b": [np.zeros((2, 3))]})


class Called(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_types_that_were_guessed_are_known_to_be():
    model = Called()
    model(np.zeros((1, 3), "float32"))
    assert interface(model).guessed
    assert not interface(model, example=np.zeros((1, 3), "float32")).guessed


class Pair(keras.Model):
    def call(self, inputs):
        return inputs[0] + inputs[1]


def test_inputs_are_taken_from_data_without_its_labels():
    x, y = np.zeros((4, 3), "float32"), np.zeros(4)
    assert interface(Unasked(), example=(x, y)).inputs == interface(Unasked(), example=x).inputs
    assert len(interface(Unasked(), example=((x, x), y)).inputs) == 2
    # One array is not what was called with two, however it is called.
    pair = Pair()
    pair([x, x])
    assert len(interface(pair, example=(x, x)).inputs) == 2
    with pytest.raises(DataError, match="takes 2 inputs. Received 1; a tuple is .inputs, labels."):
        draw(interface(pair, example=(x, x)), (x, x), [])


def test_types_are_taken_from_a_list_of_inputs_but_not_from_a_list_of_batches():
    words, x = np.zeros((4, 3), "int32"), np.zeros((4, 3), "float32")
    pair = Pair()
    pair([x, x])
    for data in ([words, x], ([words, x], np.zeros(4))):
        face = interface(pair, example=data)
        assert [spec.dtype for spec in face.inputs] == ["int32", "float32"]
        assert not face.guessed
    assert interface(pair, example=[(words, x)] * 3).guessed


def test_a_batch_is_a_whole_number_that_the_inputs_allow():
    fixed = [TensorSpec("image", (4, 8), "float32")]
    assert check_batch(np.int64(3)) == 3
    assert check_batch(4, fixed) == 4
    assert check_batch(None, fixed) is None
    with pytest.raises(
        OptionError, match="batch: received 3, .* input 'image' has a batch of 4; leave it"
    ):
        check_batch(3, fixed)
    for wrong in (True, 0, 1.0, "1"):
        with pytest.raises(OptionError, match="expected a positive integer"):
            check_batch(wrong)


def test_an_input_shape_fixes_what_the_model_leaves_open():
    image, words = keras.Input((None, None, 3), name="image"), keras.Input((None,), name="words")
    features = [L.GlobalAveragePooling2D()(image), keras.ops.sum(words, 1, keepdims=True)]
    model = keras.Model([image, words], L.Concatenate()(features))

    def shapes(given):
        return [spec.shape for spec in interface(model, input_shape=given).inputs]

    assert shapes([(8, 6, 3), (5,)]) == [(-1, 8, 6, 3), (-1, 5)]
    assert shapes({"words": (5,)}) == [(-1, -1, -1, 3), (-1, 5)]
    assert shapes({"image": (8, None, 3)}) == [(-1, 8, -1, 3), (-1, -1)]
    for wrong, reason in (
        ([(8, 6, 3)], "received 1 shapes for 2 inputs: image, words"),
        ({"word": (5,)}, "no input 'word'. .* Did you mean words"),
        ({"image": (8, 6, 1)}, r"input 'image' takes \(None, None, 3\) .* Received \(8, 6, 1\)"),
        ({"image": (1, 8, 6, 3)}, r"takes \(None, None, 3\) without the batch"),
        ({"words": "5"}, "expected a tuple of sizes without the batch"),
        (8, "expected a tuple of sizes without the batch"),
    ):
        with pytest.raises(OptionError, match=f"input_shape: .*{reason}"):
            shapes(wrong)
