"""A model's weights as arrays: sliced, or zeroed for removed units."""

from collections.abc import Callable

import numpy as np

from tfprune.graph.rebuild import Weights
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import Binding, Ids, Keep, Site, places


def sliced(found: Units, weights: Weights, keep: Keep) -> Weights:
    """Return these weights, which may be of some layers only, without the removed positions."""
    result = dict(weights)
    for site in found.sites:
        if id(site.op) in weights:
            result[id(site.op)] = _slice_site(site, weights[id(site.op)], keep)
    return result


def _slice_site(site: Site, weights: list[np.ndarray], keep: Keep) -> list[np.ndarray]:
    result = list(weights)
    place = places(site.op)
    for binding in sorted(site.bindings, key=lambda b: b.along is None):
        index = place[id(binding.weight)]
        result[index] = _slice_axis(result[index], binding, keep)
    for weight, change in site.factors:
        index = place[id(weight)]
        result[index] = (result[index] * change(keep)).astype(result[index].dtype)
    return result


def _slice_axis(weight: np.ndarray, binding: Binding, keep: Keep) -> np.ndarray:
    def fewer(block: np.ndarray, ids: Ids) -> np.ndarray:
        return np.compress(keep.mask(ids), block, axis=binding.axis)

    return weight if keep.all(binding.ids) else _by_block(weight, binding, fewer)


def _by_block(
    weight: np.ndarray, binding: Binding, change: Callable[[np.ndarray, Ids], np.ndarray]
) -> np.ndarray:
    """Apply `change` to each block of a weight and its ids; an ungrouped weight is one block."""
    if binding.along is None:
        return change(weight, binding.ids)
    blocks = np.split(weight, len(binding.ids), axis=-1)
    pairs = zip(blocks, binding.ids, strict=True)
    return np.concatenate([change(block, ids) for block, ids in pairs], axis=-1)


def zeroed(found: Units, weights: Weights, keep: Keep) -> Weights:
    """Return all weights in full size, zero where they use removed units."""
    result = dict(weights)
    for site in found.sites:
        used = [b for b in site.bindings if b.role == "use" and not keep.all(b.ids)]
        used += [b for b in site.zeroed if not keep.all(b.ids)]
        if not used:
            continue
        arrays = list(weights[id(site.op)])
        place = places(site.op)
        for binding in used:
            index = place[id(binding.weight)]
            arrays[index] = _zero_axis(arrays[index], binding, keep)
        result[id(site.op)] = arrays
    return result


def _zero_axis(weight: np.ndarray, binding: Binding, keep: Keep) -> np.ndarray:
    shape = [-1 if axis == binding.axis else 1 for axis in range(weight.ndim)]

    def masked(block: np.ndarray, ids: Ids) -> np.ndarray:
        return block * keep.mask(ids).reshape(shape).astype(weight.dtype)

    return _by_block(weight, binding, masked)
