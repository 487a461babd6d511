"""The task that a model shows by itself, before there are labels: for the first recipe of it."""

from dataclasses import dataclass
from typing import Any

import keras

from tfprune.graph.ends import activation_of, last_layer
from tfprune.keras_support.internals import layers_below
from tfprune.pipeline.losses import compiled_with, loss_names, output_names, shows_task
from tfprune.task.task import TASKS, Task


@dataclass(frozen=True)
class Guess:
    """The task of a model.

    Attributes:
        task: The task; None if only the labels show it.
        why: What it was told from.
        compiled: Whether a run takes it from the compiled model by itself.
    """

    task: Task | None
    why: str
    compiled: bool = False

    @property
    def labels(self) -> str:
        """Return what the labels are, in words."""
        if self.task is None:
            return "labels: class numbers, or numbers in the shape of the output"
        if self.task.outputs:
            parts = [
                f"{name}: {TASKS[part.name].labels}" for name, part in self.task.outputs.items()
            ]
            return f"labels, a dict: {'; '.join(parts)}"
        return f"labels: {self.task.kind.labels}"


def guess_of_model(model: keras.Model) -> Guess:
    """Return the task of a model: that of its loss, if it is compiled, or of its outputs."""
    losses = loss_names(model)
    if losses:
        told = compiled_with(model, None) if all(map(shows_task, losses)) else None
        named = ", ".join(dict.fromkeys(filter(None, losses)))
        return Guess(told.task if told else None, f"the loss {named}", compiled=True)
    names = output_names(model)
    found = [_of_output(model, out) for out in model.outputs]
    open_ones = [why for kind, why in found if not kind]
    if open_ones:
        return Guess(None, open_ones[0])
    if len(found) == 1:
        return Guess(Task(found[0][0]), found[0][1])
    outputs = {name: kind for name, (kind, _) in zip(names, found, strict=True)}
    why = "; ".join(f"{name}: {why}" for name, (_, why) in zip(names, found, strict=True))
    return Guess(Task(outputs=outputs), why)


def _of_output(model: keras.Model, output: Any) -> tuple[str, str]:
    """Return the kind of task of an output, and why; "" if it may be one of two."""
    shape, layer = tuple(output.shape[1:]), last_layer(output)
    activation = activation_of(layer)
    one = shape[-1] == 1 if shape else True
    ends = f"an output of shape {shape}" + (f" after {activation}" if activation else "")
    if isinstance(layer, keras.layers.UnitNormalization):
        return "retrieval", "vectors of length 1"
    if activation == "softmax":
        return {2: _of_steps(model, shape), 3: "segmentation"}.get(
            len(shape), "classification"
        ), ends
    inputs = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if inputs == [shape] and "float" in model.inputs[0].dtype:
        return "autoencoder", f"the output has the shape of the input, {shape}"
    if len(shape) == 3 and inputs[0][:2] == shape[:2]:
        return "segmentation", ends
    if len(shape) == 2 and not one:
        return _of_steps(model, shape), ends
    if activation == "sigmoid" and len(shape) == 1:
        return "classification" if one else "multi_label", ends
    if len(shape) == 1 and not one and not activation:
        return "", f"{shape[0]} numbers may be logits of classes, or a regression"
    return "regression", ends


def _of_steps(model: keras.Model, shape: tuple[int | None, ...]) -> str:
    """Return whether each step is given the next token, or a tag."""
    words = [
        layer.input_dim
        for layer in layers_below(model)
        if isinstance(layer, keras.layers.Embedding)
    ]
    return "language_modeling" if shape[-1] in words else "tagging"
