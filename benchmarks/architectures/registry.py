"""Names of small architectures: what each takes, and how it is built.

The models are written as people write them in tutorials: with layers and models of their own, most
of them without `get_config`. They import nothing of tfprune.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

Build = Callable[[], keras.Model]


@dataclass(frozen=True)
class Floats:
    """An input of floats.

    Attributes:
        shape: Its shape, without the batch.
        positive: Whether its numbers are in [0, 1), such as the weights of a graph's edges.
    """

    shape: tuple[int, ...]
    positive: bool = False


@dataclass(frozen=True)
class Whole:
    """An input of indices.

    Attributes:
        shape: Its shape, without the batch.
        below: The size of the vocabulary.
    """

    shape: tuple[int, ...]
    below: int


@dataclass(frozen=True)
class Architecture:
    """A model of the table.

    Attributes:
        name: Its name.
        domain: The module that it stands in.
        takes: `Floats` or `Whole`, in the structure that the model's call takes.
        make: The function that returns the model, of random weights and not compiled.
    """

    name: str
    domain: str
    takes: Any
    make: Build


def settle(model: keras.Model, x: Any) -> None:
    """Give BatchNormalization the statistics of some inputs, as training would; frozen ones too.

    With those it starts from, random weights make the outputs of a deep network all but zero.
    """

    def watch(norm: keras.layers.BatchNormalization) -> None:
        call = norm.call

        def settled(inputs: Any, **options: Any) -> Any:
            kept = [
                axis for axis in range(len(inputs.shape)) if axis != norm.axis % len(inputs.shape)
            ]
            mean, variance = keras.ops.moments(inputs, kept)
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)
            return call(inputs, **options)

        norm.call = settled

    flat = list(model._flatten_layers())
    norms = [layer for layer in flat if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    for norm in norms:
        watch(norm)
    model(x, training=False)
    for norm in norms:
        del norm.call


ARCHITECTURES: dict[str, Architecture] = {}


def architecture(name: str, takes: Any, domain: str = "") -> Callable[[Build], Build]:
    """Register a function that returns a model, under the name of its row in the table.

    Its domain is the module it stands in, if none is given.
    """

    def register(make: Build) -> Build:
        assert name not in ARCHITECTURES, name
        of = domain or make.__module__.rpartition(".")[2]
        ARCHITECTURES[name] = Architecture(name, of, takes, make)
        return make

    return register
