"""The plan of one-shot pruning, made before anything is changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tfprune.errors import ModelError, type_name
from tfprune.few_bits.capture import Calls, survey_calls
from tfprune.few_bits.linear import Linear, read_linear
from tfprune.graph.kernels import PrunableKernel, Skipped, find_kernels, walk_layers
from tfprune.sparsity.choices.allocation import Share
from tfprune.sparsity.choices.patterns import KeepOf, Pattern, Unstructured, of_one_kernel
from tfprune.sparsity.masks import Choices
from tfprune.utils.filters import check_used, choose

MaskOf = Callable[[NDArray], NDArray[np.bool_]]


@dataclass(frozen=True)
class KernelJob:
    """One kernel to prune, with its original values.

    `count` units of the pattern are kept, or the weights of the mask `kept`. `linear` is None if it
    is unknown how the layer multiplies; `reason` says why its inputs are not recorded.
    """

    kernel: PrunableKernel
    weights: NDArray
    pattern: Pattern
    count: int
    linear: Linear | None = None
    calls: int = 0
    reason: str = ""
    kept: NDArray[np.bool_] | None = None

    def mask(self, scores: NDArray) -> NDArray[np.bool_]:
        """Return the mask for scores of the kernel's shape."""
        if self.kept is not None:
            return self.kept
        return self.kernel.unview(self.pattern.mask(self.kernel.view(scores), self.count))

    def stages(self, number: int) -> list[MaskOf]:
        """Return functions from scores to masks of the product matrices, one for each stage."""
        linear, kept = self.linear, self.kept
        assert linear is not None
        if kept is not None:
            return [lambda scores: linear.matrices(self.kernel.view(kept))]

        def chooser(pattern: Pattern, count: int) -> MaskOf:
            return lambda scores: linear.matrices(pattern.mask(linear.view(scores), count))

        return [chooser(*stage) for stage in shrinking(self.pattern, self.count, self.size, number)]

    @property
    def size(self) -> int:
        """Its number of weights."""
        return self.weights.size


def shrinking(pattern: Pattern, count: int, size: int, number: int) -> list[tuple[Pattern, int]]:
    """Return the patterns and counts of the stages that lead to a pattern, the last being itself.

    Unstructured counts shrink by equal ratios; n:m decreases n by one. Other patterns have one
    stage.

    Example:
        >>> shrinking(Unstructured(), 125, 1000, 3)
        [(Unstructured(), 500), (Unstructured(), 250), (Unstructured(), 125)]
        >>> shrinking(KeepOf(2, 4), 0, 1000, 3)
        [(KeepOf(keep=3, of=4), 0), (KeepOf(keep=2, of=4), 0)]
    """
    if isinstance(pattern, Unstructured) and size:
        counts = [round(size * (count / size) ** (k / number)) for k in range(1, number)]
        return [*((pattern, max(c, count)) for c in counts), (pattern, count)]
    if isinstance(pattern, KeepOf):
        first = min(pattern.of - 1, pattern.keep + number - 1)
        return [(KeepOf(keep, pattern.of), 0) for keep in range(first, pattern.keep - 1, -1)]
    return [(pattern, count)]


Find = Callable[[Sequence[Any]], tuple[list[PrunableKernel], list[Skipped]]]


def make_plan(
    model: Any,
    batch: Any,
    choices: Choices,
    sparsity: float,
    find: Find = find_kernels,
    call: str = "prune_oneshot",
) -> tuple[list[KernelJob], list[Skipped]]:
    """Return the kernels to prune, in the order in which the model runs them, and the skipped ones.

    A model that is not built is built by running it on the batch. `find` returns all kernels.

    Raises:
        FilterError: If a filter matches no kernel.
        ModelError: If there is no kernel to prune.
    """
    if not all(layer.built for layer in walk_layers([model])):
        model(batch, training=False)
    kernels, skipped = _choose_kernels(model, choices, find, call)
    arrays = [kernel.variable.value.numpy().astype(np.float64) for kernel in kernels]
    counts = _counts(kernels, arrays, choices, sparsity)
    calls = survey_calls(model, batch, list({id(k.layer): k.layer for k in kernels}.values()))
    pattern = of_one_kernel(choices.pattern, "prune_oneshot")
    jobs = [
        _job(kernel, weights, pattern, count, calls.get(id(kernel.layer)))
        for kernel, weights, count in zip(kernels, arrays, counts, strict=True)
    ]
    never = Calls(order=-1)
    return sorted(jobs, key=lambda job: calls.get(id(job.kernel.layer), never).order), skipped


def _choose_kernels(
    model: Any, choices: Choices, find: Find, call: str
) -> tuple[list[PrunableKernel], list[Skipped]]:
    kernels, skipped = find([model])
    check_used(kernels, PrunableKernel.names, choices.only, choices.skip)
    wanted = choose(kernels, PrunableKernel.names, choices.only, choices.skip)
    chosen = []
    for kernel, want in zip(kernels, wanted, strict=True):
        reason = "" if want else "left out by only= or skip="
        if want and isinstance(kernel.layer, keras.layers.Embedding):
            reason = "embeddings are looked up, not multiplied"
        if reason:
            skipped.append(Skipped(kernel.path, type_name(kernel.layer), reason, usual=True))
        else:
            chosen.append(kernel)
    if not chosen:
        raise ModelError(f"{call}: the model {model.name!r} has no kernel that it can change")
    return chosen, skipped


def _counts(
    kernels: Sequence[PrunableKernel], arrays: Sequence[NDArray], choices: Choices, sparsity: float
) -> list[int]:
    pattern = of_one_kernel(choices.pattern, "prune_oneshot")
    if pattern.fixed is not None:
        return [0] * len(kernels)
    shares = [
        Share(kernel.path, kernel.shape, pattern.pool(kernel.view(np.abs(array))))
        for kernel, array in zip(kernels, arrays, strict=True)
    ]
    return choices.allocation(shares, sparsity, 1.0)


def _job(
    kernel: PrunableKernel, weights: NDArray, pattern: Pattern, count: int, calls: Calls | None
) -> KernelJob:
    linear = read_linear(kernel)
    reason = ""
    if isinstance(linear, str):
        reason = linear
    elif calls is None:
        reason = "the samples never reach its layer"
    elif calls.hidden:
        reason = "its input has no values to record: it may be symbolic in a compiled loop"
    if reason or isinstance(linear, str) or calls is None:
        return KernelJob(kernel, weights, pattern, count, reason=reason)
    return KernelJob(kernel, weights, pattern, count, linear, calls.count)
