"""The reference of a file: samples that are drawn or chosen, and the outputs of the model."""

import keras
import numpy as np
import pytest

from tfprune.deploy.verify.reference import (
    check_path,
    draw,
    file_outputs,
    model_outputs,
    some,
    versions,
)
from tfprune.errors import ModelError, OptionError
from tfprune.graph.model_signature import interface
from tfprune.runtime import jobs
from tfprune.workers import pool


def test_without_data_samples_are_random_and_the_same_each_time(convnet) -> None:
    face = interface(convnet)
    (one, origin), (two, _) = draw(face, None, []), draw(face, None, [])
    assert origin == "random"
    assert one["image"].shape == (8, 8, 8, 1)
    np.testing.assert_array_equal(one["image"], two["image"])


def model_of_a_sequence(last: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((None, 3))
    h = keras.layers.Conv1D(4, 7, strides=3)(keras.layers.Conv1D(4, 7, strides=3)(inputs))
    return keras.Model(inputs, last(h))


def test_a_random_sequence_is_as_long_as_the_model_needs() -> None:
    face = interface(model_of_a_sequence(keras.layers.GlobalMaxPooling1D()))
    (sequence,) = draw(face, None, [])[0].values()
    assert sequence.shape == (8, 32, 3)


def test_a_random_sequence_is_as_long_as_every_layer_needs() -> None:
    inputs = keras.Input((None, 3))
    h = keras.layers.Conv1D(4, 3, strides=2)(keras.layers.Conv1D(4, 5, strides=2)(inputs))
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling1D()(h))
    assert model(np.zeros((1, 8, 3), "float32")).shape == (1, 4)  # whatever was in memory
    (sequence,) = draw(interface(model), None, [])[0].values()
    assert sequence.shape == (8, 32, 3)


def test_a_model_that_takes_no_random_sequence_is_refused() -> None:
    face = interface(model_of_a_sequence(keras.layers.Reshape((5, 4))))
    with pytest.raises(ModelError, match=r"open sizes are 8, 32, 128, 512 .*give calibration="):
        draw(face, None, [])


def test_a_note_says_how_much_of_the_data_is_used(convnet) -> None:
    notes: list[str] = []
    data = np.zeros((600, 8, 8, 1), "float32")
    samples, origin = draw(interface(convnet), data, notes)
    assert (len(samples["image"]), origin) == (512, "calibration")
    assert notes == ["512 of 600 calibration samples were used"]


def test_a_few_samples_are_taken_at_even_distances() -> None:
    assert some({"x": np.arange(63)})["x"].tolist() == list(range(0, 63, 2))
    assert some({"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


def test_samples_are_padded_to_a_fixed_batch_and_outputs_cut() -> None:
    inputs = keras.Input(batch_shape=(4, 2), name="x")
    model = keras.Model(inputs, keras.layers.Rescaling(2.0, name="double")(inputs))
    x = np.arange(12, dtype="float32").reshape(6, 2)
    (output,) = model_outputs(interface(model), {"x": x}).values()
    np.testing.assert_array_equal(output, 2 * x)


def test_a_path_that_no_file_can_have_is_refused(tmp_path) -> None:
    check_path(None, ".onnx")
    check_path(tmp_path / "model.onnx", ".onnx")
    with pytest.raises(OptionError, match="is a folder"):
        check_path(tmp_path, ".onnx")
    with pytest.raises(OptionError, match="expected a file name. Received 3"):
        check_path(3, ".onnx")
    (tmp_path / "taken.onnx.json").mkdir()
    with pytest.raises(OptionError, match=r"taken\.onnx\.json is a folder"):
        check_path(tmp_path / "taken.onnx", ".onnx")
    for name in ("model", "model.json", "model.tflite", "model.bin"):
        with pytest.raises(OptionError, match=rf"ending in \.onnx. Received '.*{name}'"):
            check_path(tmp_path / name, ".onnx")


def test_versions_name_the_generation_of_the_model(convnet) -> None:
    assert list(versions(convnet, ["numpy"])) == ["python", "tfprune", "tensorflow", "keras",
                                                  "numpy"]  # fmt: skip


def test_an_output_that_does_not_count_the_samples_is_refused() -> None:
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, keras.ops.sum(inputs, 0))
    with pytest.raises(ModelError, match=r"has shape \(2,\) for 6 samples; its first axis"):
        model_outputs(interface(model), {"x": np.zeros((6, 2), "float32")})


def test_a_file_in_a_child_process_gives_the_outputs_of_its_model(
    convnet, float_file, images
) -> None:
    samples = {"image": images[:3]}
    _, found = file_outputs(jobs.run, float_file.bytes, ".tflite", samples, pool.LOAD_LIMIT_S)
    expected = model_outputs(interface(convnet), samples)
    assert list(found) == list(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)
    with pytest.raises(pool.ChildError, match="no .tflite|not a .tflite|damaged|too short"):
        file_outputs(jobs.run, b"none", ".tflite", samples, pool.LOAD_LIMIT_S)


class Counting(keras.layers.Layer):
    """A layer that counts its calls in a weight."""

    def build(self, shape) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign(self.count + 1.0)
        return x * 1.0


def test_drawing_a_sequence_leaves_the_weights_as_they_are() -> None:
    inputs = keras.Input((None, 3))
    layer = Counting()
    model = keras.Model(inputs, keras.layers.Conv1D(4, 3)(layer(inputs)))
    before = float(layer.count.numpy())
    draw(interface(model), None, [])
    assert float(layer.count.numpy()) == before
