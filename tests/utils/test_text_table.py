"""Tables as text and as Markdown."""

from tfprune.utils.text_table import markdown_table


def test_a_table_of_markdown_has_as_many_cells_in_every_line() -> None:
    lines = markdown_table(("a", "b"), [("1", "2|3")]).splitlines()
    assert lines == ["| a | b |", "|---|---|", "| 1 | 2\\|3 |"]
