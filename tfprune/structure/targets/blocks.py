"""The target that removes a share of the residual blocks."""

from collections.abc import Sequence

import numpy as np

from tfprune.errors import FilterError, ModelError, OptionError, nearest
from tfprune.structure.depth.choose_blocks import score_blocks
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, branches_of, uncut
from tfprune.structure.select.importance import UnitEvidence
from tfprune.structure.targets.options import TARGETS, ShrinkOptions
from tfprune.utils.filters import Filter, choose, matches


@TARGETS.register("blocks")
def cut_blocks(found: Units, options: ShrinkOptions) -> Cut:
    """Remove a share of the removable residual blocks, the least important; at least one.

    Raises:
        ModelError: No block is removable.
        FilterError: A filter matches no removable block.
        OptionError: The importance is defined for none of the blocks.
    """
    assert options.cost is not None
    pool = [block for block in found.blocks if block.removable]
    if not pool:
        why = [f"{block.name}: {block.reason}" for block in found.blocks]
        raise ModelError(
            f"model {found.model.name!r} has no removable residual block"
            + (f" ({'; '.join(why[:3])})" if why else "")
        )
    _check_filters(found, "only", options.only)
    _check_filters(found, "skip", options.skip)
    taken = choose(pool, lambda block: block.names, options.only, options.skip)
    pool = [block for block, take in zip(pool, taken, strict=True) if take]
    cut = uncut(found)
    evidence = UnitEvidence(found, cut.weights, options.data, options.loss, options.seed)
    scores = score_blocks(options.importance, evidence, pool)
    known = np.flatnonzero(~np.isnan(scores))
    notes = tuple(
        f"block {block.name} kept: the importance is not defined for it"
        for block, score in zip(pool, scores, strict=True)
        if np.isnan(score)
    )
    if not len(known):
        raise OptionError(
            f"shrink importance: {options.importance!r} is not defined for any of the {len(pool)} "
            "blocks: it is computed from the channels that they add to. Use taylor or activation "
            "with data=, which are computed from the output of a block"
        )
    count = max(round(options.cost.value * len(pool)), 1)
    # Of equally important blocks the earlier is kept.
    order = known[np.lexsort((-known, scores[known]))]
    removed = [pool[place] for place in sorted(order[:count])]
    return cut.without(branches_of(removed, notes), options.input_shape)


def _check_filters(found: Units, option: str, filters: Sequence[Filter]) -> None:
    """Raise for a filter that matches no removable block, with the reason if there is one.

    Raises:
        FilterError: Names the filter, and the nearest block.
    """
    for entry in filters:
        hits = [block for block in found.blocks if matches(entry, block, block.names)]
        if any(block.removable for block in hits):
            continue
        what = "the predicate" if callable(entry) else repr(entry)
        if hits:
            raise FilterError(f"{option}: {what} cannot be removed: {hits[0].reason}")
        known = [block.name for block in found.blocks if block.removable]
        raise FilterError(f"{option}: {what} matches no block. {nearest(str(entry), known)}")
