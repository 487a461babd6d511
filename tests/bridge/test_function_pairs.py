"""Every pair of functions."""

from typing import Any

import keras
import pytest
import tensorflow as tf

from tfprune.bridge.function_pairs import FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.keras)
def test_every_pair_exists_in_both(function: Any) -> None:
    if function.keras != "get_item":
        assert callable(getattr(keras.ops, function.keras))
        found: Any = tf
        for part in function.tf.split("."):
            found = getattr(found, part)
        assert callable(found)
