"""What a model takes and gives, and how it is written down."""

import keras
import numpy as np
import pytest

from tfprune.deploy.artefact import TensorSpec
from tfprune.deploy.export import (
    export,
    full_precision,
    generation,
    interface,
    recurrent_layers,
)
from tfprune.errors import ModelError

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
