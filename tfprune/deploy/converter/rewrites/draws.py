"""Random numbers that a graph draws."""

import re
from collections.abc import Sequence
from typing import Any

from tfprune.errors import ConversionError

_DRAWS = re.compile(r"Random|TruncatedNormal|Multinomial|Shuffle")
# These only prepare the seed of a draw.
_SEEDS = re.compile(r"^StatelessRandomGet|^RngReadAndSkip$")


def refuse_draws(functions: Sequence[Any], model: str, *, means: bool) -> None:
    """Raise if a result of a graph depends on random numbers.

    A file would give other numbers than the model, or the same ones always.

    Args:
        functions: The `FunctionDef`s of a SavedModel.
        model: The name of the model.
        means: Whether the means of normal and uniform distributions are drawn already.

    Raises:
        ConversionError: It does.
    """
    for function in functions:
        for node in _needed(function):
            if not _DRAWS.search(node.op) or _SEEDS.search(node.op):
                continue
            reason = (
                "random='mean' is for normal and uniform distributions: return the most probable "
                "value instead where training is False"
                if means
                else "give random='mean' to put the mean of the distribution in their place"
            )
            where = node.name.rpartition("/")[0] or node.name
            raise ConversionError(
                f"model {model!r} draws random numbers in {where!r} ({node.op}), and a file would "
                f"not draw the same; {reason}"
            )


def _needed(function: Any) -> list[Any]:
    """Return the nodes that the results of a function depend on."""
    by_name = {node.name: node for node in function.node_def}
    found: dict[str, Any] = {}
    names = list(function.ret.values())
    while names:
        name = names.pop().partition(":")[0]
        if name in by_name and name not in found:
            found[name] = by_name[name]
            names += [other for other in by_name[name].input if not other.startswith("^")]
    return list(found.values())
