"""Matching of the weights of a layer with those of its counterpart, by name if possible."""

import re
from typing import Any

from tfprune.errors import ModelError, type_name

_RENAMED = {"depthwise_kernel": "kernel", "sn_u": "vector_u"}
# The name of a weight in Keras 3 if its layer gives none.
_UNNAMED = re.compile(r"variable(_\d+)?$")
# These list the weights of the inner layer as their own.
_WRAPPERS = {"TimeDistributed", "SpectralNormalization"}


def pair_weights(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """Return the weights of a layer with their counterparts in the other generation's layer.

    Raises:
        ModelError: Their numbers, names or shapes do not match.
    """
    theirs, ours = _own(old), _own(new)
    left = {base_name(w): w for w in theirs}
    right = {base_name(w): w for w in ours}
    if len(left) == len(theirs) and left.keys() == right.keys() and len(right) == len(ours):
        pairs = [(left[name], right[name]) for name in left]
        named = True
    else:
        pairs = list(zip(theirs, ours, strict=False))
        named = all(_may_be(base_name(a), base_name(b)) for a, b in pairs)
    shaped = all(tuple(a.shape) == tuple(b.shape) for a, b in pairs)
    if len(theirs) != len(ours) or not named or not shaped:
        raise ModelError(
            f"layer {old.name!r} ({type_name(old)}) has the weights {_listed(theirs)}, and "
            f"{type_name(new)} has {_listed(ours)}; replace the layer"
        )
    return pairs


def base_name(weight: Any) -> str:
    """Return the last part of a weight's name, as Keras 3 has it."""
    name = weight.name.partition(":")[0].rpartition("/")[2]
    return _RENAMED.get(name, name)


def _own(layer: Any) -> list[Any]:
    inner = getattr(layer, "layer", None) if type(layer).__name__ in _WRAPPERS else None
    theirs = {id(weight) for weight in inner.weights} if inner is not None else set()
    return [weight for weight in layer.weights if id(weight) not in theirs]


def _may_be(a: str, b: str) -> bool:
    return a == b or bool(_UNNAMED.match(a) or _UNNAMED.match(b))


def _listed(weights: list[Any]) -> str:
    return ", ".join(f"{base_name(w)}{tuple(w.shape)}" for w in weights) or "none"
