"""Random numbers in a model that only predicts."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras

from tfprune.keras_support.thread_replacements import replaced


def fixed_seeds() -> contextlib.AbstractContextManager[None]:
    """Leave the state of seed generators unchanged while entered, in this thread.

    A recurrent layer of Keras 3 draws dropout masks in every call and uses them only in training.
    A file converted from it has no masks, but would keep the state that drawing changes.
    """

    def make(_: Callable[..., Any]) -> Callable[..., Any]:
        def fixed(self: Any, ordered: bool = True) -> Any:
            return keras.ops.zeros(self.state.shape, self.state.dtype)

        return fixed

    return replaced(keras.random.SeedGenerator, "next", make)
