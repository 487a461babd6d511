"""One-shot pruning: `prune_oneshot`."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, Literal, TypeVar, get_args

import keras
from numpy.typing import NDArray

from tfprune.data.batches import BATCH_SIZE, Batch, check_batch_size, read
from tfprune.data.model_inputs import inputs_of
from tfprune.errors import ModelError, OptionError, nearest, type_name
from tfprune.few_bits.grid import check_bits
from tfprune.graph.kernels import PrunableKernel, Skipped
from tfprune.keras_support.models import is_tf_keras, refuse_quantized
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices import patterns
from tfprune.sparsity.choices.patterns import Pattern
from tfprune.sparsity.choices.schedules import OneShot, check_sparsity
from tfprune.sparsity.choices.scores import SCORES
from tfprune.sparsity.masks import Choices, Hold, Pruning
from tfprune.sparsity.oneshot.plan import KernelJob, make_plan
from tfprune.sparsity.oneshot.report import LayerReport, OneShotReport, keep_report
from tfprune.sparsity.oneshot.work import Bench, prune_layer
from tfprune.utils.filters import Filters, as_filters
from tfprune.utils.progress import SILENT, Progress, Task

_log = logging.getLogger(__name__)

Method = Literal["reconstruct", "wanda"]
METHODS = get_args(Method)

M = TypeVar("M", bound=keras.Model)


def prune_oneshot(
    model: M,
    data: Any,
    sparsity: float,
    *,
    pattern: "str | Pattern" = "unstructured",
    method: Method = "reconstruct",
    allocation: "str | Mapping[str, float] | allocations.Allocation" = "uniform",
    bits: int | None = None,
    only: Filters[PrunableKernel] = (),
    skip: Filters[PrunableKernel] = (),
    damping: float = 0.01,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: Progress = SILENT,
) -> M:
    """Prune a model without training, layer by layer, preserving layer outputs on samples.

    In the order in which the model runs the layers, each is pruned and (with
    `method="reconstruct"`) its remaining weights are refitted by least squares: the layer's
    products on the samples are as close as possible to those of the original model, given its
    inputs from the layers pruned before it. The bias corrects the difference of the means.

    Dense, EinsumDense (the projections of attention), Conv1D/2D/3D, grouped or not, and the
    pointwise kernels of SeparableConv1D/2D are reconstructed. Embeddings are not pruned. Any other
    kernel (LSTM, GRU, transposed convolutions …) is pruned by magnitude. `oneshot_report(model)`
    lists for each layer what was done, why, and the error of its products.

    With `bits`, the weights that remain are also whole multiples of a step for each output, chosen
    together with it, so that a file of so few bits stores them as they are: "int4", or with fewer
    values "int8". Training moves them off their grid again.

    Masks hold the zeros as after `prune`, also when the model trains, until `strip_pruning`.
    If anything fails, the model is not changed.

    Args:
        model: A Keras 3 model of any kind.
        data: A few hundred samples: an array, a dict or for several inputs a list of arrays,
            (inputs, labels), or a dataset or another iterable of these. Labels are not read. The
            samples are kept in memory, their activations are not. Padded positions of a sequence
            count like any other.
        sparsity: Fraction of zeros in each kernel, in [0, 1).
        pattern: `unstructured`, `2:4` (2 of 4 inputs kept), `block(4,1)`, or a Pattern.
        method: `reconstruct`, or `wanda`, which zeroes weights of small |w|·‖x‖ and does not
            change the others; they are compared over the whole kernel, not per output as in the
            paper.
        allocation: `uniform`, `erk`, `global`, or a table of path or regex → sparsity. It is
            determined in advance, by magnitude if it depends on the weights.
        bits: 2, 3, 4 or 8: weights are k steps, with |k| up to 1, 3, 7 or 127. More of them than
            asked for may then be zero. None: any weights.
        only: Names, regexes on variable paths, or predicates: prune only these.
        skip: Kernels not to prune, in the same forms.
        damping: How strongly to prefer the original weights over the samples, as a fraction of
            the inputs' mean square. Use more for fewer samples.
        batch_size: Samples per pass of the model, if `data` is arrays.
        seed: Seed for drawing patches of convolutions that have more than 32,768 of them.
        progress: Where to report progress, one step per layer.

    Returns:
        `model` itself.

    Raises:
        ModelError: If there is nothing to prune.
        DataError: If the data is empty, not finite, or does not fit the model.
        FilterError: If a filter matches no kernel.
        OptionError: If an option is out of its range.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> samples = keras.random.normal((100, 8), seed=0).numpy()
        >>> model = prune_oneshot(model, samples, 0.75)
        >>> int(keras.ops.count_nonzero(model.layers[0].kernel))
        8
    """
    check_model(model, "prune_oneshot")
    choices = _choices(sparsity, pattern, method, allocation, only, skip)
    check_numbers(damping, batch_size)
    _check_grid(bits, method)
    samples = samples_of(model, data, "prune_oneshot", batch_size)
    jobs, skipped = make_plan(model, samples[0].inputs, choices, sparsity)
    bench = Bench(model, [batch.inputs for batch in samples], seed)
    with undone_on_failure(bench), progress.task("prune_oneshot", total=len(jobs)) as task:
        done = solve_layers(jobs, bench, task, method, damping, bits)
    total = sum(batch.size for batch in samples)
    masks, rows = zip(*done, strict=True)
    _hold(jobs, masks, skipped, choices, sparsity)
    model.train_function = None  # it was traced without the masks
    keep_report(model, OneShotReport(rows, tuple(skipped), total, str(choices.pattern), bits))
    for row in rows:
        if row.reason:
            _log.warning("%s was pruned by %s: %s", row.path, row.method, row.reason)
    for entry in skipped:
        _log.info("not pruned: %s (%s): %s", entry.layer, entry.kind, entry.reason)
    return model


def samples_of(model: Any, data: Any, call: str, batch_size: int) -> list[Batch]:
    """Return a user's samples in batches."""
    return list(read(data, inputs_of(model), f"{call} data", size=batch_size, labels="ignored"))


def solve_layers(
    jobs: Sequence[KernelJob],
    bench: Bench,
    task: Task,
    method: str,
    damping: float,
    bits: int | None,
) -> list[tuple[NDArray, LayerReport]]:
    """Prune or round layers in turn; return the mask and the report of each."""
    done = []
    for job in jobs:
        done.append(prune_layer(job, bench, method, damping, bits))
        task.advance()
    return done


def check_model(model: Any, call: str) -> None:
    """Raise ModelError unless a call can take a model."""
    if is_tf_keras(model):
        raise ModelError(
            f"{call}: expected a Keras 3 model. Received {type_name(model)}; convert it "
            "with tfprune.to_keras3(model)"
        )
    if not isinstance(model, keras.Model):
        raise ModelError(f"{call}: expected a keras.Model. Received {type_name(model)}.")
    refuse_quantized(model)
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"{call}: Keras runs on the {keras.backend.backend()} backend; tfprune needs "
            "TensorFlow: set KERAS_BACKEND=tensorflow before importing keras"
        )


def _choices(
    sparsity: float, pattern: Any, method: str, allocation: Any, only: Any, skip: Any
) -> Choices:
    check_sparsity(sparsity, "sparsity")
    if method not in METHODS:
        raise OptionError(f"unknown method {method!r}. {nearest(str(method), METHODS)}")
    shape = patterns.of_one_kernel(pattern, "prune_oneshot")
    patterns.check_fixed("prune_oneshot", shape, sparsity, allocation)
    return Choices(
        # Zeros are the masked weights, so that computing the masks again gives the same.
        score=SCORES["magnitude"],
        pattern=shape,
        allocation=allocations.resolve_allocation(allocation),
        schedule=OneShot(sparsity),
        only=as_filters("only", only),
        skip=as_filters("skip", skip),
    )


def check_numbers(damping: float, batch_size: int) -> None:
    """Raise OptionError unless numbers are in their range."""
    if isinstance(damping, bool) or not isinstance(damping, (int, float)) or not 0 < damping < inf:
        raise OptionError(f"damping: expected a number above 0. Received {damping!r}.")
    check_batch_size(batch_size)


def _check_grid(bits: int | None, method: str) -> None:
    if bits is not None:
        check_bits(bits)
        if method != "reconstruct":
            raise OptionError(
                f"bits: method {method!r} does not change the weights that remain; give "
                "method='reconstruct'"
            )


@contextmanager
def undone_on_failure(bench: Bench) -> Iterator[None]:
    """Restore the model's weights if pruning fails, and its state in any case."""
    state = [(variable, variable.value.numpy()) for variable in bench.model.non_trainable_variables]
    try:
        yield
    except BaseException:
        bench.restore()
        raise
    finally:
        pruned = {id(variable) for variable, _ in bench.changed}
        for variable, value in state:
            if id(variable) not in pruned:
                variable.assign(value)


def _hold(
    jobs: Sequence[KernelJob],
    masks: Sequence[NDArray],
    skipped: Sequence[Skipped],
    choices: Choices,
    sparsity: float,
) -> None:
    pruning = Pruning(choices, skipped=list(skipped), step=0, sparsity=sparsity)
    for job, mask in zip(jobs, masks, strict=True):
        hold = Hold(job.kernel, pruning)
        hold.set_mask(mask)
        pruning.holds.append(hold)
