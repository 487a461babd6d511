"""`only` and `skip`: the layers of a model to which a call applies."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tfprune.errors import FilterError, OptionError, nearest

T = TypeVar("T")
Filter = str | Callable[[T], bool]
Filters = str | Callable[[T], bool] | Iterable[str | Callable[[T], bool]]
"""The type of `only` and `skip`: one filter, or several."""


def as_filters(name: str, filters: Filters[T]) -> tuple["Filter[T]", ...]:
    """Return filters as a tuple; accept one name, regex or predicate, or several.

    Raises:
        OptionError: One is neither, or is not a valid regular expression.
    """
    wanted = "expected names, regular expressions or predicates"
    if isinstance(filters, str) or callable(filters):
        several: tuple[Filter[T], ...] = (filters,)
    elif isinstance(filters, Iterable):
        several = tuple(filters)
    else:
        raise OptionError(f"{name}: {wanted}. Received {filters!r}.")
    for entry in several:
        if isinstance(entry, str):
            try:
                re.compile(entry)
            except re.error as error:
                raise OptionError(
                    f"{name}={entry!r} is not a regular expression: {error}"
                ) from None
        elif not callable(entry):
            raise OptionError(f"{name}: {wanted}. Received {entry!r}.")
    return several


def matches(entry: "Filter[T]", item: T, names: Sequence[str]) -> bool:
    """Return whether a filter matches an item.

    A string matches if it equals one of the item's `names` or is found in one as a regular
    expression; a predicate is called with the item.

    Example:
        >>> matches("head", None, ["model/head/kernel"]), matches("^head", None, ["model/head"])
        (True, False)
    """
    if callable(entry):
        return bool(entry(item))
    return any(entry == name or re.search(entry, name) for name in names)


def choose(
    items: Sequence[T],
    names: Callable[[T], Sequence[str]],
    only: Sequence["Filter[T]"] = (),
    skip: Sequence["Filter[T]"] = (),
) -> list[bool]:
    """Return for each item whether `only` matches it (all, when empty) and `skip` does not.

    Example:
        >>> choose(["stem/kernel", "head/kernel"], lambda path: [path], skip=["head"])
        [True, False]
    """
    return [
        (not only or any(matches(entry, item, names(item)) for entry in only))
        and not any(matches(entry, item, names(item)) for entry in skip)
        for item in items
    ]


def check_used(
    items: Sequence[T],
    names: Callable[[T], Sequence[str]],
    only: Sequence["Filter[T]"] = (),
    skip: Sequence["Filter[T]"] = (),
) -> None:
    """Raise FilterError if a filter matches none of the items.

    Example:
        >>> check_used(["stem", "head"], lambda path: [path], only=["tail"])
        Traceback (most recent call last):
        tfprune.errors.FilterError: only: 'tail' matches nothing. Known: head, stem.
    """
    for label, filters in (("only", only), ("skip", skip)):
        for entry in filters:
            if not any(matches(entry, item, names(item)) for item in items):
                known = [names(item)[0] for item in items]
                what = repr(entry) if isinstance(entry, str) else "the predicate"
                raise FilterError(f"{label}: {what} matches nothing. {nearest(str(entry), known)}")
