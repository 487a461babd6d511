"""Metrics in numpy, one batch at a time: each keeps sums or counts, not the samples.

A metric is registered here once; `tests/contract/test_tasks.py` then compares it with scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tfprune.errors import DataError
from tfprune.task.answers import Answers
from tfprune.task.ranking import Curve, Neighbors
from tfprune.utils.registry import Registry


class Tally(Protocol):
    """The running sums of one metric."""

    def add(self, answers: Answers) -> None:
        """Count one batch."""

    def value(self) -> float:
        """Return the metric of all batches so far."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        title: Its name in reports: "MAE".
        summary: What it is, in one line.
        forms: The forms of answers it reads; see `tfprune.task.task.FORMS`.
        tally: Starts its sums.
        higher_is_better: Its direction.
        share: Whether it is in [0, 1], so that 0.01 is one point.
        curve: The name of the same metric in Keras, for the curves of the training; "" for none.
    """

    title: str
    summary: str
    forms: tuple[str, ...]
    tally: Callable[[], Tally]
    higher_is_better: bool = True
    share: bool = True
    curve: str = ""


METRICS: Registry[Metric] = Registry("metric")


@dataclass
class Right:
    """The share of equal answers."""

    right: float = 0.0
    asked: int = 0

    def add(self, answers: Answers) -> None:
        same = answers.found == answers.truth
        self.right += float(same.sum())
        self.asked += same.size

    def value(self) -> float:
        return _share(self.right, self.asked)


@dataclass
class Exact:
    """The share of samples whose answers are all right."""

    right: int = 0
    asked: int = 0

    def add(self, answers: Answers) -> None:
        same = (answers.found == answers.truth).reshape(len(answers.found), -1).all(1)
        self.right += int(same.sum())
        self.asked += len(same)

    def value(self) -> float:
        return _share(self.right, self.asked)


@dataclass
class Confusion:
    """Counts of each class, true (rows) and found (columns), reduced to one number."""

    reduce: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def add(self, answers: Answers) -> None:
        truth, found = answers.truth.reshape(-1), answers.found.reshape(-1).astype(np.int64)
        if not truth.size:
            return
        size = max(len(self.counts), answers.classes, int(max(truth.max(), found.max())) + 1)
        grown = np.zeros((size, size), np.int64)
        grown[: len(self.counts), : len(self.counts)] = self.counts
        grown += np.bincount(truth * size + found, minlength=size * size).reshape(size, size)
        self.counts = grown

    def value(self) -> float:
        if not self.counts.any():
            raise DataError("labels: every one is ignored; there is nothing to measure")
        return self.reduce(np.diag(self.counts), self.counts.sum(1), self.counts.sum(0))


@dataclass
class F1:
    """The mean over classes, or labels, of the harmonic mean of precision and recall."""

    confusion: Confusion = field(default_factory=lambda: Confusion(_macro_f1))
    both: np.ndarray | int = 0
    true: np.ndarray | int = 0
    found: np.ndarray | int = 0

    def add(self, answers: Answers) -> None:
        if answers.found.dtype != bool:
            self.confusion.add(answers)
            return
        found, truth = (x.reshape(len(x), -1) for x in (answers.found, answers.truth))
        self.both = self.both + (found & truth).sum(0)
        self.true, self.found = self.true + truth.sum(0), self.found + found.sum(0)

    def value(self) -> float:
        if isinstance(self.both, int):
            return self.confusion.value()
        return float(_f1(self.both, np.asarray(self.true), np.asarray(self.found)).mean())


def _f1(both: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.asarray(2 * both / np.maximum(true + found, 1))


def _macro_f1(both: np.ndarray, true: np.ndarray, found: np.ndarray) -> float:
    there = true + found > 0
    return float(_f1(both, true, found)[there].mean())


def _balanced(both: np.ndarray, true: np.ndarray, found: np.ndarray) -> float:
    there = true > 0
    return float((both[there] / true[there]).mean())


def _mean_iou(both: np.ndarray, true: np.ndarray, found: np.ndarray) -> float:
    union = true + found - both
    return float((both[union > 0] / union[union > 0]).mean())


@dataclass
class Surprise:
    """The exponential of the mean cross-entropy of the right class."""

    total: float = 0.0
    asked: int = 0

    def add(self, answers: Answers) -> None:
        scores = answers.scores.reshape(-1, answers.scores.shape[-1]).astype(np.float64)
        if not len(scores) and not answers.truth.size:
            return
        if scores.shape[-1] < 2:
            raise DataError("perplexity needs an output with a score for each class")
        if answers.logits:
            scores = scores - scores.max(-1, keepdims=True)
            logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        else:  # as Keras, which clips at 1e-7: a file of 8 bits has exact zeros
            logs = np.log(np.maximum(scores / scores.sum(-1, keepdims=True), 1e-7))
        truth = answers.truth.reshape(-1)
        self.total -= float(logs[np.arange(len(truth)), truth].sum())
        self.asked += len(truth)

    def value(self) -> float:
        return float(np.exp(_share(self.total, self.asked)))


@dataclass
class Error:
    """The mean of a function of the differences."""

    of: Callable[[np.ndarray], np.ndarray]
    end: Callable[[float], float] = float
    total: float = 0.0
    asked: int = 0

    def add(self, answers: Answers) -> None:
        gap = self.of(answers.found - answers.truth)
        self.total += float(gap.sum())
        self.asked += gap.size

    def value(self) -> float:
        return self.end(_share(self.total, self.asked))


@dataclass
class Explained:
    """R²: the share of the variance of the labels that is explained, averaged over outputs."""

    count: int = 0
    mean: np.ndarray | float = 0.0
    spread: np.ndarray | float = 0.0
    missed: np.ndarray | float = 0.0

    def add(self, answers: Answers) -> None:
        # Means and spreads of parts are joined (Chan's formula): sums of squares lose digits.
        truth, size = answers.truth, len(answers.truth)
        mean = truth.mean(0)
        apart, total = mean - self.mean, self.count + size
        inside = ((truth - mean) ** 2).sum(0)
        self.spread = self.spread + inside + apart**2 * (self.count * size / total)
        self.mean = self.mean + apart * (size / total)
        self.missed = self.missed + ((answers.found - truth) ** 2).sum(0)
        self.count = total

    def value(self) -> float:
        spread, missed = np.atleast_1d(self.spread), np.atleast_1d(self.missed)
        # As in scikit-learn: labels that are all the same are explained wholly or not at all.
        share = 1 - missed / np.where(spread == 0, 1, spread)
        return float(np.where(spread == 0, missed == 0, share).mean())


def _share(part: float, whole: int) -> float:
    if not whole:
        raise DataError("labels: every one is ignored; there is nothing to measure")
    return part / whole


CLASSES, NUMBERS, DECISIONS, SCORES, EMBEDDINGS = (
    ("classes",), ("numbers",), ("decisions",), ("scores",), ("embeddings",)
)  # fmt: skip

_ENTRIES = {
    "accuracy": Metric(
        "accuracy", "share of answers that are the label", CLASSES, Right, curve="accuracy"
    ),
    "balanced_accuracy": Metric(
        "balanced accuracy", "mean over classes of the share found", CLASSES,
        lambda: Confusion(_balanced), curve="accuracy",
    ),
    "f1": Metric(
        "F1", "mean F1 of the classes, or of the labels", (*CLASSES, *DECISIONS), F1
    ),
    "mean_iou": Metric(
        "mean IoU", "mean over classes of intersection over union", CLASSES,
        lambda: Confusion(_mean_iou),
    ),
    "pixel_accuracy": Metric(
        "pixel accuracy", "share of pixels with the right class", CLASSES, Right, curve="accuracy"
    ),
    "perplexity": Metric(
        "perplexity", "exponential of the mean cross-entropy", CLASSES, Surprise,
        higher_is_better=False, share=False,
    ),
    "auc": Metric(
        "AUC", "area under the ROC curve, of two classes or of scores", (*SCORES, *CLASSES), Curve
    ),
    "label_accuracy": Metric(
        "label accuracy", "share of labels that are right", DECISIONS, Right,
        curve="binary_accuracy",
    ),
    "exact_match": Metric(
        "exact match", "share of samples with all answers right", (*DECISIONS, *CLASSES), Exact
    ),
    "mae": Metric(
        "MAE", "mean absolute error", NUMBERS, lambda: Error(np.abs),
        higher_is_better=False, share=False, curve="mae",
    ),
    "mse": Metric(
        "MSE", "mean squared error", NUMBERS, lambda: Error(np.square),
        higher_is_better=False, share=False, curve="mse",
    ),
    "rmse": Metric(
        "RMSE", "root of the mean squared error", NUMBERS,
        lambda: Error(np.square, lambda mean: float(np.sqrt(mean))),
        higher_is_better=False, share=False,
    ),
    "r2": Metric(
        "R²", "share of the labels' variance that is explained", NUMBERS, Explained
    ),
    **{
        f"recall_at_{k}": Metric(
            f"recall@{k}", f"share of samples with one of their group among the {k} nearest",
            EMBEDDINGS, lambda k=k: Neighbors(k),  # type: ignore[misc]
        )
        for k in (1, 5, 10)
    },
}  # fmt: skip
for _name, _entry in _ENTRIES.items():
    METRICS.register(_name)(_entry)
