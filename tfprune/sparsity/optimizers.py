"""Reading the number of updates and the averages of weights from Keras optimizers."""

from typing import Any

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import counted_batches, kept_average, optimizer_at_work


def optimizer_of(model: Any) -> Any:
    """Return a model's optimizer, which counts the steps.

    Raises:
        ModelError: There is none, or it counts no steps.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ModelError(
            "UpdatePruningStep: the model has no optimizer to count steps; compile it, or "
            "set model.optimizer to the one your training loop uses"
        )
    if not hasattr(optimizer, "iterations"):
        raise ModelError(
            f"UpdatePruningStep: expected an optimizer that counts its steps as `iterations`. "
            f"Received {type_name(optimizer)}. Use one of keras.optimizers"
        )
    return optimizer


def updates_of(optimizer: Any) -> int:
    """Return how many updates of the weights an optimizer has done."""
    return _number(optimizer.iterations)


def batches_of(optimizer: Any) -> int:
    """Return how many batches an optimizer has processed."""
    return _number(counted_batches(_innermost(optimizer)))


def batches_per_update(optimizer: Any) -> int:
    """Return how many batches make one update: `gradient_accumulation_steps`, or 1."""
    return getattr(_innermost(optimizer), "gradient_accumulation_steps", None) or 1


def average_of(variable: Any) -> Any:
    """Return the average of a variable that the current optimizer keeps, or None.

    For constraints, which an optimizer calls in its `apply`.
    """
    optimizer = optimizer_at_work()
    return None if optimizer is None else kept_average(optimizer, variable)


def _innermost(optimizer: Any) -> Any:
    while (inner := getattr(optimizer, "inner_optimizer", None)) is not None:
        optimizer = inner
    return optimizer


def _number(counter: Any) -> int:
    # A tensor if gradients are accumulated over several batches, otherwise a variable.
    return int(getattr(counter, "value", counter).numpy())
