"""Rounding the weights of a model for a file, layer by layer in one pass of samples.

The model runs once as it is, which gives the products that each layer should have; then once more,
and each layer is rounded when it is called: its inputs come from the layers rounded before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from tfprune.errors import ModelError
from tfprune.few_bits.capture import has_values, watched
from tfprune.few_bits.grid import largest_level, round_jointly
from tfprune.few_bits.linear import Linear, read_linear, roundable_kernels
from tfprune.few_bits.moments import Moments, damped
from tfprune.graph.flat import is_primitive
from tfprune.graph.kernels import PrunableKernel
from tfprune.graph.read import read

Method = Literal["nearest", "learned"]

MAX_ROWS = 8_192
"""The most rows used in a layer. If there are more (patches of a convolution), they are drawn."""

MAX_INPUTS = 6_144
"""A product of more inputs is rounded weight by weight: its moments would fill the memory."""

MEMORY = 512e6
"""The bytes that wanted products may take; with more, fewer rows are used."""

DAMPING = 0.01

Assign = Callable[[Any, NDArray], None]


@dataclass(frozen=True)
class Rounded:
    """The result for one kernel.

    Attributes:
        path: Its path in the model.
        bits: Its bits.
        nearest: The error of the layer's products with each weight rounded by itself, relative to
            their size, ‖Y' − Y‖² / ‖Y‖², given the layer's inputs then.
        error: The same error as it is.
        bias_moved: Whether a bias corrects the mean.
    """

    path: str
    bits: int
    nearest: float
    error: float
    bias_moved: bool


@dataclass(frozen=True)
class _Job:
    kernel: PrunableKernel
    linear: Linear
    weights: NDArray
    bits: int
    norm: Any

    @property
    def matrices(self) -> NDArray:
        """Its weights as `Linear` has them, in float64, made anew in each use to save memory."""
        return self.linear.matrices(self.kernel.view(self.weights)).astype(np.float64)


def layers_to_round(model: Any) -> dict[str, tuple[PrunableKernel, Linear]]:
    """Return the kernels whose products are known, by path."""
    found = {}
    for kernel in roundable_kernels([model])[0]:
        linear = read_linear(kernel)
        if isinstance(linear, Linear):
            found[kernel.path] = kernel, linear
    return found


def round_in_turn(
    model: Any,
    samples: Any,
    bits: Mapping[str, int],
    assign: Assign,
    *,
    method: Method = "learned",
    seed: int = 0,
) -> list[Rounded]:
    """Round kernels and correct biases.

    A convolution without a bias whose output only a BatchNormalization reads has the bias in the
    moving mean.

    Args:
        model: A Keras 3 model.
        samples: One batch, as the model takes it.
        bits: The bits of each kernel, by its path; others stay as they are.
        assign: Receives each variable and its new value, and must assign it.
        method: How weights are chosen: each the nearest, or together.
        seed: For drawing patches.

    Returns:
        One result for each kernel, in the order in which the model runs the layers.
    """
    norms = _norms_behind(model)
    jobs = {}
    for path, (kernel, linear) in layers_to_round(model).items():
        if path in bits:
            weights = kernel.variable.value.numpy()
            norm = norms.get(id(kernel.layer)) if linear.bias is None else None
            jobs[id(kernel.layer)] = _Job(kernel, linear, weights, bits[path], norm)
    outputs = sum(job.weights.size / max(job.matrices.shape[1], 1) for job in jobs.values())
    limit = int(np.clip(MEMORY / (4 * max(outputs, 1)), 256, MAX_ROWS))
    wanted: dict[int, NDArray] = {}
    results: list[Rounded] = []

    def rows_of(job: _Job, inputs: Any) -> NDArray:
        return job.linear.rows(
            keras.ops.convert_to_numpy(inputs), limit, np.random.default_rng(seed)
        )

    def note(layer: Any, inputs: Any) -> None:
        if id(layer) not in wanted and has_values(inputs):
            job = jobs[id(layer)]
            wanted[id(layer)] = (rows_of(job, inputs) @ job.matrices).astype(np.float32)

    def fit(layer: Any, inputs: Any) -> None:
        # A layer that is called again has its weights already.
        target = wanted.pop(id(layer), None)
        if target is not None:
            job = jobs[id(layer)]
            results.append(_round(job, rows_of(job, inputs), target, assign, method))

    layers = [job.kernel.layer for job in jobs.values()]
    for record in note, fit:
        with watched(layers, record):
            model(samples, training=False)
    return results


def _round(job: _Job, rows: NDArray, wanted: NDArray, assign: Assign, method: Method) -> Rounded:
    matrices = job.matrices
    bias = job.linear.bias if job.norm is None else job.norm.moving_mean
    plain = _to_grid(matrices, job.bits)
    if method == "nearest" or matrices.shape[1] > MAX_INPUTS:
        rounded = plain
    else:
        moments = Moments(*matrices.shape)
        moments.add(rows, wanted)
        problem = moments.problem() if bias is None else moments.centered()
        held = damped(problem, matrices, DAMPING)
        # Zeros stay; in 8 bits, so does the largest weight of each output.
        free = job.bits != 8 and matrices.all()
        start = np.linalg.solve(held.gram, held.cross) if free else matrices
        rounded = round_jointly(held, start, job.bits)
    assign(job.kernel.variable, job.kernel.unview(job.linear.view(rounded)))
    apart = rows @ rounded - wanted
    if bias is not None:
        shift = -apart.mean(axis=1)
        apart += shift[:, None, :]
        # A moving mean is subtracted.
        shift = shift if job.norm is None else -shift
        assign(bias, replace(job.linear, bias=bias).shifted_bias(shift))
    energy = float(np.sum(np.square(wanted, dtype=np.float64))) or 1.0
    return Rounded(
        job.kernel.path,
        job.bits,
        float(np.sum(np.square(rows @ plain - wanted))) / energy,
        float(np.sum(np.square(apart))) / energy,
        bias is not None,
    )


def _to_grid(weights: NDArray, bits: int) -> NDArray:
    """Round each weight by itself, as a converter does: the largest of an output is exact."""
    widest = np.abs(weights).max(axis=1, keepdims=True)
    step = np.where(widest > 0, widest, 1.0) / largest_level(bits)
    return np.asarray(step * np.rint(weights / step))


def _norms_behind(model: Any) -> dict[int, Any]:
    """Return the BatchNormalization that alone reads a layer's output, by the `id` of the layer."""
    try:
        graph = read(model, is_primitive)
    except ModelError:
        return {}
    found: dict[int, Any] = {}
    for call in graph.calls:
        reader = graph.only_reader(call.outputs[0])
        if (
            reader is not None
            and isinstance(reader.op, keras.layers.BatchNormalization)
            and getattr(call.op, "activation", None) is keras.activations.linear
            and len(graph.calls_of(call.op)) == len(graph.calls_of(reader.op)) == 1
            and tuple(reader.op.moving_mean.shape) == tuple(graph.shape(call.outputs[0])[-1:])
        ):
            found[id(call.op)] = reader.op
    return found
