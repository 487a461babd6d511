"""Quality of a file: its outputs compared with the labels and with those of another file.

The Keras model is not used, only the outputs of files.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tfprune.data.batches import BATCH_SIZE, read
from tfprune.data.model_comparison import differences
from tfprune.data.model_inputs import inputs_of_specs
from tfprune.errors import DataError, OptionError, nearest
from tfprune.measure.sources import Source, name_of, named_in_errors
from tfprune.report.data import Measure
from tfprune.runtime.artifact import TensorSpec
from tfprune.runtime.litert import Runner
from tfprune.runtime.stored_numbers import value_range
from tfprune.task.guess import guess_task
from tfprune.task.scoring import Scoring, settled
from tfprune.task.task import Task, as_task, task_for
from tfprune.utils.progress import SILENT, Progress

MANY_OUTSIDE = 0.01
"""From this share on, numbers out of an input's range are an error of the data, not outliers."""

Metric = str | Callable[[np.ndarray, np.ndarray], float]

Choice = Task | Callable[[Any, dict[str, np.ndarray]], Task]
"""A task, or a function of the labels and outputs of the first batch that returns one."""


@dataclass(frozen=True)
class Fidelity:
    """The quality of one file.

    Attributes:
        name: The file.
        samples: Number of samples.
        score: The metric of its outputs: the first of the task.
        agreement: The share of samples with the same answer as the reference file, such as the
            top class; None for outputs that are numbers.
        max_abs_error: The largest difference from the reference file's outputs.
        mean_abs_error: The mean of these differences.
        notes: Remarks on the data; those on labels are on the first file only.
        scores: All metrics of the task, in its order.
        task: The task.
    """

    name: str
    samples: int
    score: float
    agreement: float | None
    max_abs_error: float
    mean_abs_error: float
    notes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    task: Task = field(default_factory=Task)


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
    task: Choice | None = None,
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
        metric: The name of a metric, or a function of the labels and the outputs of all samples
            that returns a number, where higher is better, such as a `keras.metrics.Metric`.
        task: The task, instead of `metric`; or a function of the labels and the outputs of the
            first batch that returns it.
        output: The output to score, if the files have several.
        batch_size: Batch size, for arrays.
        progress: Receives progress reports.

    Raises:
        ArtifactError: A file is missing, not a `.tflite`, or the runtime cannot run it.
        DataError: The data is empty, has NaN, or does not fit a file.
        OptionError: An unknown metric or output.
    """
    wanted: Choice = task_for(metric) if task is None else task
    labels = list(names or map(name_of, sources))
    runners = [_runner(source, name) for source, name in zip(sources, labels, strict=True)]
    tallies: list[_Tally] = []
    chosen: list[list[str]] = []
    if isinstance(wanted, Task):
        chosen = _outputs_of(runners, wanted, output, labels)
    shown = wanted.measures[0].title if isinstance(wanted, Task) else "quality"
    with progress.task(f"{shown} of the files", None) as step:
        takes = inputs_of_specs(runners[0].inputs)
        for batch in read(data, takes, "data", size=batch_size, labels=_need(wanted)):
            x = dict(zip(takes.names, batch.inputs, strict=True)) if batch.named else batch.inputs
            answers = [dict(runner.run_named(x)) for runner in runners]
            if not isinstance(wanted, Task):
                wanted = wanted(batch.labels, answers[0])
                chosen = _outputs_of(runners, wanted, output, labels)
            kept = [_of(found, outs) for found, outs in zip(answers, chosen, strict=True)]
            if not tallies:
                wanted = settled(wanted, kept[0])
                tallies = [_Tally(name, wanted) for name in labels]
            truth = batch.labels
            if isinstance(truth, dict) and not wanted.outputs and len(chosen[0]) == 1:
                truth = _of_output(truth, chosen[0][0])
            for runner, found, tally in zip(runners, kept, tallies, strict=True):
                tally.compare(found, kept[0])
                tally.look_at(runner.arrays(x), runner.inputs)
                tally.scoring.add(found, truth, batch.inputs, batch.first)
            step.advance(batch.size)
    results = [tally.result() for tally in tallies]
    if one_class := tallies[0].scoring.one_class():
        results[0] = replace(results[0], notes=(one_class, *results[0].notes))
    return tuple(results)


def chosen_task(task: Task | str | None, metric: Metric | None) -> Choice:
    """Return the task of a call; a guess from the data if neither is given.

    Raises:
        OptionError: Both are given, or one is unknown.
    """
    if task is not None and metric is not None:
        raise OptionError("metric: the task has its own metrics; give one of metric= and task=")
    if task is not None:
        return as_task(task)
    return guessed if metric is None else task_for(metric)


def measures_of(task: Task) -> tuple[Measure, ...]:
    """Return the metrics of a task for reports."""
    return tuple(
        Measure(one.title, one.metric.higher_is_better, one.unit, one.metric.share)
        for one in task.measures
    )


def guessed(labels: Any, outputs: dict[str, np.ndarray]) -> Task:
    """Return the task of files on which nothing is said: classification unless labels show else."""
    single = next(iter(outputs.values())) if len(outputs) == 1 else outputs
    task = guess_task(labels, single)
    return Task() if not task.outputs and task.kind.form == "classes" else task


def _need(task: Choice) -> Literal["needed", "allowed"]:
    """Return whether labels are needed; those of an autoencoder are its inputs."""
    free = isinstance(task, Task) and task.kind.from_inputs and task.name != "anomaly"
    return "allowed" if free else "needed"


def _of(answers: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: answers[name] for name in names}


def _of_output(truth: dict[str, Any], name: str) -> Any:
    if name not in truth:
        raise DataError(f"labels: no labels of output {name!r}. {nearest(name, truth)}")
    return truth[name]


@dataclass
class _Tally:
    """Running sums over the batches of one file."""

    name: str
    task: Task
    samples: int = 0
    same: int = 0
    answers: int = 0
    worst: float = 0.0
    error: float = 0.0
    numbers: int = 0
    given: Counter[TensorSpec] = field(default_factory=Counter)
    outside: Counter[TensorSpec] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.scoring = Scoring(self.task)

    def compare(self, outputs: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> None:
        self.samples += len(next(iter(outputs.values())))
        for name, expected in zip(reference, reference.values(), strict=True):
            found = outputs[name] if name in outputs else next(iter(outputs.values()))
            if found.shape != expected.shape:
                raise DataError(
                    f"{self.name}: its output has the shape {found.shape[1:]}, that of the "
                    f"baseline {expected.shape[1:]}; only files for the same task can be compared"
                )
            part = self.task.outputs.get(name, self.task)
            same = part.agreement(expected, found)
            if same is not None:
                self.same += int(same.sum())
                self.answers += same.size
            gap = differences(expected, found, equal_holes=True)
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

    def result(self) -> Fidelity:
        try:
            scores = self.scoring.values()
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None
        return Fidelity(
            name=self.name,
            samples=self.samples,
            score=scores[0],
            agreement=self.same / self.answers if self.answers else None,
            max_abs_error=self.worst,
            mean_abs_error=self.error / self.numbers,
            notes=tuple(self._cut_off()),
            scores=scores,
            task=self.task,
        )

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


def _runner(source: Source, name: str) -> Runner:
    with named_in_errors(name):
        return Runner(source)


def _outputs_of(
    runners: Sequence[Runner], task: Task, output: str | None, names: Sequence[str]
) -> list[list[str]]:
    """Return the names of the outputs of each file that are scored."""
    if task.outputs or (task.name == "custom" and output is None):
        if output is not None:
            raise OptionError(f"output: the task is of several outputs. Received {output!r}")
        found = []
        for runner, name in zip(runners, names, strict=True):
            known = [spec.name for spec in runner.outputs]
            for wanted in task.outputs:
                if wanted not in known:
                    raise OptionError(f"{name}: has no output {wanted!r}. {nearest(wanted, known)}")
            found.append(list(task.outputs) or known)
        return found
    return [[_output_of(x, output, name)] for x, name in zip(runners, names, strict=True)]


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
