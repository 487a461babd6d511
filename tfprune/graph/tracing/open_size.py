"""The size of an unknown axis, as a whole number that can be computed with.

A `Size` is a sum of products of unknown axes, so that `2 * n - n` is `n`. At run time it becomes a
tensor: `value` is the number itself, and `line` is a vector of that length. No length is fixed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.errors import ModelError

MANY = 720720
"""A size that all numbers up to 16 divide."""


class OpenSizeError(ModelError, TypeError):
    """Raised if a layer needs a number and the size of the axis is unknown."""


@dataclass(frozen=True, eq=False)
class _Axis:
    """An axis of a symbolic tensor. It is assumed not to be empty."""

    tensor: Any
    axis: int
    least = 1

    @property
    def key(self) -> tuple:
        return (0, id(self.tensor), self.axis)

    def at(self, number: Callable[[tuple], int]) -> int:
        return number(size_of(self.tensor, self.axis).key)

    def line(self) -> Any:
        others = tuple(axis for axis in range(len(self.tensor.shape)) if axis != self.axis)
        zeros = ops.zeros_like(self.tensor, dtype="int32")
        return ops.cast(ops.sum(zeros, axis=others) if others else zeros, "int32")

    def __repr__(self) -> str:
        return f"axis {self.axis} of {tuple(self.tensor.shape)}"


@dataclass(frozen=True, eq=False)
class _Quotient:
    """A size divided by a number, rounded down."""

    size: "Size"
    by: int
    least = 0

    @property
    def key(self) -> tuple:
        return (1, self.size.key, self.by)

    def at(self, number: Callable[[tuple], int]) -> int:
        return self.size.at(number) // self.by

    def line(self) -> Any:
        return self.size.line()[(slice(self.by - 1, None, self.by),)]

    def __repr__(self) -> str:
        return f"({self.size}) // {self.by}"


_Terms = Mapping[tuple, tuple[int, tuple[Any, ...]]]


class Size:
    """A whole number that depends on unknown axes: `terms` and a constant.

    `terms` has, by a key, the factor of each product of axes or quotients.
    """

    def __init__(self, terms: _Terms, constant: int = 0) -> None:
        self.terms = {key: term for key, term in terms.items() if term[0]}
        self.constant = constant

    @property
    def key(self) -> tuple:
        """What equal sizes have in common."""
        return frozenset((key, term[0]) for key, term in self.terms.items()), self.constant

    @property
    def axis(self) -> int | None:
        """The axis whose size this is; None for a result of arithmetic."""
        if self.constant or len(self.terms) != 1:
            return None
        ((factor, atoms),) = self.terms.values()
        plain = factor == 1 and len(atoms) == 1 and isinstance(atoms[0], _Axis)
        return atoms[0].axis if plain else None

    # arithmetic

    def __add__(self, other: Any) -> Any:
        number = _number(other)
        if number is None:
            return self.value() + other
        terms = dict(self.terms)
        for key, (factor, atoms) in number.terms.items():
            terms[key] = (factor + terms.get(key, (0, atoms))[0], atoms)
        return _settled(Size(terms, self.constant + number.constant))

    def __mul__(self, other: Any) -> Any:
        number = _number(other)
        if number is None:
            return self.value() * other
        every = [*self.terms.values(), (self.constant, ())]
        total: Any = 0
        for factor, atoms in every:
            for times, more in [*number.terms.values(), (number.constant, ())]:
                total = total + _product(factor * times, (*atoms, *more))
        return total

    def __floordiv__(self, other: Any) -> Any:
        number = _number(other)
        if number is None:
            return self.value() // other
        if not number.terms:
            return self._divided(number.constant)
        if number.constant or len(number.terms) != 1:
            raise OpenSizeError(f"{self} is divided by {number}")
        ((by, divisors),) = number.terms.values()
        total: Any = 0
        for factor, atoms in self.terms.values():
            left = list(atoms)
            for divisor in divisors:
                left = _without(left, divisor)
            if self.constant or factor % by or len(left) > len(atoms) - len(divisors):
                raise OpenSizeError(f"{self} is divided by {number}")
            total = total + _product(factor // by, tuple(left))
        return total

    def _divided(self, by: int) -> Any:
        """Divide by a number and round down; what it divides without rest is divided first."""
        if by == 1:
            return self
        if by < 1:
            raise OpenSizeError(f"{self} is divided by {by}")
        whole: Any = self.constant // by
        rest: Any = self.constant % by
        for factor, atoms in self.terms.values():
            fits = factor % by == 0
            whole = whole + _product(factor // by if fits else 0, atoms)
            rest = rest + _product(0 if fits else factor, atoms)
        if not isinstance(rest, Size):
            return whole
        if all(factor < 0 for factor, _ in rest.terms.values()):
            return whole - _quotient(-rest + by - 1, by)
        return whole + _quotient(rest, by)

    def __mod__(self, other: Any) -> Any:
        number = _number(other)
        return self.value() % other if number is None else self - (self // other) * other

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        number = _number(other)
        return self.value() - other if number is None else self + number * -1

    def __rsub__(self, other: Any) -> Any:
        return self * -1 + other

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Any:
        return ops.true_divide(self.value(), other.value() if isinstance(other, Size) else other)

    def __rtruediv__(self, other: Any) -> Any:
        return ops.true_divide(other, self.value())

    def __pow__(self, other: Any) -> Any:
        return ops.power(ops.cast(self.value(), keras.config.floatx()), other)

    # comparison

    def _sign(self, other: Any) -> int | None:
        """Return the sign of the difference; None if it depends on the axes."""
        number = _number(other)
        difference = None if number is None else self - number
        if not isinstance(difference, Size):
            return None if difference is None else (difference > 0) - (difference < 0)
        for sign in (1, -1):
            factors = [sign * factor for factor, _ in difference.terms.values()]
            least = sum(
                factor * math.prod(atom.least for atom in atoms)
                for factor, (_, atoms) in zip(factors, difference.terms.values(), strict=True)
            )
            if min(factors) > 0 and least + sign * difference.constant > 0:
                return sign
        return None

    def _compared(self, other: Any, holds: Callable[[int], bool]) -> bool:
        sign = self._sign(other)
        if sign is None:
            raise OpenSizeError(f"the size of {self} is open and cannot be compared with {other!r}")
        return holds(sign)

    def __eq__(self, other: object) -> bool:
        return self._compared(other, lambda sign: sign == 0)

    def __lt__(self, other: Any) -> bool:
        return self._compared(other, lambda sign: sign < 0)

    def __gt__(self, other: Any) -> bool:
        return self._compared(other, lambda sign: sign > 0)

    def __le__(self, other: Any) -> bool:
        return self._compared(other + 1, lambda sign: sign < 0)

    def __ge__(self, other: Any) -> bool:
        return self._compared(other - 1, lambda sign: sign > 0)

    def __bool__(self) -> bool:
        return self != 0

    def __hash__(self) -> int:
        return hash(self.key)

    def __index__(self) -> int:
        raise OpenSizeError(f"a number is needed that depends on {self}, whose size is open")

    def __repr__(self) -> str:
        parts = [
            " * ".join([*([str(factor)] if factor != 1 else []), *map(repr, atoms)])
            for factor, atoms in self.terms.values()
        ]
        return " + ".join([*parts, *([str(self.constant)] if self.constant else [])])

    # tensors

    def at(self, number: Callable[[tuple], int]) -> int:
        """Return what the size is if each axis has a given number of positions."""
        return self.constant + sum(
            factor * math.prod(atom.at(number) for atom in atoms)
            for factor, atoms in self.terms.values()
        )

    @property
    def negative(self) -> bool:
        """Whether it is the negative of a size, as in `x[-n:]`."""
        return self.constant <= 0 and all(factor < 0 for factor, _ in self.terms.values())

    def value(self) -> Any:
        """Return the number as a symbolic tensor."""
        total: Any = self.constant
        for factor, atoms in self.terms.values():
            numbers = [ops.sum(atom.line() + 1) for atom in atoms]
            total = total + factor * math.prod(numbers[1:], start=numbers[0])
        return total

    def line(self) -> Any:
        """Return a vector of zeros with this length, of integers."""
        if self.negative:
            raise OpenSizeError(f"a length is needed that is negative: {self}")
        less = {key: (-factor, atoms) for key, (factor, atoms) in self.terms.items() if factor < 0}
        if less:
            removed = Size(less, max(0, -self.constant))
            longer = (self + removed).line()
            # The places after those removed; no slice can begin at an open size.
            return ops.nonzero(ops.cumsum(longer + 1, axis=0) > removed.value())[0] * 0
        parts = []
        for factor, atoms in self.terms.values():
            line, *more = (atom.line() for atom in atoms)
            for other in more:
                both = ops.expand_dims(line, 1) - ops.expand_dims(other, 0)
                line = ops.reshape(both, (-1,))
            parts.append(line if factor == 1 else ops.repeat(line, factor, axis=0))
        if self.constant > 0:
            parts.append(ops.convert_to_tensor(np.zeros(self.constant, "int32")))
        whole = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=0)
        return whole[(slice(-self.constant, None),)] if self.constant < 0 else whole


def size_of(tensor: Any, axis: int) -> Size:
    """Return the size of an unknown axis of a symbolic tensor."""
    return _term(1, (_Axis(tensor, axis),))


def ratio(size: Any, other: Any) -> int | None:
    """Return how often one size is another, where divisions in them leave no rest, or None."""
    found = set()
    for step in (2, 3):
        numbers: dict[tuple, int] = {}

        def number(key: tuple, step: int = step, numbers: dict[tuple, int] = numbers) -> int:
            return numbers.setdefault(key, MANY * (len(numbers) * step + 1))

        a, b = (one.at(number) if isinstance(one, Size) else one for one in (size, other))
        found.add(a // b if b and a % b == 0 else None)
    return found.pop() if len(found) == 1 else None


def _term(factor: int, atoms: tuple[Any, ...]) -> Size:
    return Size({tuple(sorted((atom.key for atom in atoms), key=repr)): (factor, atoms)})


def _product(factor: int, atoms: tuple[Any, ...]) -> Any:
    return _term(factor, atoms) if atoms and factor else 0 if atoms else factor


def _quotient(size: Any, by: int) -> Any:
    return _term(1, (_Quotient(size, by),)) if isinstance(size, Size) else size // by


def _without(atoms: list[Any], one: Any) -> list[Any]:
    """Return factors without the first that is the same as another."""
    place = next((i for i, atom in enumerate(atoms) if atom.key == one.key), len(atoms))
    return atoms[:place] + atoms[place + 1 :]


def _settled(size: Size) -> Any:
    """Return a plain number if no axis is left in a size."""
    return size if size.terms else size.constant


def _number(value: Any) -> Size | None:
    """Return a whole number as a size; None for a fraction or a tensor."""
    if isinstance(value, Size):
        return value
    return Size({}, int(value)) if isinstance(value, int | np.integer) else None
