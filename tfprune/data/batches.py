"""The reader of user data: batches for a model, from any accepted form."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np

from tfprune.data.data_forms import Forms, Parts, shape_of
from tfprune.data.model_inputs import ModelInputs, check_numbers, leaves, mapped, told
from tfprune.errors import DataError, OptionError

BATCH_SIZE = 32
"""Default batch size, for arrays and single samples."""


@dataclass(frozen=True)
class Batch:
    """One batch; labels and weights are None if there are none.

    Inputs are checked, in the structure of the model's inputs or, if that is unknown, of the data.
    `first` is the index of its first sample in the data; `named` is whether the inputs were given
    by name.
    """

    inputs: Any
    labels: Any
    weights: Any
    size: int
    first: int
    named: bool


def read(
    data: Any,
    takes: ModelInputs | None,
    option: str,
    *,
    size: int = BATCH_SIZE,
    labels: Literal["needed", "allowed", "ignored"] = "allowed",
) -> Iterator[Batch]:
    """Yield data in batches, with only one in memory at a time.

    Args:
        data: In any form of `data_forms`. A dataset or an iterable keeps its own batches.
        takes: The model's inputs; None: unknown.
        option: The name of the argument, or of the data with a colon, for error messages.
        size: Batch size, for arrays or single samples.
        labels: Whether labels are required, allowed, or allowed and ignored.

    Raises:
        DataError: The data is missing, empty, endless, in an unknown form, or does not fit the
            model.
        OptionError: The size is not valid.

    Example:
        >>> x, y = np.zeros((40, 3)), np.zeros(40)
        >>> [(batch.first, batch.size) for batch in read((x, y), None, "data")]
        [(0, 32), (32, 8)]
    """
    check_batch_size(size)
    forms = Forms(takes, option, labels != "ignored")
    data = forms.called(data)
    parts = forms.whole(data)
    if parts is None:
        pieces = _grouped(map(forms.parts, forms.elements(data)), takes, option, size)
    else:
        pieces = _cut(parts, takes, option, size)
    first = 0
    for piece in pieces:
        count = _count(piece, option)
        if labels == "needed" and piece.labels is None:
            raise DataError(f"{told(option)}: there are no labels; give (inputs, labels)")
        if count:
            yield _batch(piece, takes, option, first, count)
        first += count
    if not first:
        raise _empty(option)


def first_samples(
    data: Any, takes: ModelInputs, option: str, limit: int
) -> tuple[list[np.ndarray], int | None]:
    """Return at most `limit` samples, an array for each input, and the size of the data.

    Samples of arrays are evenly spaced, since data is often sorted by class. Anything else, which
    may be endless, is read from its beginning; the size is None if it was not read to its end.

    Raises:
        DataError: As `read`, or the samples have different shapes.
    """
    forms = Forms(takes, option, labels=False)
    data = forms.called(data)
    parts = forms.whole(data)
    if parts is not None:
        total = _count(parts, option)
        if not total:
            raise _empty(option)
        takes.check_shapes(parts.inputs, option)
        index = np.linspace(0, total - 1, min(total, limit)).round().astype(int)
        if total > limit:
            parts = parts.mapped(lambda array: np.asarray(array)[index])
        return takes.checked(parts.inputs, option, index), total
    found: list[list[np.ndarray]] = []
    count, ended = 0, True
    for element in forms.elements(data, endless=True):
        if count >= limit:
            ended = False
            break
        piece, _ = _as_batch(forms.parts(element), takes)
        numbers = np.arange(count, count + _count(piece, option))
        found.append(takes.checked(piece.inputs, option, numbers))
        count += len(numbers)
    if not count:
        raise _empty(option)
    arrays = [_joined(column, option)[:limit] for column in zip(*found, strict=True)]
    return arrays, count if ended and count <= limit else None


def one_batch(inputs: Any, takes: ModelInputs, option: str) -> list[np.ndarray]:
    """Return the checked arrays of one batch without labels; several inputs may be a tuple too."""
    parts = Forms(takes, option).parts((inputs,))
    count = _count(parts, option)
    if not count:
        raise _empty(option)
    return takes.checked(parts.inputs, option, range(count))


def check_batch_size(size: Any) -> None:
    """Raise unless a batch size is valid."""
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if not whole or size < 1:
        raise OptionError(f"batch_size: expected a whole number >= 1. Received {size!r}")


class Empty(DataError):
    """Data without a sample."""


def _empty(option: str) -> Empty:
    return Empty(f"{told(option)} is empty: give at least one sample")


def first_batch(data: Any, option: str) -> int:
    """Return the size of the first batch of data; 0 if its elements are single samples."""
    forms = Forms(None, option)
    for element in forms.elements(data):
        batch, single = _as_batch(forms.parts(element), None)
        return 0 if single else _count(batch, option)
    raise _empty(option)


def _cut(parts: Parts, takes: ModelInputs | None, option: str, size: int) -> Iterator[Parts]:
    """Yield arrays cut into batches; memory-mapped ones are read a batch at a time."""
    total = _count(parts, option)
    if takes is not None and total:
        takes.check_shapes(parts.inputs, option)
    for start in range(0, total, size):
        yield parts.mapped(itemgetter(slice(start, start + size)))


def _grouped(
    given: Iterable[Parts], takes: ModelInputs | None, option: str, size: int
) -> Iterator[Parts]:
    """Yield batches unchanged, and single samples grouped into batches."""
    waiting: list[Parts] = []
    for parts in given:
        batch, single = _as_batch(parts, takes)
        if single:
            waiting.append(batch)
        if waiting and (not single or len(waiting) == size):
            yield _stacked(waiting, option)
            waiting = []
        if not single:
            yield batch
    if waiting:
        yield _stacked(waiting, option)


def _as_batch(parts: Parts, takes: ModelInputs | None) -> tuple[Parts, bool]:
    """Return a batch, and whether it was a single sample.

    The ranks of the inputs show it; if they are unknown, labels that are single numbers do.
    """
    if takes is None:
        labels = leaves(parts.labels)
        single = all(label is not None and shape_of(label) == () for label in labels)
    else:
        ranks = [len(one.shape) - 1 for one in takes.inputs]
        single = [len(shape_of(array)) for array in parts.inputs] == ranks
    if not single:
        return parts, False
    return parts.mapped(lambda leaf: np.asarray(leaf)[None]), True


def _stacked(samples: Sequence[Parts], option: str) -> Parts:
    """Return batches of one sample each, joined to one batch."""
    columns = [leaves(one.three) for one in samples]
    if len({tuple(leaf is None for leaf in column) for column in columns}) > 1:
        raise DataError(f"{told(option)}: some samples have labels or weights and others do not")
    joined = iter([_joined(column, option) for column in zip(*columns, strict=True)])
    inputs, labels, weights = mapped(lambda _: next(joined), samples[0].three)
    return Parts(inputs, labels, weights, samples[0].named)


def _joined(arrays: Sequence[Any], option: str) -> Any:
    """Return arrays, concatenated; None for none."""
    if arrays[0] is None:
        return None
    shapes = sorted({shape_of(array)[1:] for array in arrays})
    if len(shapes) > 1:
        raise DataError(
            f"{told(option)}: samples of different shapes: {shapes}; pad them to one shape"
        )
    return np.concatenate(arrays)


def _batch(parts: Parts, takes: ModelInputs | None, option: str, first: int, count: int) -> Batch:
    inputs, labels, weights = parts.mapped(np.asarray).three
    numbers = np.arange(first, first + count)
    if takes is not None:
        inputs = takes.packed(takes.checked(inputs, option, numbers))
    else:
        for array in leaves(inputs):
            check_numbers(array, option, told(option), numbers)
    return Batch(inputs, labels, weights, count, first, parts.named)


def _count(parts: Parts, option: str) -> int:
    """Return the number of samples, which must be the same in all arrays."""
    counts = []
    for part in parts.three:
        shapes = [shape_of(leaf) for leaf in leaves(part) if leaf is not None]
        if () in shapes:
            raise DataError(
                f"{told(option)}: expected arrays whose first axis is the batch. Received a single "
                "number"
            )
        counts.append(sorted({shape[0] for shape in shapes}))
    lengths = {count for part in counts for count in part}
    if len(lengths) > 1:
        names = zip(("inputs", "labels", "weights"), counts, strict=True)
        found = ", ".join(f"{count} {name}" for name, part in names for count in part)
        raise DataError(f"{told(option)}: expected arrays of one length. Received {found}")
    return lengths.pop() if counts[0] else 0
