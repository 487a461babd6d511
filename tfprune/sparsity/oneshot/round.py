"""Rounding weights together, so that files of few bits stay near the model: `round_weights`."""

from dataclasses import replace
from typing import Any, TypeVar

import keras

from tfprune.data.batches import BATCH_SIZE
from tfprune.few_bits.grid import check_bits
from tfprune.few_bits.linear import roundable_kernels
from tfprune.graph.kernels import PrunableKernel, find_kernels
from tfprune.sparsity.choices.allocation import uniform
from tfprune.sparsity.choices.patterns import Unstructured
from tfprune.sparsity.choices.schedules import OneShot
from tfprune.sparsity.choices.scores import SCORES
from tfprune.sparsity.masks import Choices
from tfprune.sparsity.oneshot.plan import make_plan
from tfprune.sparsity.oneshot.prune import (
    check_model,
    check_numbers,
    samples_of,
    solve_layers,
    undone_on_failure,
)
from tfprune.sparsity.oneshot.report import OneShotReport, keep_report
from tfprune.sparsity.oneshot.work import Bench
from tfprune.utils.filters import Filters, as_filters
from tfprune.utils.progress import SILENT, Progress

M = TypeVar("M", bound=keras.Model)


def round_weights(
    model: M,
    data: Any,
    bits: int = 4,
    *,
    only: Filters[PrunableKernel] = (),
    skip: Filters[PrunableKernel] = (),
    damping: float = 0.01,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: Progress = SILENT,
) -> M:
    """Round the weights of a trained model without training, preserving layer outputs on samples.

    Like `prune_oneshot` with `bits`, without further zeros: in the order in which the model runs
    the layers, the weights of each become whole multiples of a step for each output, chosen
    together so that its products on the samples stay as they are; the bias corrects the difference
    of the means. `to_tflite` then stores them as they are, where rounding each weight to the
    nearest would lose more. Weights that are zero stay zero.

    Depthwise kernels are rounded for 8 bits only: files of fewer bits have them in floats.

    Args:
        model: A Keras 3 model of any kind.
        data: A few hundred samples, as for `prune_oneshot`. Labels are not read.
        bits: Of the file: 4 for the schemes "int4" and "weight_int4", 8 for "int8" and the like.
            Files of either hold those of 2 and 3 too.
        only: Names, regexes on variable paths, or predicates: round only these.
        skip: Kernels not to round, in the same forms.
        damping: How strongly to prefer the original weights over the samples, as a fraction of
            the inputs' mean square.
        batch_size: Samples per pass of the model, if `data` is arrays.
        seed: Seed for drawing patches of convolutions that have many of them.
        progress: Where to report progress, one step per layer.

    Returns:
        `model` itself; `oneshot_report` lists its layers.

    Raises:
        ModelError: If there is nothing to round.
        DataError: If the data is empty, not finite, or does not fit the model.
        FilterError: If a filter matches no kernel.
        OptionError: If an option is out of its range.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        >>> samples = keras.random.normal((100, 8), seed=0).numpy()
        >>> model = round_weights(model, samples, bits=2)
        >>> np.unique(np.abs(model.layers[0].kernel.numpy())).size <= 2
        True
    """
    check_model(model, "round_weights")
    check_bits(bits)
    check_numbers(damping, batch_size)
    filters = as_filters("only", only), as_filters("skip", skip)
    choices = Choices(SCORES["magnitude"], Unstructured(), uniform, OneShot(0.0), *filters)
    samples = samples_of(model, data, "round_weights", batch_size)
    find = roundable_kernels if bits == 8 else find_kernels
    jobs, skipped = make_plan(model, samples[0].inputs, choices, 0.0, find, "round_weights")
    jobs = [replace(job, kept=job.weights != 0) for job in jobs]
    bench = Bench(model, [batch.inputs for batch in samples], seed)
    with undone_on_failure(bench), progress.task("round_weights", total=len(jobs)) as task:
        done = solve_layers(jobs, bench, task, "reconstruct", damping, bits)
    rows = tuple(row for _, row in done)
    total = sum(batch.size for batch in samples)
    keep_report(model, OneShotReport(rows, tuple(skipped), total, str(choices.pattern), bits))
    return model
