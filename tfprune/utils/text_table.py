"""Tables as text."""

import html
import re
from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return rows as lines of aligned columns, those in `right` at their right edge.

    Example:
        >>> aligned([("file", "kB"), ("a", "120")], right=[1])
        ['file   kB', 'a     120']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            word.rjust(width) if place in right else word.ljust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in aligned columns, its header underlined.

    Example:
        >>> print(grid(("", "dense", "small"), [("file", "3.6 MB", "0.9 MB")]))
              dense   small
        ----  ------  ------
        file  3.6 MB  0.9 MB
    """
    columns = zip(header, *rows, strict=True)
    rule = ["-" * max(map(len, column)) for column in columns]
    return "\n".join(aligned([header, rule, *rows]))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; cells are escaped unless they are `Markup`."""

    def line(words: Sequence[str]) -> str:
        shown = [word if isinstance(word, Markup) else escaped(word) for word in words]
        return "| " + " | ".join(shown) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])


class Markup(str):
    """Text that is Markdown already."""

    __slots__ = ()


# An underscore inside a word needs no escape.
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")


def escaped(words: str) -> str:
    """Return text escaped for Markdown: in one line, no HTML.

    Example:
        >>> print(escaped("<b>a|b</b> *c* d_e"))
        &lt;b&gt;a\\|b&lt;/b&gt; \\*c\\* d_e
    """
    words = html.escape(" ".join(words.split()), quote=False)
    return _SPECIAL.sub(lambda found: f"\\{found.group()}", words)
