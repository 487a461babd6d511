"""Graphs of SavedModels as the converter takes them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.converter.export import export
from tfprune.deploy.converter.rewrites.rewrite import rewrite
from tfprune.graph.model_signature import interface

L = keras.layers


@pytest.mark.parametrize("activations", ["float", "int8", "int16"])
def test_a_rewritten_graph_gives_the_same_numbers(tmp_path, activations):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 8))
    h = L.UpSampling2D(2)(L.PReLU("normal")(inputs))
    h = L.Flatten()(L.GroupNormalization(2)(-h))
    model = keras.Model(inputs, L.Dense(3)(L.LayerNormalization()(h)))
    export(interface(model), tmp_path, batch=None)
    rewrite(tmp_path, activations)
    serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 8)).astype("float32")
    (got,) = serve(**{interface(model).inputs[0].name: tf.constant(x)}).values()
    np.testing.assert_allclose(got, model(x), atol=1e-5)
