"""What pruning reads of Keras's optimizers: the updates they have done, the averages they keep."""

from typing import Any

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import counted_batches, kept_average, optimizer_at_work


def optimizer_of(model: Any) -> Any:
    """Return a model's optimizer, which steps are counted by.

    Raises:
        ModelError: It has none, or one that counts no steps.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ModelError(
            "UpdatePruningStep: the model has no optimizer to count steps by; compile it, or "
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
    """Return how many batches an optimizer has been given."""
    return _number(counted_batches(_innermost(optimizer)))


def batches_per_update(optimizer: Any) -> int:
    """Return how many batches make one update: `gradient_accumulation_steps`, or 1."""
    return getattr(_innermost(optimizer), "gradient_accumulation_steps", None) or 1


def average_of(variable: Any) -> Any:
    """Return the average that the optimizer now updating a variable keeps of it, or None.

    For constraints, which an optimizer calls from within its `apply`.
    """
    optimizer = optimizer_at_work()
    return None if optimizer is None else kept_average(optimizer, variable)


def _innermost(optimizer: Any) -> Any:
    while (inner := getattr(optimizer, "inner_optimizer", None)) is not None:
        optimizer = inner
    return optimizer


def _number(counter: Any) -> int:
    # A tensor where gradients are gathered over several batches, a variable elsewhere.
    return int(getattr(counter, "value", counter).numpy())
