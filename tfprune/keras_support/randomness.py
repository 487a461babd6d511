"""Random numbers in a model that only predicts."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import gen_random_ops, gen_stateless_random_ops_v2

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


# What all draws of TensorFlow, of Keras 3 and of Keras 2 call, with the mean of each.
_MEANS = (
    (gen_random_ops, "random_standard_normal", 0.0),
    (gen_random_ops, "truncated_normal", 0.0),
    (gen_random_ops, "random_uniform", 0.5),
    (gen_stateless_random_ops_v2, "stateless_random_normal_v2", 0.0),
    (gen_stateless_random_ops_v2, "stateless_truncated_normal_v2", 0.0),
    (gen_stateless_random_ops_v2, "stateless_random_uniform_v2", 0.5),
)


@contextlib.contextmanager
def means_for_draws() -> Iterator[None]:
    """Give the mean of a normal or uniform distribution for a draw while entered, in this thread.

    Draws of other distributions, of indices and of orders stay random.
    """

    def make(plain: Callable[..., Any], mean: float) -> Callable[..., Any]:
        parameters = inspect.signature(plain)

        def draw(*args: Any, **kwargs: Any) -> Any:
            given = parameters.bind(*args, **kwargs)
            given.apply_defaults()
            return tf.fill(given.arguments["shape"], tf.cast(mean, given.arguments["dtype"]))

        return draw

    with contextlib.ExitStack() as entered:
        for owner, name, mean in _MEANS:
            entered.enter_context(replaced(owner, name, partial(make, mean=mean)))
        yield
