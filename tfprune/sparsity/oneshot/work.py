"""Pruning one layer of a model from its inputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.data.model_inputs import leaves
from tfprune.few_bits.capture import layer_inputs
from tfprune.few_bits.grid import round_jointly, round_nearest
from tfprune.few_bits.moments import Moments, Norms, Problem, damped
from tfprune.sparsity.oneshot.plan import KernelJob
from tfprune.sparsity.oneshot.report import LayerReport
from tfprune.sparsity.oneshot.solve import reconstruct

MAX_ROWS = 32_768
"""The most rows used in a layer. If there are more (patches of a convolution), they are drawn."""

MAX_INPUTS = 6_144
"""A product of more inputs is not reconstructed: its second moments would fill the memory."""

STAGES = 3
"""The number of stages in which weights are removed, if a layer is small enough for several."""


@dataclass
class Bench:
    """A model whose layers are pruned in turn, with samples and the original values."""

    model: Any
    batches: Sequence[Any]
    seed: int
    changed: list[tuple[Any, NDArray]] = field(default_factory=list)

    def assign(self, variable: Any, value: NDArray) -> None:
        """Change a variable of the model."""
        before = variable.value.numpy()
        if not any(variable is known for known, _ in self.changed):
            self.changed.append((variable, before))
        variable.assign(value.astype(before.dtype))

    @contextmanager
    def original_weights(self) -> Iterator[None]:
        """Restore the original weights for the length of a `with` block."""
        now = [variable.value.numpy() for variable, _ in self.changed]
        try:
            self.restore()
            yield
        finally:
            for (variable, _), value in zip(self.changed, now, strict=True):
                variable.assign(value)

    def restore(self) -> None:
        """Restore the original weights."""
        for variable, value in self.changed:
            variable.assign(value)

    def rows(self, job: KernelJob, index: int) -> list[NDArray]:
        """Return the rows of a layer's inputs in one batch, one array per call of the layer.

        The same rows are drawn every time.
        """
        assert job.linear is not None
        batch = self.batches[index]
        sizes = [len(leaves(one)[0]) for one in self.batches]
        share = sizes[index] / sum(sizes)
        limit = max(int(MAX_ROWS * share / job.calls), 1)
        rng = np.random.default_rng([self.seed, index])
        inputs = layer_inputs(self.model, batch, job.kernel.layer, job.calls)
        return [job.linear.rows(array, limit, rng) for array in inputs]


def prune_layer(
    job: KernelJob, bench: Bench, method: str, damping: float, bits: int | None = None
) -> tuple[NDArray, LayerReport]:
    """Prune one layer of the model and return its mask and report.

    The layers before it are pruned already. `method` is "reconstruct" or "wanda"; with `bits`,
    the weights are on a grid.
    """
    if job.linear is None:
        return _prune_alone(job, bench, bits)
    matrices = job.linear.matrices(job.kernel.view(job.weights))
    if matrices.shape[1] > MAX_INPUTS:
        return _prune_wide(job, bench, method, matrices, bits)
    moments = _gather(job, bench, matrices)
    plain = moments.problem()
    choose = job.stages(STAGES)
    smallest = np.where(choose[-1](np.abs(matrices)), matrices, 0)
    before = plain.error(smallest)
    moves_bias = method == "reconstruct" and job.linear.bias is not None
    if method == "wanda":
        norms = np.sqrt(np.diagonal(plain.gram, axis1=1, axis2=2))
        mask = choose[-1](np.abs(matrices) * norms[:, :, None])
        weights = np.where(mask, matrices, 0)
        after = plain.error(weights)
    else:
        problem = moments.centered() if moves_bias else plain
        solution = reconstruct(matrices, problem, choose, damping=damping)
        mask, weights = solution.mask, solution.weights
        if bits is not None:
            weights = round_jointly(damped(problem, matrices, damping), weights, bits)
        after = problem.error(weights)
    _assign(job, bench, weights)
    if moves_bias:
        # The rows do not include the old bias, so the shift is relative to it.
        bench.assign(job.linear.bias, job.linear.shifted_bias(moments.shift(weights)))
    kept = job.kernel.unview(job.linear.view(mask))
    return kept, _report(
        job, kept, method, _relative(after, plain), _relative(before, plain), moves_bias
    )


def _prune_alone(job: KernelJob, bench: Bench, bits: int | None) -> tuple[NDArray, LayerReport]:
    """Prune a layer whose products are unknown."""
    mask = job.mask(np.abs(job.weights))
    weights = np.where(mask, job.weights, 0)
    if bits is not None:
        # A step for each output, as files have it.
        view = job.kernel.view(weights)
        column = view.reshape(1, -1, view.shape[-1])
        weights = job.kernel.unview(round_nearest(column, bits).reshape(view.shape))
    bench.assign(job.kernel.variable, weights)
    return mask, _report(job, mask, "magnitude", reason=job.reason)


def _prune_wide(
    job: KernelJob, bench: Bench, method: str, matrices: NDArray, bits: int | None
) -> tuple[NDArray, LayerReport]:
    assert job.linear is not None
    products, width, _ = matrices.shape
    norms = Norms(products, width)
    for index in range(len(bench.batches)):
        for rows in bench.rows(job, index):
            norms.add(rows)
    squares = norms.mean_squares()
    mask = job.stages(1)[-1](np.abs(matrices) * np.sqrt(squares)[:, :, None])
    weights = np.where(mask, matrices, 0)
    _assign(job, bench, weights if bits is None else round_nearest(weights, bits, squares))
    kept = job.kernel.unview(job.linear.view(mask))
    reason = f"{width:,} inputs, more than {MAX_INPUTS:,}: too many to reconstruct"
    return kept, _report(job, kept, "wanda", reason=reason if method == "reconstruct" else "")


def _gather(job: KernelJob, bench: Bench, matrices: NDArray) -> Moments:
    """Return the moments of a layer's current inputs and its outputs in the original model."""
    moments = Moments(*matrices.shape)
    for index in range(len(bench.batches)):
        now = original = bench.rows(job, index)
        if bench.changed:
            with bench.original_weights():
                original = bench.rows(job, index)
        for x, x0 in zip(now, original, strict=True):
            moments.add(x, x0.astype(np.float64) @ matrices)
    return moments


def _assign(job: KernelJob, bench: Bench, matrices: NDArray) -> None:
    assert job.linear is not None
    bench.assign(job.kernel.variable, job.kernel.unview(job.linear.view(matrices)))


def _relative(error: float, problem: Problem) -> float:
    return error / problem.energy if problem.energy else 0.0


def _report(
    job: KernelJob,
    mask: NDArray,
    method: str,
    error: float | None = None,
    before: float | None = None,
    moves_bias: bool = False,
    reason: str = "",
) -> LayerReport:
    now = job.kernel.variable.value.numpy()
    zeros = int(mask.size - np.count_nonzero(mask & (now != 0)))
    return LayerReport(
        job.kernel.path,
        job.kernel.shape,
        job.size,
        zeros,
        method,
        error,
        before,
        moves_bias,
        reason,
    )
