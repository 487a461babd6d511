"""The layer that says that the layer inside it is to be rounded."""

import keras
import numpy as np

from tfprune.tfmot_compat.quantize_annotate import QuantizeAnnotate

X = np.ones((2, 3, 4), "float32")


def test_it_computes_what_the_layer_inside_does_and_is_saved(tmp_path) -> None:
    inner = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((3, 4)), QuantizeAnnotate(inner, None)])
    np.testing.assert_array_equal(model(X), inner(X))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.layers[0]) is QuantizeAnnotate
    assert loaded.layers[0].quantize_config is None
    np.testing.assert_array_equal(loaded(X), model(X))


def test_layers_with_several_inputs_and_masks_are_annotated() -> None:
    inputs = keras.Input((3,), dtype="int32")
    h = QuantizeAnnotate(keras.layers.Embedding(5, 4, mask_zero=True))(inputs)
    joined = QuantizeAnnotate(keras.layers.Add())([h, h])
    plain = keras.layers.LSTM(2)
    model = keras.Model(inputs, QuantizeAnnotate(plain)(joined))
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    table = model.layers[1].layer
    np.testing.assert_allclose(model(ids), plain(keras.layers.add([table(ids), table(ids)])))
