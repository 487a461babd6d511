"""Clustering the weights of a Keras 3 model, and ending it: `cluster`, `strip_clustering`."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import keras

from tfprune.clustering.centroids import INITS
from tfprune.clustering.shared import SharedValues, Sharing, channel_axis
from tfprune.errors import ModelError, OptionError, ScheduleWarning, TfpruneError, type_name
from tfprune.graph.kernels import (
    PrunableKernel,
    Skipped,
    attach_when_built,
    axes_of,
    find_kernels,
    refuse_unknown,
    stop_waiting,
    walk_layers,
)
from tfprune.keras_support.internals import own_variables
from tfprune.keras_support.models import refuse_quantized
from tfprune.sparsity.pruning import retrace, roots_of
from tfprune.utils.filters import Filters, as_filters, check_used, choose

_log = logging.getLogger(__name__)

M = TypeVar("M")  # a model, a layer, or a list of layers


def cluster(
    model: M,
    clusters: int = 16,
    *,
    init: str = "kmeans++",
    per_channel: bool = False,
    keep_zeros: bool = True,
    only: Filters[PrunableKernel] = (),
    skip: Filters[PrunableKernel] = (),
    strict: bool = False,
    seed: int = 0,
) -> M:
    """Make the weights of each kernel share a few values, which training goes on to change.

    It returns the same model, with nothing wrapped or renamed: the optimizer puts the weights on
    the nearest of their values in every step, as it holds the zeros of `prune`. Train a few epochs
    at a small rate, then call `strip_clustering`. Saved models do not hold shared values: call
    `cluster` again after loading, which goes on with the values that it finds.
    If only a part of a model is clustered, `compile()` the whole model afterwards.

    Args:
        model: A trained Keras 3 model, layer, or list of layers. Layers that are not built yet are
            clustered when they are.
        clusters: The most values that a kernel may have, 2 or more.
        init: Where they begin: `kmeans++`, `linear`, `density` or `random`.
        per_channel: Whether each output channel of a convolution has values of its own.
        keep_zeros: Whether weights that are 0, as after `prune`, stay 0. It is one of the values.
        only: Names, regexes on variable paths, or predicates: cluster only these.
        skip: Kernels not to cluster, in the same forms.
        strict: Raise if a layer has weights but no kernel that tfprune knows.
        seed: Seed of `kmeans++` and `random`.

    Returns:
        `model` itself.

    Raises:
        ModelError: Nothing can be clustered, masks of `prune` hold it, or a layer is unknown and
            `strict`.
        FilterError: A filter matches no kernel.
        OptionError: An option is not among those allowed.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
        >>> model = cluster(model, 4)
        >>> np.unique(model.layers[0].kernel).size
        4
    """
    check_count("clusters", clusters)
    sharing = Sharing(clusters, INITS[init], per_channel, keep_zeros, seed)
    filters = as_filters("only", only), as_filters("skip", skip)
    return start(model, Clustering(sharing, *filters), strict=strict)


def check_count(name: str, clusters: Any) -> None:
    """Raise OptionError unless an argument of this name is a number of clusters."""
    if isinstance(clusters, bool) or not isinstance(clusters, int) or clusters < 2:
        raise OptionError(f"{name}: expected a whole number, 2 or more. Received {clusters!r}.")


class Clustering:
    """One call of `cluster`: the kernels it holds, and those it does not.

    Args:
        sharing: Its options.
        only: Its filters.
        skip: Likewise.
        again: Whether kernels that are clustered already are clustered anew.
    """

    def __init__(
        self,
        sharing: Sharing,
        only: Sequence[Any] = (),
        skip: Sequence[Any] = (),
        *,
        again: bool = True,
    ) -> None:
        self.sharing, self.only, self.skip, self.again = sharing, only, skip, again
        self.held: list[SharedValues] = []
        self.skipped = sharing.skipped
        self.seen: list[PrunableKernel] = []

    def attach(self, roots: Sequence[Any]) -> None:
        """Cluster the kernels below some layers; those of unbuilt layers when they are built."""
        for layer in list(walk_layers(roots)):
            if not layer.built:
                attach_when_built(self, "clustering", layer)
        kernels, skipped = _kernels(roots)
        known = {entry.layer for entry in self.skipped}
        self.skipped += [entry for entry in skipped if entry.layer not in known]
        before = {id(kernel.variable) for kernel in self.seen}
        kernels = [kernel for kernel in kernels if id(kernel.variable) not in before]
        self.seen += kernels
        chosen = choose(kernels, PrunableKernel.names, self.only, self.skip)
        for kernel, take in zip(kernels, chosen, strict=True):
            reason = self._reason_to_leave(kernel) if take else "left out by only= or skip="
            if reason:
                kind = type_name(kernel.layer)
                self.skipped.append(Skipped(kernel.path, kind, reason, usual=True))
            else:
                self.held.append(SharedValues(kernel, self.sharing))

    def _reason_to_leave(self, kernel: PrunableKernel) -> str:
        before = kernel.variable.constraint
        if getattr(before, "is_pruning_mask", False):
            raise ModelError(
                f"cluster: masks of prune() hold {kernel.path}; call strip_pruning() first: "
                "keep_zeros=True then keeps the zeros"
            )
        if isinstance(before, SharedValues) and not self.again:
            return "clustered by an earlier call"
        axis = channel_axis(kernel) if self.sharing.per_channel else None
        rows = 1 if axis is None else kernel.shape[axis]
        size = _size(kernel) // rows
        if size <= self.sharing.clusters:
            each = "" if axis is None else " in each channel"
            return f"{size} weights{each} are no more than {self.sharing.clusters} clusters"
        return ""

    def detach(self, roots: Sequence[Any]) -> None:
        """Undo `attach`."""
        for held in reversed(self.held):
            held.undo()
        stop_waiting(roots, "clustering", self)


def start(model: Any, clustering: Clustering, *, strict: bool = False) -> Any:
    """Cluster a model, layer or list of layers, and return it."""
    roots = roots_of(model, "cluster")
    refuse_quantized(*roots)
    try:
        clustering.attach(roots)
        _check_start(clustering, model, roots, strict)
    except TfpruneError:
        clustering.detach(roots)
        raise
    for entry in clustering.skipped:
        _log.info("not clustered: %s (%s): %s", entry.layer, entry.kind, entry.reason)
    for root in roots:
        retrace(root)
    return model


def _check_start(clustering: Clustering, model: Any, roots: list[Any], strict: bool) -> None:
    if strict:
        refuse_unknown(clustering.skipped, "cluster", "clustered")
    if all(layer.built for layer in walk_layers(roots)):
        check_used(clustering.seen, PrunableKernel.names, clustering.only, clustering.skip)
        if isinstance(model, keras.Model) and not shared_values_of(model):
            raise ModelError(
                f"cluster: the model {model.name!r} has no kernel of more than "
                f"{clustering.sharing.clusters} weights to cluster"
            )


def strip_clustering(model: M) -> M:
    """Remove what holds the shared values of a trained model, and return the model.

    Warns:
        ScheduleWarning: If weights did not share values any more, since something other than the
            optimizer had changed them, so that the accuracy measured before is not this model's.
    """
    roots = roots_of(model, "strip_clustering")
    stop_waiting(roots, "clustering")
    held = [one for root in roots for one in shared_values_of(root)]
    moved = {one.kernel.path: count for one in held if (count := one.release())}
    if moved:
        warnings.warn(
            f"strip_clustering: put {sum(moved.values()):,} weights of {', '.join(moved)} back on "
            "shared values, which something other than the optimizer had changed (an average of "
            "weights, restored weights): evaluate the model again",
            ScheduleWarning,
            stacklevel=2,
        )
    for root in roots:
        retrace(root)
    return model


def shared_values_of(model: Any) -> list[SharedValues]:
    """Return what holds the shared values of a model, in the order of its layers."""
    found: dict[int, SharedValues] = {}
    for layer in walk_layers([model]):
        for variable in own_variables(layer):
            if isinstance(variable.constraint, SharedValues):
                found.setdefault(id(variable), variable.constraint)
    return list(found.values())


def clustering_notes(model: Any) -> list[str]:
    """Return a line on each kernel that shares values, and on each layer that does not."""
    held = shared_values_of(model)
    skipped = {entry.layer: entry for one in held for entry in one.sharing.skipped}
    return [
        *(f"clustered: {one.kernel.path}: {one.values()} values" for one in held),
        *(f"not clustered: {entry.layer}: {entry.reason}" for entry in skipped.values()),
    ]


def _kernels(roots: Sequence[Any]) -> tuple[list[PrunableKernel], list[Skipped]]:
    """Return the kernels below some layers, and the layers without one.

    Layers with `get_clusterable_weights` name theirs.
    """
    own = {
        id(layer): layer
        for layer in walk_layers(roots)
        if hasattr(layer, "get_clusterable_weights")
    }
    kernels, skipped = find_kernels(roots)
    kernels = [kernel for kernel in kernels if id(kernel.layer) not in own]
    names = {layer.name for layer in own.values()}
    skipped = [entry for entry in skipped if entry.layer not in names]
    for layer in own.values():
        kernels += _named(layer) if layer.built else ()
    return kernels, skipped


def _named(layer: Any) -> Iterator[PrunableKernel]:
    algorithm = getattr(layer, "get_clusterable_algorithm", lambda name: None)
    for name, variable in layer.get_clusterable_weights():
        if algorithm(name) is not None:
            raise ModelError(
                f"{layer.name}: get_clusterable_algorithm({name!r}) gives an algorithm; layers of "
                "Keras 3 have no other than that of tfprune: return None"
            )
        if not isinstance(variable, keras.Variable):
            raise ModelError(
                f"{layer.name}: get_clusterable_weights() gives {type_name(variable)} for "
                f"{name!r}; give pairs of a name and a variable of the layer"
            )
        rank = len(variable.shape)
        axes = axes_of(layer, variable) if rank >= 2 else ((), tuple(range(rank)), ())
        yield PrunableKernel(variable.path, layer, variable, axes)


def _size(kernel: PrunableKernel) -> int:
    size = 1
    for length in kernel.shape:
        size *= length
    return size
