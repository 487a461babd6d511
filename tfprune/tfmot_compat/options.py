"""The options of `prune_low_magnitude` on Keras 3: as choices, and shown on layers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfprune.errors import OptionError
from tfprune.graph.kernels import PrunableKernel, walk_layers
from tfprune.keras_support.internals import direct_layers, set_input_shape
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices import patterns, scores
from tfprune.sparsity.choices.patterns import Block, KeepOf, Pattern, Unstructured
from tfprune.sparsity.masks import Choices
from tfprune.sparsity.pruning import as_schedule


@dataclass(frozen=True)
class Options:
    """What `prune_low_magnitude` was given, by the names of its arguments."""

    pruning_schedule: Any
    block_size: Sequence[int]
    block_pooling_type: patterns.BlockPooling
    sparsity_m_by_n: Sequence[int] | None


@dataclass(frozen=True)
class LowMagnitude(Choices):
    """The choices that some options stand for."""

    options: Options | None = None


def choices_of(options: Options, leave: Callable[[PrunableKernel], str]) -> LowMagnitude:
    """Return the choices of a call of `prune_low_magnitude`.

    Raises:
        OptionError: If an option is out of its range.
    """
    return LowMagnitude(
        score=scores.SCORES["magnitude"],
        pattern=_pattern(options),
        allocation=allocations.uniform,
        schedule=as_schedule(options.pruning_schedule),
        leave=leave,
        options=options,
    )


def _pattern(options: Options) -> Pattern:
    block = tuple(options.block_size)
    if len(block) != 2:
        raise OptionError(f"block_size: expected (height, width). Received {block!r}.")
    if options.sparsity_m_by_n is not None:
        pair = tuple(options.sparsity_m_by_n)
        if len(pair) != 2 or not all(isinstance(v, int) for v in pair):
            raise OptionError(f"sparsity_m_by_n: expected two whole numbers. Received {pair!r}.")
        if block != (1, 1):
            raise OptionError("sparsity_m_by_n and block_size exclude each other: pass only one")
        return KeepOf(pair[1] - pair[0], pair[1])
    checked = Block(block[0], block[1], options.block_pooling_type)
    return Unstructured() if block == (1, 1) else checked


def show(options: Options, roots: Sequence[Any], policy: Any) -> None:
    """Set the options as attributes of the layers that tensorflow-model-optimization would wrap.

    Scripts read them from its wrappers. Layers that have such an attribute already are not changed.
    """
    shown = {name: getattr(options, name) for name in Options.__dataclass_fields__}
    for layer in _wrappable(roots):
        taken = any(hasattr(layer, name) for name in shown)
        if not taken and (policy is None or policy.allow_pruning(layer)):
            vars(layer).update(shown)  # untracked: they are no part of the layer's state


def _wrappable(roots: Sequence[Any]) -> Iterator[Any]:
    for root in roots:
        if isinstance(root, keras.Model):
            yield from _wrappable(direct_layers(root))
        elif not isinstance(root, keras.layers.InputLayer):
            yield root


def hide(roots: Sequence[Any]) -> None:
    """Undo `show`."""
    for layer in walk_layers(roots):
        if Options.__dataclass_fields__.keys() <= vars(layer).keys():
            for name in Options.__dataclass_fields__:
                del vars(layer)[name]


def set_layer_options(to_prune: Any, given: dict[str, Any]) -> None:
    """Set the options of a layer that were given with it.

    Raises:
        OptionError: If one is unknown or invalid, or it is not a single layer.
    """
    for name in sorted(given):
        if name not in _LAYER_OPTIONS:
            raise OptionError(
                f"prune_low_magnitude: unexpected argument {name!r}; a layer may be given with "
                f"{', '.join(_LAYER_OPTIONS)}. Set others on the layer itself"
            )
        if not isinstance(to_prune, keras.layers.Layer) or isinstance(to_prune, keras.Model):
            raise OptionError(
                f"prune_low_magnitude: {name} is for single layers; leave it out for a model or "
                "a list"
            )
    for name, value in given.items():
        _LAYER_OPTIONS[name](to_prune, value)


def _set_shape(layer: Any, shape: Any) -> None:
    if not isinstance(shape, list | tuple) or not all(s is None or type(s) is int for s in shape):
        raise OptionError(f"input_shape: expected sizes, as (28, 28, 1). Received {shape!r}.")
    set_input_shape(layer, tuple(shape))


def _set_batch_shape(layer: Any, shape: Any) -> None:
    if not isinstance(shape, list | tuple) or not shape or shape[0] is not None:
        raise OptionError(
            f"batch_input_shape: expected None as batch size, as (None, 28). Received {shape!r}. "
            "For a fixed one, begin the model with keras.Input(batch_shape=…)"
        )
    _set_shape(layer, shape[1:])


_LAYER_OPTIONS: dict[str, Callable[[Any, Any], None]] = {
    "input_shape": _set_shape,
    "input_dim": lambda layer, size: _set_shape(layer, (size,)),
    "batch_input_shape": _set_batch_shape,
    "trainable": lambda layer, value: setattr(layer, "trainable", value),
}
