"""Quality of a file: its outputs compared with the labels and with those of another file.

The Keras model is not used, only the outputs of files.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfprune.data.batches import BATCH_SIZE, read
from tfprune.data.model_comparison import differences, is_whole, same_answers
from tfprune.data.model_inputs import inputs_of_specs
from tfprune.errors import DataError, OptionError, nearest
from tfprune.measure.sources import Source, name_of, named_in_errors
from tfprune.runtime.artifact import TensorSpec
from tfprune.runtime.litert import Runner
from tfprune.runtime.stored_numbers import value_range
from tfprune.utils.progress import SILENT, Progress

MANY_OUTSIDE = 0.01
"""From this share on, numbers out of an input's range are an error of the data, not outliers."""

Metric = str | Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Fidelity:
    """The quality of one file.

    Attributes:
        name: The file.
        samples: Number of samples.
        score: The metric of its outputs.
        agreement: The share of samples with the same top class as the reference file; None for
            outputs without classes.
        max_abs_error: The largest difference from the reference file's outputs.
        mean_abs_error: The mean of these differences.
        notes: Remarks on the data; those on labels are on the first file only.
    """

    name: str
    samples: int
    score: float
    agreement: float | None
    max_abs_error: float
    mean_abs_error: float
    notes: tuple[str, ...] = ()


def accuracy(
    source: Source, data: Any, *, output: str | None = None, batch_size: int = BATCH_SIZE
) -> float:
    """Return the share of samples whose top class is the label.

    Args:
        source: An artifact, or the path or the bytes of a `.tflite` file.
        data: (inputs, labels), or a dataset or another iterable of these. Labels are class
            numbers or one-hot.
        output: The output to score, if the file has several.
        batch_size: Batch size, for arrays.

    Raises:
        ArtifactError: The file is missing, not a `.tflite`, or the runtime cannot run it.
        DataError: The data is empty, has NaN, or does not fit the file.
    """
    return score_files([source], data, output=output, batch_size=batch_size)[0].score


def score_files(
    sources: Sequence[Source],
    data: Any,
    *,
    names: Sequence[str] | None = None,
    metric: Metric = "accuracy",
    output: str | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Progress = SILENT,
) -> tuple[Fidelity, ...]:
    """Score files on the same samples; the first is the reference for the others.

    The data is read once, and every file gets every batch, so that a dataset may shuffle.

    Args:
        sources: Artifacts, paths or bytes.
        data: (inputs, labels), or a dataset or another iterable of these.
        names: Their names in messages; by default their file names.
        metric: `accuracy`, or a function of the labels and the outputs of all samples that returns
            a number, where higher is better, such as a `keras.metrics.Metric`.
        output: The output to score, if the files have several.
        batch_size: Batch size, for arrays.
        progress: Receives progress reports.

    Raises:
        ArtifactError: A file is missing, not a `.tflite`, or the runtime cannot run it.
        DataError: The data is empty, has NaN, or does not fit a file.
        OptionError: An unknown metric or output.
    """
    if metric != "accuracy" and not callable(metric):
        raise OptionError(
            f"metric: expected 'accuracy' or a function of (labels, outputs). Received {metric!r}"
        )
    labels = list(names or map(name_of, sources))
    runners = [_runner(source, name) for source, name in zip(sources, labels, strict=True)]
    chosen = [
        _output_of(runner, output, name) for runner, name in zip(runners, labels, strict=True)
    ]
    tallies = [_Tally(name) for name in labels]
    truths: list[np.ndarray] = []
    with progress.task("accuracy of the files", None) as task:
        takes = inputs_of_specs(runners[0].inputs)
        for batch in read(data, takes, "data", size=batch_size, labels="needed"):
            truth = batch.labels[chosen[0]] if isinstance(batch.labels, dict) else batch.labels
            x = dict(zip(takes.names, batch.inputs, strict=True)) if batch.named else batch.inputs
            reference = None
            for runner, wanted, tally in zip(runners, chosen, tallies, strict=True):
                answers = runner.run_named(x)[wanted]
                reference = answers if reference is None else reference
                tally.compare(answers, reference)
                tally.look_at(runner.arrays(x), runner.inputs)
                if metric == "accuracy":
                    tally.count(answers, truth, batch.first)
                else:
                    tally.kept.append(answers)
            if metric != "accuracy":
                truths.append(truth)
            task.advance(batch.size)
    found = [tally.result(metric, truths) for tally in tallies]
    if metric == "accuracy":
        found[0] = replace(found[0], notes=(*tallies[0].one_class(), *found[0].notes))
    return tuple(found)


def name_of_metric(metric: Metric) -> str:
    """Return the name of a metric for reports."""
    if isinstance(metric, str):
        return metric
    return str(getattr(metric, "__name__", None) or getattr(metric, "name", "metric"))


@dataclass
class _Tally:
    """Running sums over the batches of one file."""

    name: str
    samples: int = 0
    right: float = 0.0
    asked: int = 0
    same: int = 0
    answers: int = 0
    worst: float = 0.0
    error: float = 0.0
    numbers: int = 0
    kept: list[np.ndarray] = field(default_factory=list)
    classes: set[int] = field(default_factory=set)
    given: Counter[TensorSpec] = field(default_factory=Counter)
    outside: Counter[TensorSpec] = field(default_factory=Counter)

    def compare(self, outputs: np.ndarray, reference: np.ndarray) -> None:
        if outputs.shape != reference.shape:
            raise DataError(
                f"{self.name}: its output has the shape {outputs.shape[1:]}, that of the baseline "
                f"{reference.shape[1:]}; only files for the same task can be compared"
            )
        self.samples += len(outputs)
        same = same_answers(reference, outputs)
        if same is not None:
            self.same += int(same.sum())
            self.answers += same.size
        gap = differences(reference, outputs, equal_holes=True)
        self.worst = max(self.worst, float(gap.max(initial=0.0)))
        self.error += float(gap.sum())
        self.numbers += gap.size

    def look_at(self, arrays: Sequence[np.ndarray], inputs: Sequence[TensorSpec]) -> None:
        """Count the numbers that are out of the range of integer inputs."""
        for spec, array in zip(inputs, arrays, strict=True):
            if spec.scale:
                low, high = value_range(spec)
                # Rounding alone may exceed the range by up to one step.
                away = (array < low - spec.scale) | (array > high + spec.scale)
                self.given[spec] += array.size
                self.outside[spec] += int(away.sum())

    def count(self, outputs: np.ndarray, truth: np.ndarray, first: int) -> None:
        right = _right(outputs, truth, first)
        one_hot = truth.shape == outputs.shape and outputs.ndim > 1 and outputs.shape[-1] > 1
        if not is_whole(outputs) and one_hot:
            truth = truth.argmax(-1)
        self.classes.update(map(int, np.unique(truth)))
        self.right += float(right.sum())
        self.asked += right.size

    def result(self, metric: Metric, truths: list[np.ndarray]) -> Fidelity:
        if callable(metric):
            score = self._judged(metric, np.concatenate(truths))
            if not np.isfinite(score):
                raise DataError(
                    f"{self.name}: the metric returned {score}; it must return a finite number"
                )
        else:
            score = self.right / self.asked
        return Fidelity(
            name=self.name,
            samples=self.samples,
            score=score,
            agreement=self.same / self.answers if self.answers else None,
            max_abs_error=self.worst,
            mean_abs_error=self.error / self.numbers,
            notes=tuple(self._cut_off()),
        )

    def one_class(self) -> Iterator[str]:
        """Yield a note if all labels are of one class."""
        if self.asked > 1 and len(self.classes) == 1:
            (only,) = self.classes
            yield f"all {self.asked} labels are {only}: accuracy does not cover the other classes"

    def _cut_off(self) -> Iterator[str]:
        for spec, count in self.given.items():
            share = self.outside[spec] / count
            if share > MANY_OUTSIDE:
                low, high = value_range(spec)
                yield (
                    f"{self.name}: {share:.0%} of the numbers for input {spec.name!r} are "
                    f"out of its range, {low:.4g} to {high:.4g}, and were clipped; scale the data "
                    "like the calibration data"
                )

    def _judged(self, metric: Callable[..., Any], truth: np.ndarray) -> float:
        # A keras.metrics.Metric accumulates over files unless it is reset.
        reset = getattr(metric, "reset_state", lambda: None)
        reset()
        found = np.asarray(metric(truth, np.concatenate(self.kept).astype(np.float32)))
        reset()
        if found.size != 1 or found.dtype.kind not in "biuf":
            raise DataError(
                f"{self.name}: the metric returned {found.dtype} numbers of shape {found.shape}; "
                "it must return one number, such as their mean"
            )
        return float(found.reshape(()))


def _runner(source: Source, name: str) -> Runner:
    with named_in_errors(name):
        return Runner(source)


def _output_of(runner: Runner, output: str | None, name: str) -> str:
    known = [spec.name for spec in runner.outputs]
    if output is None:
        if len(known) > 1:
            raise OptionError(
                f"{name}: has the outputs {', '.join(known)}; choose one with output="
            )
        return known[0]
    if output not in known:
        raise OptionError(f"{name}: has no output {output!r}. {nearest(output, known)}")
    return output


def _right(outputs: np.ndarray, truth: np.ndarray, first: int) -> np.ndarray:
    """Return for each sample whether the output is correct.

    Raises:
        DataError: The labels are not classes of this output.
    """
    if is_whole(outputs):
        truth = _like(outputs, truth)
        if truth.shape != outputs.shape:
            raise DataError(
                f"labels: the file's output has classes of shape {outputs.shape}. "
                f"Received {truth.shape}"
            )
        _check_classes(truth)
        return outputs == truth
    if outputs.ndim < 2:
        outputs = outputs[:, None]
    classes = outputs.shape[-1]
    if classes == 1:
        if outputs.min(initial=0.0) < 0 or outputs.max(initial=1.0) > 1:
            raise DataError(
                "the file's single output is not a probability (outside [0, 1]); give a metric "
                "for this kind of output"
            )
        found, classes = (outputs[..., 0] > 0.5).astype(np.int64), 2
    else:
        found = outputs.argmax(-1)
        if truth.shape == outputs.shape:
            truth = _from_one_hot(truth, first)
    truth = _like(found, truth)
    if truth.shape != found.shape:
        raise DataError(
            f"labels: expected the shape {found.shape} or one-hot {outputs.shape}. "
            f"Received {truth.shape}"
        )
    whole = _check_classes(truth)
    outside = (whole < 0) | (whole >= classes)
    if outside.any():
        bad = int(whole[outside][0])
        sample = first + int(np.argwhere(outside)[0][0])
        raise DataError(
            f"labels: {bad} at sample {sample} is out of range; the file has {classes} classes "
            f"(0 to {classes - 1})"
        )
    return found == whole


def _like(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return labels without a last axis of 1, if the outputs have none."""
    return truth[..., 0] if truth.shape == (*found.shape, 1) else truth


def _check_classes(truth: np.ndarray) -> np.ndarray:
    """Return labels as integers.

    Raises:
        DataError: They are not integers.
    """
    whole = np.rint(truth).astype(np.int64) if truth.dtype.kind in "biuf" else None
    if whole is None or not np.array_equal(whole, truth):
        raise DataError(
            f"labels: expected class numbers. Received {truth.dtype} values like "
            f"{truth.reshape(-1)[0]!r}; give a metric for other tasks"
        )
    return whole


def _from_one_hot(truth: np.ndarray, first: int) -> np.ndarray:
    """Return the classes of one-hot (or soft) labels."""
    if not np.allclose(truth.sum(-1), 1.0, atol=1e-3):
        bad = first + int(np.argwhere(~np.isclose(truth.sum(-1), 1.0, atol=1e-3))[0][0])
        raise DataError(f"labels: sample {bad} is not one-hot: its values do not sum to 1")
    return truth.argmax(-1)
