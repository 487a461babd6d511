"""Sets of samples that are read in batches, from their beginning for every pass.

A `Stream` has what a `Split` of arrays has, but holds no more than a few batches: of a dataset or
another iterable in the forms of `data_forms`, or of memory-mapped arrays.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.data.batches import BATCH_SIZE, Empty, first_batch, read
from tfprune.data.data_forms import Forms, announced_length
from tfprune.data.model_inputs import leaves, mapped
from tfprune.data.samples import Split
from tfprune.errors import DataError

HEAD = 256
"""Number of samples, in whole batches, that show what a stream is like."""

HEAD_BYTES = 1 << 26
"""No further batch is read for the head once it has this size."""

SHUFFLED = 16
"""Number of batches of memory-mapped arrays that are shuffled together."""

CHUNKS, CHUNK = 4096, 256
"""Memory-mapped arrays are read in about as many chunks, of at most so many rows."""

Convert = Callable[[Split, str], Split]
"""What becomes of a batch; the text names the batch in errors."""


@dataclass(frozen=True, eq=False)
class Mapped:
    """Memory-mapped arrays, or some chunks of their rows.

    Attributes:
        arrays: The arrays as given.
        chunk: The number of rows of a chunk.
        starts: The first row of each chunk.
    """

    arrays: Split
    chunk: int
    starts: NDArray

    @staticmethod
    def of(arrays: Split) -> "Mapped":
        """Return all rows of arrays."""
        chunk = min(max(len(arrays) // CHUNKS, 1), CHUNK)
        return Mapped(arrays, chunk, np.arange(0, len(arrays), chunk))

    def __len__(self) -> int:
        cut = (self.starts[-1:] + self.chunk - len(self.arrays)).max(initial=0)
        return len(self.starts) * self.chunk - int(cut)

    def batches(self, size: int, random: np.random.Generator | None) -> Iterator[Split]:
        """Yield batches in order, or shuffled within groups of random chunks."""
        order = self.starts if random is None else random.permutation(self.starts)
        group = math.ceil(size * (1 if random is None else SHUFFLED) / self.chunk)
        left: list[Split] = []
        for at in range(0, len(order), group):
            block = joined([self._read(start) for start in order[at : at + group]])
            if random is not None:
                block = block.rows(random.permutation(len(block)))
            block = joined([*left, block])
            whole = len(block) // size * size
            yield from (block.rows(slice(row, row + size)) for row in range(0, whole, size))
            left = [block.rows(slice(whole, None))] if whole < len(block) else []
        yield from left

    def _read(self, start: int) -> Split:
        rows = self.arrays.rows(slice(start, start + self.chunk))
        return Split(*mapped(lambda a: None if a is None else np.array(a), rows.three))


@dataclass
class _Length:
    """What is known of the length of a stream.

    Attributes:
        announced: The number of elements that it says it has.
        first: The number of samples of the first element; 0 if elements are single samples.
        samples: The number of samples in a whole pass, once there was one.
        batches: The number of batches that were counted, by batch size and limit.
    """

    announced: int | None
    first: int
    samples: int | None = None
    batches: dict[tuple[int, int | None], int] = field(default_factory=dict)

    @property
    def single(self) -> bool:
        """Return whether elements are single samples."""
        return not self.first


@dataclass(frozen=True, eq=False)
class Stream:
    """A set that is read in batches; iterating it gives them in a form of `data_forms`.

    Attributes:
        data: A dataset or another iterable that can be read again, a function that returns one, or
            `Mapped` arrays.
        name: Its name in errors.
        convert: What becomes of each batch.
        limit: The number of samples that are read; None: all.
        seed: The order in which `Mapped` arrays are read; None: theirs.
    """

    data: Any
    name: str
    convert: Convert = lambda split, name: split
    limit: int | None = None
    seed: int | None = None
    _shared: dict[str, _Length] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(data: Any, name: str) -> "Stream":
        """Return data that is not arrays, in a form of `data_forms`, as a set.

        Raises:
            DataError: It cannot be read again, or is endless, empty or of another form.
        """
        found = Forms(None, name).called(data)
        if isinstance(data, Iterator):
            raise DataError(
                f"{name}: a generator can be read only once; give a function that returns it"
            )
        stream = Stream(data if isinstance(found, Iterator) else found, name)
        stream.length  # noqa: B018 (raises for what is not data)
        return stream

    def __iter__(self) -> Iterator[Any]:
        return (split.given for split in self.batches())

    @property
    def length(self) -> _Length:
        """Return what is known of the length."""
        if "all" not in self._shared:
            if isinstance(self.data, Mapped):
                found = _Length(len(self.data), 0)
            else:
                data = Forms(None, self.name).called(self.data)
                found = _Length(announced_length(self.data), first_batch(data, self.name))
            self._shared["all"] = found
        return self._shared["all"]

    def batches(
        self, size: int = BATCH_SIZE, random: np.random.Generator | None = None
    ) -> Iterator[Split]:
        """Yield converted batches: of a size, or as large as the data gives them.

        Args:
            size: Size of batches of single samples and of memory-mapped arrays.
            random: Shuffles memory-mapped arrays; other data has its own order.

        Raises:
            DataError: The data is not what it was in the first batch, or in the pass before.
        """
        count = number = 0
        for split in self._raw(size, random):
            split = split if self.limit is None else split.first(self.limit - count)
            number, count = number + 1, count + len(split)
            self._check_not_longer(number, count)
            yield self.convert(split, f"{self.name}, batch {number}")
            if count == self.limit:
                return
        self._check_length(number, count)

    def _raw(self, size: int, random: np.random.Generator | None) -> Iterator[Split]:
        if isinstance(self.data, Mapped):
            ordered = None if self.seed is None else np.random.default_rng(self.seed)
            yield from self.data.batches(size, random or ordered)
            return
        try:
            for batch in read(self.data, None, self.name, size=size, labels="needed"):
                x = batch.inputs
                x = tuple(x) if isinstance(x, list) else x  # which a list of examples is not
                yield Split(x, batch.labels, batch.weights)
        except Empty:
            self._check_length(0, 0)
            raise

    def _check_not_longer(self, batches: int, samples: int) -> None:
        known = self.length
        if known.announced is not None and (samples if known.single else batches) > known.announced:
            raise DataError(f"{self.name}: it goes on after its length, {known.announced}")

    def _check_length(self, batches: int, samples: int) -> None:
        known = self.length
        if known.samples not in (None, samples):
            raise DataError(
                f"{self.name}: {samples} samples, but {known.samples} when it was read before; "
                "every pass must begin again: give a function that returns the data, or an object "
                "whose __iter__ does"
            )
        if known.announced not in (None, batches, samples):
            raise DataError(
                f"{self.name}: {batches} batches of {samples} samples, but its length is "
                f"{known.announced}"
            )
        if batches:
            known.samples = samples

    def steps(self, size: int) -> int:
        """Return the number of batches, which are read and counted if it is not known."""
        known, limit = self.length, self.limit
        if known.announced is not None and (known.single or limit is None):
            count = known.announced if limit is None else min(limit, known.announced)
            return math.ceil(count / size) if known.single else count
        counted = (size if known.single else 0, limit)
        if counted not in known.batches:
            raw = replace(self, convert=_unchanged)
            known.batches[counted] = sum(1 for _ in raw.batches(size))
        return known.batches[counted]

    @cached_property
    def head(self) -> Split:
        """The first batches, or one if batches have different shapes."""
        return self._head()

    def _head(self) -> Split:
        found: list[Split] = []
        for split in self.batches():
            found.append(split)
            held = sum(array.nbytes for one in found for array in one.arrays())
            if sum(map(len, found)) >= HEAD or held > HEAD_BYTES:
                break
        shapes = {tuple(array.shape[1:] for array in one.arrays()) for one in found}
        return joined(found) if len(shapes) == 1 else found[0]

    @property
    def given(self) -> "Stream":
        """Return the set in a form of `data_forms`: itself."""
        return self

    def first(self, count: int | None) -> "Stream":
        """Return the first `count` examples; None: all."""
        if count is not None and hasattr(self.data, "unbatch"):
            own = self.length.first
            fewer = self.data.unbatch().take(count).batch(own) if own else self.data.take(count)
            return replace(self, data=fewer, _shared={})
        fewer = [number for number in (count, self.limit) if number is not None]
        return replace(self, limit=min(fewer, default=None))

    def some(self, count: int, seed: int) -> "Stream":
        """Return at most `count` examples: the first, at random only if memory-mapped."""
        return replace(self.first(count), seed=seed)

    def with_chunks(self, chunks: NDArray) -> "Stream":
        """Return some of the chunks of memory-mapped arrays."""
        data = replace(self.data, starts=self.data.starts[chunks])
        return replace(self, data=data, _shared={})

    def converted(self, convert: Convert) -> "Stream":
        """Return the set with a further conversion of each batch."""
        before = self.convert
        return replace(self, convert=lambda split, name: convert(before(split, name), name))

    def fingerprint(self, digest: "hashlib._Hash", name: str) -> str:
        """Add form, length and some samples to a digest; return what identifies the set."""
        head, steps = self.head, self.steps(BATCH_SIZE)
        digest.update(f"{name} {steps} {_form(head)}".encode())
        own = f"in its own batches of {self.length.first}, " if self.length.first else ""
        if isinstance(self.data, Mapped):
            rows = np.linspace(0, len(self.data.arrays) - 1, HEAD).astype(int)
            head = self.data.arrays.rows(rows)
        elif any(
            not np.array_equal(one, other)
            for one, other in zip(head.arrays(), self._head().arrays(), strict=True)
        ):
            return f"{own}identified by form and length; its samples differ from pass to pass"
        for array in head.arrays():
            digest.update(np.ascontiguousarray(array).data)
        return f"{own}identified by form, length and {len(head)} samples"


def _unchanged(split: Split, name: str) -> Split:
    return split


def _form(split: Split) -> str:
    return str(mapped(lambda a: None if a is None else (a.shape[1:], str(a.dtype)), split.three))


def joined(splits: list[Split]) -> Split:
    """Return sets, one after the other, as one."""
    if len(splits) == 1:
        return splits[0]
    columns = zip(*(leaves(split.three) for split in splits), strict=True)
    arrays = iter([None if column[0] is None else np.concatenate(column) for column in columns])
    return Split(*mapped(lambda _: next(arrays), splits[0].three))
