"""The recipe that `tfprune init` writes; tests/commands/test_init.py reads it back."""

import tomllib

import keras
import pytest

from tfprune.commands.first_recipe import LISTED_GROUPS, first_recipe
from tfprune.errors import ModelError


def chain(widths: list[int]) -> keras.Model:
    dense = [keras.layers.Dense(width, name=f"d{i}") for i, width in enumerate(widths)]
    return keras.Sequential([keras.Input((4,)), *dense])


def test_the_widest_groups_are_named_and_the_rest_counted() -> None:
    text = first_recipe(chain([*range(10, 10 + LISTED_GROUPS + 2), 3]), "m.keras")
    assert "d9 (19), d8 (18)" in text
    assert "d0 (10)" not in text
    assert "and 2 more" in text


def test_names_are_quoted_as_toml() -> None:
    text = first_recipe(chain([4]), 'a "b"\\c.keras')
    assert 'source = "a \\"b\\"\\\\c.keras"' in text


def test_a_model_without_weights_has_nothing_to_do() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    with pytest.raises(ModelError, match="nothing to remove"):
        first_recipe(model, "m.keras")


def test_a_model_of_several_inputs_is_described() -> None:
    inputs = [keras.Input((3,)), keras.Input((4,))]
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()(inputs))
    text = first_recipe(keras.Model(inputs, outputs), "m.keras")
    assert "takes float32 of shape (3,), float32 of shape (4,)." in text
    tomllib.loads(text)
