"""Building an architecture, and random inputs and targets for it."""

from typing import Any

import keras
import numpy as np

from architectures.registry import Architecture, Whole, settle
from tfprune.data.model_comparison import random_input

SETTLED_ON = 24
"""Samples whose statistics BatchNormalization has."""


def build(one: Architecture, seed: int = 0) -> keras.Model:
    """Return the built model, of random weights; a subclassed one is built by a call."""
    keras.utils.set_random_seed(seed)
    model, x = one.make(), samples(one, SETTLED_ON, seed)
    if not getattr(model, "inputs", None):
        model(x)
    settle(model, x)
    return model


def samples(one: Architecture, count: int, seed: int = 0) -> Any:
    """Return random inputs in the structure that the model's call takes."""
    random = np.random.default_rng(seed)

    def made(leaf: Any) -> np.ndarray:
        shape = (count, *leaf.shape)
        if isinstance(leaf, Whole):
            return random_input(random, shape, "int32", whole=(0, leaf.below))
        if leaf.positive:
            return random.random(shape).astype("float32")
        return random_input(random, shape, "float32")

    return keras.tree.map_structure(made, one.takes)


def random_targets(model: keras.Model, x: Any, seed: int = 0) -> Any:
    """Return random numbers in the structure and the shapes of a model's outputs for these inputs.

    With the mean squared error they are something to learn for every model, whatever it is for.
    """
    random = np.random.default_rng(seed)
    outputs = model(x, training=False)
    return keras.tree.map_structure(
        lambda output: random.random(tuple(output.shape)).astype("float32"), outputs
    )
