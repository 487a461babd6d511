"""Outputs and labels of a batch, checked and in the form that metrics read."""

from dataclasses import dataclass, field

import numpy as np

from tfprune.data.model_comparison import is_whole
from tfprune.errors import DataError


@dataclass(frozen=True)
class Answers:
    """One batch for the metrics.

    Attributes:
        found: What the model says: class numbers, numbers, decisions, scores or embeddings.
        truth: The labels, in the shape that the form gives them.
        scores: For classes, the outputs behind `found`, one for each class; else empty.
        classes: For classes, their number; 0 if the outputs are decisions and do not tell.
        logits: Whether `scores` are logits rather than probabilities.
    """

    found: np.ndarray
    truth: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    classes: int = 0
    logits: bool = False


@dataclass(frozen=True)
class Reading:
    """How outputs are read: the options of a task that its form needs."""

    ignore: int | None = None
    logits: bool | None = None


def classes(
    outputs: np.ndarray, labels: np.ndarray, reading: Reading, *, first: int = 0
) -> Answers:
    """Return class numbers: the top class of each output, and the labels.

    Args:
        outputs: Scores by class on the last axis, one probability, or decisions.
        labels: Class numbers or one-hot.
        reading: What to ignore, and whether a single output is a logit.
        first: Number of the first sample, for errors.

    Raises:
        DataError: The labels are not classes of this output.
    """
    count, scores = 0, np.zeros(0)
    if is_whole(outputs):
        found, truth = outputs, _like(outputs, labels)
        if truth.shape != outputs.shape:
            raise DataError(
                f"labels: the file's output has classes of shape {outputs.shape}. "
                f"Received {truth.shape}"
            )
        truth = _whole(truth)
    else:
        scores = outputs if outputs.ndim > 1 else outputs[:, None]
        count = scores.shape[-1]
        if count == 1:
            found, count, truth = _decided(scores[..., 0], reading), 2, labels
        else:
            found = scores.argmax(-1)
            truth = _from_one_hot(labels, first) if labels.shape == scores.shape else labels
        truth = _like(found, truth)
        if truth.shape != found.shape:
            raise DataError(
                f"labels: expected the shape {found.shape} or one-hot {scores.shape}. "
                f"Received {truth.shape}"
            )
        truth = _whole(truth)
        _check_range(truth, count, reading, first)
    if reading.ignore is not None:
        kept = truth != reading.ignore
        found, truth = found[kept], truth[kept]
        scores = scores[kept] if scores.size else scores
    logits = bool(reading.logits)
    return Answers(found, truth, scores, count, logits)


def numbers(
    outputs: np.ndarray, labels: np.ndarray, reading: Reading, *, first: int = 0
) -> Answers:
    """Return numbers, a row for each sample.

    Raises:
        DataError: The labels do not have the shape of the outputs, or are no numbers.
    """
    labels = _like(outputs, labels)
    if labels.shape != outputs.shape and outputs.shape == (*labels.shape, 1):
        outputs = outputs[..., 0]
    if labels.shape != outputs.shape:
        raise DataError(f"labels: expected the shape {outputs.shape}. Received {labels.shape}")
    found, truth = (_finite(one, first).reshape(len(one), -1) for one in (outputs, labels))
    return Answers(found, truth)


def decisions(
    outputs: np.ndarray, labels: np.ndarray, reading: Reading, *, first: int = 0
) -> Answers:
    """Return a yes or no for each label of a sample.

    Raises:
        DataError: The labels do not have the shape of the outputs, or are not 0 or 1.
    """
    if labels.shape != outputs.shape:
        raise DataError(f"labels: expected the shape {outputs.shape}. Received {labels.shape}")
    _check_binary(labels, first)
    found = outputs if is_whole(outputs) else _decided(outputs, reading)
    return Answers(found.astype(bool), labels.astype(bool))


def scores(outputs: np.ndarray, labels: np.ndarray, reading: Reading, *, first: int = 0) -> Answers:
    """Return one score for each sample, which is high where the label is 1.

    Raises:
        DataError: There is not one score for each sample, or a label is not 0 or 1.
    """
    found, truth = outputs.reshape(len(outputs), -1), labels.reshape(len(labels), -1)
    if found.shape[1] != 1 or truth.shape[1] != 1:
        raise DataError(
            f"labels: expected one label, 0 or 1, for each sample. Received {labels.shape} for "
            f"scores of shape {outputs.shape}"
        )
    _check_binary(truth, first)
    return Answers(_finite(found[:, 0], first), truth[:, 0].astype(np.int64))


def embeddings(
    outputs: np.ndarray, labels: np.ndarray, reading: Reading, *, first: int = 0
) -> Answers:
    """Return vectors, and for each the number of the group that it belongs to.

    Raises:
        DataError: The labels are not one whole number for each sample.
    """
    truth = labels.reshape(len(labels), -1)
    if truth.shape[1] != 1 or outputs.ndim != 2:
        raise DataError(
            "labels: expected outputs (samples, width) and one group number for each. Received "
            f"{outputs.shape} and {labels.shape}"
        )
    return Answers(_finite(outputs, first), _whole(truth[:, 0]))


def reconstruction_error(outputs: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of each sample from its input.

    Raises:
        DataError: An output does not have the shape of the input.
    """
    if outputs.shape != inputs.shape:
        raise DataError(
            f"an autoencoder's output has the shape of its input, {inputs.shape}. "
            f"Received {outputs.shape}"
        )
    gap = outputs.astype(np.float64) - inputs.astype(np.float64)
    return np.asarray((gap**2).reshape(len(gap), -1).mean(1))


def _decided(outputs: np.ndarray, reading: Reading) -> np.ndarray:
    """Return 1 where a single output says yes."""
    if reading.logits:
        return (outputs > 0).astype(np.int64)
    if outputs.min(initial=0.0) < 0 or outputs.max(initial=1.0) > 1:
        raise DataError(
            "the file's single output is not a probability (outside [0, 1]); give a metric "
            "for this kind of output, or a task with from_logits=True"
        )
    return (outputs > 0.5).astype(np.int64)


def _like(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return labels without a last axis of 1, if the outputs have none."""
    return truth[..., 0] if truth.shape == (*found.shape, 1) else truth


def _check_range(truth: np.ndarray, count: int, reading: Reading, first: int) -> None:
    outside = (truth < 0) | (truth >= count)
    if reading.ignore is not None:
        outside &= truth != reading.ignore
    if outside.any():
        bad, sample = int(truth[outside][0]), first + int(np.argwhere(outside)[0][0])
        raise DataError(
            f"labels: {bad} at sample {sample} is out of range; the file has {count} classes "
            f"(0 to {count - 1})"
        )


def _whole(truth: np.ndarray) -> np.ndarray:
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


def _check_binary(labels: np.ndarray, first: int) -> None:
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        sample = first + int(np.argwhere(wrong)[0][0])
        raise DataError(f"labels: {labels[wrong][0]} at sample {sample}; expected 0 or 1")


def _finite(values: np.ndarray, first: int) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise DataError(f"labels: expected numbers. Received {values.dtype}")
    found = values.astype(np.float64)
    bad = ~np.isfinite(found).reshape(len(found), -1).all(1)
    if bad.any():
        raise DataError(f"NaN or infinity in sample {first + int(np.argmax(bad))}")
    return found
