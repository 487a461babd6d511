"""Weights that are rounded on the calibration samples for a file, and restored after it."""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.data.model_comparison import is_whole, scale_of
from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.converter.grids import is_on_grid
from tfprune.deploy.converter.options import Settings
from tfprune.deploy.converter.weight_only import Rule
from tfprune.deploy.qat.quantize_aware import shares_values
from tfprune.deploy.verify.reference import model_outputs, some
from tfprune.errors import ModelError
from tfprune.few_bits.equalize import equalize
from tfprune.few_bits.learn import Rounded, layers_to_round, round_in_turn
from tfprune.few_bits.linear import DEPTHWISE
from tfprune.few_bits.mixed import relative, sensitivities, worst_layers
from tfprune.graph.flat import is_primitive
from tfprune.graph.model_signature import Interface, generation
from tfprune.graph.read import read

MOST_SAMPLES = 256
MEMORY = 1e9
"""The bytes that the activations of all samples may take: they are run as one batch."""

_MARGIN = 0.8
"""The share of the bound that rounded weights may take; the activations are rounded too."""

_ROUNDS = 4


def why_not(face: Interface, settings: Settings, calibrated: bool, aware: bool) -> str:
    """Return why weights can only be rounded to the nearest; "" if there is no reason."""
    if not settings.plan.rounds_weights:
        return f"scheme {settings.name!r} does not round weights"
    if not calibrated:
        return "there are no samples; give calibration=x_train[:200]"
    if aware:
        return "the model was trained under rounding"
    if generation(face.model) != "keras":
        return "the model is one of tf_keras; convert it with tfprune.to_keras3(model)"
    if settings.mixed:
        return "layers= gives some layers another scheme"
    if shares_values(face.model):
        return "weights share values, as after clustering"
    kernels = layers_to_round(face.model)
    if not kernels:
        return "no layer multiplies with a kernel that can be rounded"
    if any(map(_is_few, kernels.values())):
        return "weights are multiples of few steps already"
    return ""


@contextlib.contextmanager
def rounded(
    face: Interface, settings: Settings, samples: Samples, notes: list[str]
) -> Iterator[Settings]:
    """Round a model's weights for the length of a `with` block.

    Yields:
        The settings, with rules for the layers that get 8 bits instead of 4.
    """
    work = _Work(face, _fewer(face, samples))
    outputs = model_outputs(face, some(samples))
    # Of class numbers and the like, an error is no noise that adds up.
    expected = {name: value for name, value in outputs.items() if not is_whole(value)}
    try:
        scaled = work.equalize()
        if scaled:
            notes.append(f"channels of {scaled} tensors were given equal ranges")
        bits = {
            path: 4 if settings.plan.weight_bits == 4 and not _is_depthwise(kernel.layer) else 8
            for path, (kernel, _) in layers_to_round(face.model).items()
        }
        method = "nearest" if settings.rounding == "corrected" else "learned"
        raised, results = work.round(bits, method, expected, some(samples), settings.bound)
        corrected = sum(result.bias_moved for result in results)
        how = "together on the samples" if method == "learned" else "each to the nearest"
        notes.append(
            f"weights of {len(results)} layers were rounded {how}; biases of {corrected} correct "
            "the means"
        )
        if raised:
            notes.append(f"8 bits instead of 4, for the bound: {', '.join(raised)}")
        yield replace(settings, chosen=tuple(_rule(path, settings) for path in raised))
    finally:
        work.restore()


@dataclass
class _Work:
    """A model whose weights are changed, with the values that they had."""

    face: Interface
    samples: Samples
    before: list[tuple[Any, NDArray]] = field(init=False)

    def __post_init__(self) -> None:
        # All of them: a call may assign to others itself, as that of a layer that counts.
        self.before = [(one, one.value.numpy()) for one in self.face.model.variables]

    def assign(self, variable: Any, value: NDArray) -> None:
        variable.assign(value.astype(variable.value.numpy().dtype))

    def restore(self) -> None:
        for variable, value in self.before:
            variable.assign(value)

    def equalize(self) -> int:
        arguments = self.face.arguments(self.samples)
        try:
            with self.face.as_its_file():
                return equalize(self.face.model, [arguments], self.assign)
        except ModelError:  # It cannot be read, as a model whose call depends on values.
            return 0

    def round(
        self,
        bits: dict[str, int],
        method: Any,
        expected: dict[str, NDArray],
        compared: Samples,
        bound: float,
    ) -> tuple[list[str], list[Rounded]]:
        """Round all layers; return those that need 8 bits for the bound, and all results."""
        kernels = layers_to_round(self.face.model)
        equal = {id(v): (v, v.value.numpy()) for v in self.face.model.variables}

        def error() -> float:
            return relative(model_outputs(self.face, compared), expected, scale_of)

        def run() -> list[Rounded]:
            for variable, value in equal.values():
                variable.assign(value)
            arguments = self.face.arguments(self.samples)
            with self.face.as_its_file():
                return round_in_turn(self.face.model, arguments, bits, self.assign, method=method)

        results, raised = run(), []
        few = {
            path: (kernel.variable, equal[id(kernel.variable)][1], kernel.variable.value.numpy())
            for path, (kernel, _) in kernels.items()
            if bits[path] == 4
        }
        wanted = _MARGIN * bound
        costs: dict[str, float] = {}
        for _ in range(_ROUNDS if few else 0):
            now = error()
            if now <= wanted:
                break
            costs = costs or sensitivities(few, error)
            left = {path: cost for path, cost in costs.items() if path not in raised}
            sizes = {path: few[path][1].size for path in left}
            more = worst_layers(left, sizes, now, wanted)
            if not more:
                break
            raised += more
            bits.update(dict.fromkeys(raised, 8))
            results = run()
        return raised, results


def _fewer(face: Interface, samples: Samples) -> Samples:
    """Return as many samples as fit into memory, evenly spaced."""
    try:
        values = read(face.model, is_primitive).values
        sizes = [math.prod(64 if size is None else size for size in v.shape[1:]) for v in values]
        most = int(np.clip(MEMORY / (4 * max(sum(sizes), 1)), 8, MOST_SAMPLES))
    except ModelError:
        most = 64
    count = len(next(iter(samples.values())))
    if face.inputs[0].shape[0] != -1:
        most = face.inputs[0].shape[0]
    index = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return {name: array[index] for name, array in samples.items()}


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, DEPTHWISE)


def _is_few(entry: tuple[Any, Any]) -> bool:
    """Return whether a kernel is on a grid of few steps, and not by chance."""
    kernel = entry[0]
    array = kernel.variable.value.numpy()
    outputs = [*kernel.axes[2]]
    if _is_depthwise(kernel.layer):
        outputs = [*kernel.axes[0], *kernel.axes[2]]
    count = math.prod(array.shape[axis] for axis in outputs)
    return array.size >= 8 * count and bool(array.any()) and is_on_grid(array, outputs)


def _rule(path: str, settings: Settings) -> Rule:
    layer = re.escape(path.rpartition("/")[0])
    return rf"(^|[/;]){layer}/", 8, settings.plan.float_arithmetic
