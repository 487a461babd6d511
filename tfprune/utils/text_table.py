"""Tables as text."""

from collections.abc import Sequence


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in aligned columns.

    Example:
        >>> print(grid(("", "dense", "small"), [("file", "3.6 MB", "0.9 MB")]))
              dense   small
        ----  ------  ------
        file  3.6 MB  0.9 MB
    """
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown; a bar inside of a cell is escaped."""

    def line(words: Sequence[str]) -> str:
        return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])
