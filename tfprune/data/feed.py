"""What `fit` is given: arrays as they are, and a `tf.data.Dataset` of a stream's batches."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tfprune.data.data_forms import Forms
from tfprune.data.model_inputs import ModelInputs, mapped
from tfprune.data.samples import Split
from tfprune.data.streams import Stream
from tfprune.errors import DataError, TfpruneError

Check = Callable[[Split, str], None]
"""Raises unless a batch fits the model; the text names the batch in errors."""


@dataclass
class Feed:
    """The batches of a stream for one model.

    Args:
        stream: The set.
        takes: The inputs of the model.
        size: Size of batches of single samples and of memory-mapped arrays.
        check: Called with every batch.
        seed: Shuffles memory-mapped arrays in another order in each epoch; None: not.
        epoch: The number of the epoch that is read next, for that order.

    Attributes:
        failed: The errors in its batches, which TensorFlow replaces by its own.
    """

    stream: Stream
    takes: ModelInputs
    size: int
    check: Check
    seed: int | None = None
    failed: list[TfpruneError] = field(default_factory=list)
    epoch: int = 0

    def dataset(self) -> Any:
        """Return a `tf.data.Dataset` of the batches, which is read again in every epoch."""
        import tensorflow as tf

        data, flat, plain = (
            self.stream.data,
            self._specs(),
            tf.autograph.experimental.do_not_convert,
        )
        if hasattr(data, "element_spec"):
            # TensorFlow reads it: a dataset that waits for Python, which waits for another
            # dataset, may wait for the same thread.
            data = data.batch(self.size) if self.stream.length.single else data
            made = data.map(plain(lambda *element: self._converted(element, flat)))
        else:
            made = tf.data.Dataset.from_generator(self._batches, output_signature=tuple(flat))
        steps = tf.data.experimental.assert_cardinality(self.stream.steps(self.size))
        return made.map(plain(self._packed)).prefetch(1).apply(steps)

    def _converted(self, element: tuple[Any, ...], flat: list[Any]) -> tuple[Any, ...]:
        """Return the tensors of a batch of a dataset, converted in Python."""
        import tensorflow as tf

        name = self.stream.name

        def convert(*arrays: Any) -> list[np.ndarray]:
            with self._noting():
                item = tf.nest.pack_sequence_as(element, arrays)
                parts = Forms(None, name).parts(item)
                return self._flat(self.stream.convert(Split(*parts.three), name), name)

        made = tf.numpy_function(convert, tf.nest.flatten(element), [spec.dtype for spec in flat])
        return tuple(tf.ensure_shape(one, spec.shape) for one, spec in zip(made, flat, strict=True))

    def _batches(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the batches of one epoch, flat."""
        random = None if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        waiting: list[tuple[np.ndarray, ...]] = []
        with self._noting():
            for number, split in enumerate(self.stream.batches(self.size, random), 1):
                yield from waiting
                waiting = [tuple(self._flat(split, f"{self.stream.name}, batch {number}"))]
        # Keras reads no further than the last batch: what follows is checked before it is given.
        if hasattr(self.stream.data, "on_epoch_end"):
            self.stream.data.on_epoch_end()
        yield from waiting

    def _flat(self, split: Split, name: str) -> list[np.ndarray]:
        """Return the arrays of a batch, checked, inputs in the order of the model."""
        self.check(split, name)
        arrays = Split(in_order(split.x, self.takes, name), split.y, split.w).arrays()
        expected, found = self._kinds, [(array.dtype, array.ndim) for array in arrays]
        if found != expected:
            raise DataError(
                f"{name}: arrays of {_listed(found)}; those of the first batch have "
                f"{_listed(expected)}. Give all batches the same types."
            )
        return arrays

    @cached_property
    def _kinds(self) -> list[tuple[Any, int]]:
        """Return type and number of axes of each array, as the first batches have them."""
        head = self.stream.head
        first = Split(in_order(head.x, self.takes, self.stream.name), head.y, head.w)
        return [(array.dtype, array.ndim) for array in first.arrays()]

    def _specs(self) -> list[Any]:
        """Return a specification of each array; sizes are open where the model leaves them open."""
        import tensorflow as tf

        head = self.stream.head
        shapes: list[Any] = [one.shape[1:] for one in self.takes.inputs]
        free = any(size is None for shape in shapes for size in shape)
        for array in Split(None, head.y, head.w).arrays():
            shapes.append([None] * (array.ndim - 1) if free else array.shape[1:])
        arrays = self._flat(head, self.stream.name)
        return [
            tf.TensorSpec((None, *shape), array.dtype)
            for shape, array in zip(shapes, arrays, strict=True)
        ]

    def _packed(self, *tensors: Any) -> tuple[Any, ...]:
        """Return inputs, labels and weights in the structures that the model takes."""
        count, head = len(self.takes.inputs), self.stream.head
        rest = iter(tensors[count:])
        labels, weights = mapped(lambda a: None if a is None else next(rest), (head.y, head.w))
        inputs = _as_tuples(self.takes.packed(tensors[:count]))
        return (inputs, labels) if head.w is None else (inputs, labels, weights)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except TfpruneError as error:
            self.failed.append(error)
            raise


def in_order(x: Any, takes: ModelInputs, name: str) -> list[Any]:
    """Return the inputs of samples in the order of a model; raise if it takes others."""
    return list(Forms(takes, name).parts((x,)).inputs)


def packed(x: Any, takes: ModelInputs, name: str) -> Any:
    """Return the inputs of samples in the structure that a model's call takes."""
    return takes.packed(in_order(x, takes, name))


def _as_tuples(structure: Any) -> Any:
    """Return a structure that `tf.data` keeps: it makes tensors of lists."""
    if isinstance(structure, dict):
        return {key: _as_tuples(part) for key, part in structure.items()}
    return tuple(map(_as_tuples, structure)) if isinstance(structure, list | tuple) else structure


def _listed(kinds: list[tuple[Any, int]]) -> str:
    return ", ".join(f"{dtype} with {rank} axes" for dtype, rank in kinds)
