"""A commented recipe for a model, as a start: what it is, what can be removed, what is tried."""

import math
from typing import Any

import keras

from tfprune.commands.model_task import Guess, guess_of_model
from tfprune.errors import ModelError
from tfprune.graph.kernels import find_kernels
from tfprune.recipe.task_table import table_of
from tfprune.recipe.toml import to_toml
from tfprune.report.figures import count_text, si
from tfprune.structure.groups.units import Units, units

LISTED_GROUPS = 8

TEXT = """\
# {summary}

[model]
source = {source}

[data]
# An .npz with x_train, y_train, x_test and y_test; or package.module:function, which returns
# ((x_train, y_train), (x_test, y_test)), or two datasets. Several inputs are a dict of arrays.
# {inputs}
# {outputs}
# {labels}
source = {data}
# scale = 0.00392156862745098   # if the model takes numbers in [0, 1] and the file holds bytes

{task}
# The model is trained already. To train it further before anything is removed:
# [train]
# epochs = 10
# learning_rate = 1e-4
{shrink}{prune}
[quantize]
# int8: a quarter of the size, and the fastest on phones. auto: built and measured, then chosen.
scheme = "int8"

[gate]
max_drop = 0.01                 # of the task's metric, against the float32 file of this model
"""

COMPILED = """\
# The task is {task}: the model is compiled with {why}.
# A run takes loss, metrics and optimizer from it. To name another task:
# [task]
# name = "regression"
"""

OPEN = """\
# {why}: a run takes the task from the labels,
# and its report says which. To name it:
# [task]
# name = "regression"
"""

GUESSED = """\
# The model is not compiled. Guessed from {why}: check it.
{table}"""

SHRINK = """
[shrink]
# {found}
target = {{ macs = 0.5 }}         # or channels, params, tflite_bytes, blocks
epochs = 10                     # of fine-tuning
learning_rate = 1e-3            # less for a large model that was trained on other data before
# skip = ["head"]               # layers to keep as they are
# {listed}
"""

PRUNE = """
[prune]
# {found}
sparsity = 0.8                  # zeros make the download smaller, not the model faster
allocation = "global"
epochs = 10
learning_rate = 1e-3
"""


def first_recipe(model: keras.Model, source: str, data: str = "data.npz") -> str:
    """Return the text of a recipe for a model.

    Args:
        model: A built Keras 3 model.
        source: The path of its file, as the recipe names it.
        data: The source of the data, likewise.

    Raises:
        ModelError: Nothing of the model can be removed or pruned.

    Example:
        Path("recipe.toml").write_text(first_recipe(model, "model.keras"))
    """
    found, guess = units(model), guess_of_model(model)
    kernels, _ = find_kernels([model])
    if not found.groups and not kernels:
        raise ModelError(f"the model {model.name!r} has nothing to remove: no units, no kernels")
    return TEXT.format(
        summary=f"{model.name}: {count_text(model.count_params())} parameters.",
        source=_quoted(source),
        data=_quoted(data),
        inputs=f"The model takes {_described(model.inputs)}.",
        outputs=f"It returns {_described(model.outputs)}.",
        labels=f"{guess.labels[0].upper()}{guess.labels[1:]}.",
        task=_task(guess),
        shrink=_shrink(found) if found.groups else "",
        prune=PRUNE.format(found=_kernels(kernels)) if kernels else "",
    )


def _task(guess: Guess) -> str:
    if guess.compiled:
        named = guess.task.named if guess.task is not None else "what the labels show"
        return COMPILED.format(task=named, why=guess.why)
    if guess.task is None:
        return OPEN.format(why=guess.why)
    return GUESSED.format(why=guess.why, table=to_toml({"task": table_of(guess.task) or {}}))


def _shrink(found: Units) -> str:
    groups = sorted(found.groups, key=lambda group: -len(group.units))
    listed = ", ".join(f"{group.name} ({len(group.units)})" for group in groups[:LISTED_GROUPS])
    more = len(groups) - LISTED_GROUPS
    return SHRINK.format(
        found=f"{len(groups)} groups of units, with {found.prunable_share:.0%} of the "
        "multiplications, can be removed (tfprune units lists them).",
        listed=f"Groups: {listed}" + (f" and {more} more" if more > 0 else ""),
    )


def _kernels(kernels: list[Any]) -> str:
    weights = sum(math.prod(kernel.shape) for kernel in kernels)
    return f"{len(kernels)} kernels with {si(weights)} weights."


def _described(tensors: list[Any]) -> str:
    return ", ".join(f"{tensor.dtype} of shape {tuple(tensor.shape[1:])}" for tensor in tensors)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
