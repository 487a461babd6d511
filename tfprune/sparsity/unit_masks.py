"""Masks for whole units, which close them while a model trains.

A closed unit's output is always the same constant, so `shrink` can remove it. A unit is closed
where it is made: by zeroing its slices of the kernels, and the biases, gammas and betas after
them. Whether that works is tested: one unit of every group is closed in a copy of the weights, and
only groups whose unit `shrink(model, "zeros")` would remove are held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tfprune.errors import ModelError, type_name
from tfprune.graph.kernels import PrunableKernel, Skipped, find_variables
from tfprune.graph.rebuild import Weights, operations, read_weights
from tfprune.keras_support.internals import all_layers, own_fixed
from tfprune.sparsity.choices.allocation import Allocation, Share
from tfprune.sparsity.choices.patterns import WholeUnits
from tfprune.structure.gates.closed_units import closed_units
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import Units, units, vectors
from tfprune.structure.ids.ids import HEADS, MAKE, USE, Binding, positions
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.select.ranking import bundle, check_filters, names_of
from tfprune.utils.filters import as_filters
from tfprune.utils.filters import choose as select

NOT_CLOSED = (
    "zeroing its weights does not close it: it is followed by a BatchNormalization without gamma, "
    "an activation that is nonzero at zero, or a layer into which a constant cannot be folded"
)


@dataclass(frozen=True, eq=False)
class _Held:
    """A held variable, with the axes of its units."""

    kernel: PrunableKernel
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, eq=False)
class Closing:
    """The groups of units of a model that can be closed, and the others with the reason.

    `held` are the variables with slices of these units.
    """

    found: Units
    groups: tuple[Group, ...]
    held: tuple[_Held, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def kernels(self) -> list[PrunableKernel]:
        """All held variables."""
        return [entry.kernel for entry in self.held]

    @cached_property
    def lines(self) -> list[np.ndarray]:
        """The axes that consist only of these units: not all units of one may be closed."""
        ours = np.zeros(self.found.flow.size, bool)
        for group in self.groups:
            ours[group.units] = True
        lines = [np.unique(self.found.root[ids]) for ids in vectors(self.found) if ids.size]
        return [line for line in lines if ours[line].all()]

    def shares(self, scores: Sequence[NDArray]) -> list[Share]:
        """Return a share for each group, from the scores of every variable in full shape.

        A unit's score is the mean over the kernels that make it, each divided by the mean of its
        group in that kernel, so that kernels and groups have equal weight.
        """
        result: list[Share] = []
        for group, unit_scores in zip(self.groups, self._unit_scores(scores), strict=True):
            bundles, sums = bundle(group, unit_scores)
            result.append(UnitShare(group.name, self._shape(group), sums, bundles))
        return result

    def masks(self, shares: Sequence[Share], counts: Sequence[int]) -> list[NDArray[np.bool_]]:
        """Return the mask of every variable if `counts` bundles of the groups are kept."""
        closed = np.zeros(self.found.flow.size, bool)
        home: dict[int, tuple[float, np.ndarray]] = {}
        for share, count in zip(shares, counts, strict=True):
            assert isinstance(share, UnitShare)
            for row in range(len(share.units) - count):
                units_here = share.bundles[row]
                closed[units_here] = True
                home.update((int(unit), (share.units[row], units_here)) for unit in units_here)
        for line in self.lines:
            if closed[line].all():
                _, best = max((home[int(unit)] for unit in line), key=lambda entry: entry[0])
                closed[best] = False
        return self.masks_of(closed)

    def masks_of(self, closed: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """Return the mask of every variable if the units of these roots are closed."""
        kept_mask = ~closed[self.found.root]
        masks = []
        for entry in self.held:
            mask = np.ones(entry.kernel.shape, bool)
            for binding in entry.bindings:
                # `_rows` yields views: writing to them writes to the mask.
                for ids, rows in _rows(mask, binding):
                    rows[~kept_mask[ids]] = False
            masks.append(mask)
        return masks

    def _shape(self, group: Group) -> tuple[int, ...]:
        """Return the shape of the first kernel that makes the units of a group."""
        ours = np.isin(self.found.root, group.units)
        return next(
            entry.kernel.shape
            for entry in self.held
            for binding in entry.bindings
            if binding.role == MAKE and ours[binding.ids].any()
        )

    def _unit_scores(self, scores: Sequence[NDArray]) -> list[NDArray]:
        """Return the score of each unit of each group."""
        size, root = self.found.flow.size, self.found.root
        total = [np.zeros(len(group.units)) for group in self.groups]
        members = np.zeros(len(self.groups))
        for entry, array in zip(self.held, scores, strict=True):
            for binding in entry.bindings:
                if binding.role != MAKE or array.ndim < 2:
                    continue
                sums, counts = np.zeros(size), np.zeros(size)
                for ids, rows in positions(np.asarray(array, np.float64), binding):
                    np.add.at(sums, root[ids], rows.mean(axis=1))
                    np.add.at(counts, root[ids], 1)
                for place, group in enumerate(self.groups):
                    here = counts[group.units]
                    if here.any():
                        means = sums[group.units] / np.maximum(here, 1)
                        scale = np.abs(means).mean()
                        total[place] += means / scale if scale > 0 else means
                        members[place] += 1
        # The mean over the members; with a sum, units that many layers make would score highest.
        return [part / max(count, 1) for part, count in zip(total, members, strict=True)]


@dataclass(frozen=True)
class UnitShare(Share):
    """A share whose units are bundles of roots, in the order of their scores."""

    bundles: NDArray


def _rows(mask: NDArray[np.bool_], binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids along an axis of a mask, and a view of the mask with that axis first."""
    if binding.along is None:
        yield binding.ids, np.moveaxis(mask, binding.axis, 0)
        return
    for ids, block in zip(binding.ids, np.split(mask, len(binding.ids), axis=-1), strict=True):
        yield ids, np.moveaxis(block, binding.axis, 0)


def units_to_close(model: Any, kind: str, only: Any, skip: Any) -> Closing:
    """Return the units of a model that can be closed while it trains.

    `kind` is "head" for attention heads, and "channel" for all other units.

    Raises:
        ModelError: The model cannot be read, or has no such units.
        FilterError: A filter matches no group.
    """
    found = units(model)
    only, skip = as_filters("only", only), as_filters("skip", skip)
    check_filters(found, "only", only)
    check_filters(found, "skip", skip)
    mine = [group for group in found.groups if (group.kind == HEADS) == (kind == "head")]
    several = [group for group in mine if group.bundle_count > 1]
    taken = select(several, names_of, only, skip)
    chosen = [group for group, take in zip(several, taken, strict=True) if take]
    skipped = [
        _skipped(group, "left out by only= or skip=", usual=True)
        for group, take in zip(several, taken, strict=True)
        if not take
    ]
    skipped += [_skipped(g, "a single unit", usual=True) for g in mine if g.bundle_count == 1]
    closing = Closing(found, tuple(chosen), _held(found, chosen))
    closable, others = _try(closing)
    skipped += others
    if kind == "channel":
        lines = dict.fromkeys((line.layer, line.reason) for line in found.frozen)
        skipped += [Skipped(layer, "units", reason, usual=True) for layer, reason in lines]
    if not closable:
        why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in skipped[:3])
        raise ModelError(
            f"prune: pattern {kind!r} finds no units to close in model {model.name!r}"
            + (f" ({why})" if why else "")
        )
    return Closing(found, closable, _held(found, closable), tuple(skipped))


def _skipped(group: Group, reason: str, *, usual: bool) -> Skipped:
    return Skipped(group.name, type_name(group.producers[0].op), reason, usual)


def _held(found: Units, groups: Sequence[Group]) -> tuple[_Held, ...]:
    """Return the trainable variables that make the units of some groups or run along them."""
    ours = np.zeros(found.flow.size, bool)
    for group in groups:
        ours[group.units] = True
    ours = ours[found.root]
    statistics = {
        id(variable)
        for op in operations(found.graph)
        if isinstance(op, keras.Layer)
        for layer in all_layers(op)
        for variable in own_fixed(layer)
    }
    axes: dict[int, list[Binding]] = {}
    for _, binding in found.bindings:
        if binding.role != USE and id(binding.weight) not in statistics and ours[binding.ids].any():
            axes.setdefault(id(binding.weight), []).append(binding)
    kernels = {id(kernel.variable): kernel for kernel in find_variables([found.model])}
    # A variable that is not a weight of the model cannot be held; `_try` tests the effect.
    return tuple(_Held(kernels[key], tuple(axes[key])) for key in axes if key in kernels)


def _try(closing: Closing) -> tuple[tuple[Group, ...], list[Skipped]]:
    """Return the groups whose closed units can be removed, and the others with the reason."""
    found = closing.found
    closed = np.zeros(found.flow.size, bool)
    for group in closing.groups:
        rows = np.stack([group.units[group.blocks == b] for b in range(group.block_count)], axis=1)
        for row in rows:
            closed[row] = True
            if not any(closed[line].all() for line in closing.lines):
                break
            closed[row] = False
    weights = read_weights(found.graph)
    masks = {
        id(entry.kernel.variable): mask
        for entry, mask in zip(closing.held, closing.masks_of(closed), strict=True)
    }
    removable = np.ones(found.flow.size, bool)
    # A ReLU may hide the effect of a mean of one sign: both are tried.
    for sign in (1, -1):
        trial = _trial(found, weights, masks, sign)
        mapping = [
            (variable, keras.ops.convert_to_tensor(array, dtype=variable.dtype))
            for op in operations(found.graph)
            if isinstance(op, keras.Layer)
            for variable, array in zip(op.weights, trial[id(op)], strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping):
            removed = closed_units(Cut(found, found, trial), gates=False).removed
        removable &= np.isin(np.arange(found.flow.size), removed)
    closable, others = [], []
    for group in closing.groups:
        tried = group.units[closed[group.units]]
        if len(tried) and removable[tried].all():
            closable.append(group)
        else:
            reason = group.reasons[0] if group.reasons else NOT_CLOSED
            others.append(_skipped(group, reason, usual=False))
    return tuple(closable), others


def _trial(
    found: Units, weights: Weights, masks: dict[int, NDArray[np.bool_]], sign: int
) -> Weights:
    """Return the weights with some units closed, and with statistics as after training."""
    rng = np.random.default_rng(0)
    result: Weights = {}
    for op in operations(found.graph):
        if not isinstance(op, keras.Layer):
            continue
        arrays = []
        for variable, array in zip(op.weights, weights[id(op)], strict=True):
            if variable.name in ("moving_mean", "moving_variance"):
                spread = rng.uniform(0.5, 1.5, array.shape).astype(array.dtype)
                array = sign * spread if variable.name == "moving_mean" else spread
            elif id(variable) in masks:
                array = np.where(masks[id(variable)], array, 0).astype(array.dtype)
            arrays.append(array)
        result[id(op)] = arrays
    return result


def join(pattern: WholeUnits, roots: Sequence[Any], only: Any, skip: Any) -> Closing:
    """Return the units of a model that a pattern can close.

    Raises:
        ModelError: If the root is not a whole built model, or it has no such unit.
        FilterError: If a filter matches no group of units.
    """
    if len(roots) != 1 or not isinstance(roots[0], keras.Model):
        received = ", ".join(type_name(root) for root in roots)
        raise ModelError(
            f"prune: pattern {pattern.kind!r} needs the whole model, since units span several "
            f"layers. Received {received}. Pass the model, and select layers with only="
        )
    return units_to_close(roots[0], pattern.kind, only, skip)


def choose_masks(
    joint: Closing,
    scores: Sequence[NDArray],
    allocation: Allocation,
    sparsity: float,
    progress: float,
) -> list[NDArray[np.bool_]]:
    """Return the mask of every held variable."""
    shares = joint.shares(scores)
    return joint.masks(shares, allocation(shares, sparsity, progress))


def are_closed(
    joint: Closing, arrays: Sequence[NDArray], allocation: Allocation, sparsity: float
) -> bool:
    """Return whether as many units are zero as a sparsity requires."""
    shares = joint.shares([np.abs(array) for array in arrays])
    wanted = sum(
        share.units.size - count
        for share, count in zip(shares, allocation(shares, sparsity, 1.0), strict=True)
    )
    zero = sum(int(np.count_nonzero(share.units == 0)) for share in shares)
    return zero >= 0.99 * wanted
