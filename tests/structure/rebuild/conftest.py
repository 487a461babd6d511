"""A model of two layers whose weights can be told apart."""

import keras
import numpy as np
from keras import layers as kl


def chain():
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="a", kernel_regularizer="l2")(inputs)
    model = keras.Model(inputs, kl.Dense(2, name="b")(x))
    model.get_layer("a").set_weights([np.arange(12.0).reshape(4, 3), np.array([1.0, 2.0, 3.0])])
    model.get_layer("b").set_weights([np.arange(6.0).reshape(3, 2), np.zeros(2)])
    return model
