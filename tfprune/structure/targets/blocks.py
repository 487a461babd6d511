"""A share of the residual blocks."""

from collections.abc import Sequence

import numpy as np

from tfprune.errors import FilterError, ModelError, OptionError, nearest
from tfprune.structure.depth.choose_blocks import judge_blocks
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, branches_of, uncut
from tfprune.structure.select.importance import Evidence
from tfprune.structure.targets.asked import TARGETS, Asked
from tfprune.utils.filters import Filter, choose, matches


@TARGETS.register("blocks")
def cut_blocks(found: Units, asked: Asked) -> Cut:
    """The least important residual blocks go: a share of those that may, and at least one.

    Raises:
        ModelError: There is no block that could go.
        FilterError: A filter matches no block that could go.
        OptionError: The importance can judge none.
    """
    assert asked.cost is not None
    pool = [block for block in found.blocks if block.removable]
    if not pool:
        why = [f"{block.name}: {block.reason}" for block in found.blocks]
        raise ModelError(
            f"model {found.model.name!r} has no residual block that could be taken out"
            + (f" ({'; '.join(why[:3])})" if why else "")
        )
    _check_filters(found, "only", asked.only)
    _check_filters(found, "skip", asked.skip)
    taken = choose(pool, lambda block: block.names, asked.only, asked.skip)
    pool = [block for block, take in zip(pool, taken, strict=True) if take]
    cut = uncut(found)
    evidence = Evidence(found, cut.weights, asked.data, asked.loss, asked.seed)
    scores = judge_blocks(asked.importance, evidence, pool)
    known = np.flatnonzero(~np.isnan(scores))
    notes = tuple(
        f"block {block.name} stays: the importance has nothing to judge it by"
        for block, score in zip(pool, scores, strict=True)
        if np.isnan(score)
    )
    if not len(known):
        raise OptionError(
            f"shrink importance: {asked.importance!r} has nothing to judge any of the "
            f"{len(pool)} blocks by, which it judges by the channels that they add to. Take taylor "
            "or activation with data=: they judge what a block adds"
        )
    count = max(round(asked.cost.value * len(pool)), 1)
    # Among equals the earlier stays.
    order = known[np.lexsort((-known, scores[known]))]
    gone = [pool[place] for place in sorted(order[:count])]
    return cut.without(branches_of(gone, notes), asked.input_shape)


def _check_filters(found: Units, option: str, filters: Sequence[Filter]) -> None:
    """Raise for a filter that is about no block that could go, saying why where it is known.

    Raises:
        FilterError: Naming the filter, and what there is.
    """
    for entry in filters:
        hits = [block for block in found.blocks if matches(entry, block, block.names)]
        if any(block.removable for block in hits):
            continue
        what = "the predicate" if callable(entry) else repr(entry)
        if hits:
            raise FilterError(f"{option}: {what} cannot be taken out: {hits[0].reason}")
        known = [block.name for block in found.blocks if block.removable]
        raise FilterError(f"{option}: {what} matches no block. {nearest(str(entry), known)}")
