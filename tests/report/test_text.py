"""Text and Markdown: everything is in them, aligned and escaped."""

import dataclasses

from tfprune.utils.text_table import grid, markdown_table


def test_everything_is_in_the_text(report) -> None:
    text = report.to_text()
    for word in ("Digits", "int8 & pruned", "15.0x smaller", "MISSED: min_compression of copy",
                 "1 min 15 s", "8 epochs", "CPU", "odd | name",
                 "conv <1>: kept dense"):  # fmt: skip
        assert word in text
    assert str(report) == text
    assert max(map(len, text.splitlines())) <= 100


def test_columns_are_aligned() -> None:
    lines = grid(("", "a", "bb"), [("long label", "1", "2"), ("x", "333", "4")]).splitlines()
    assert [line.index(word) for line, word in zip(lines[2:], ("2", "4"), strict=True)] == [17, 17]


def test_many_files_are_cut_into_tables_that_fit_with_the_baseline_in_each(report) -> None:
    many = tuple(dataclasses.replace(report.rows[2], name=f"copy {i}") for i in range(6))
    text = dataclasses.replace(report, rows=(report.baseline, *many), gates=()).to_text()
    headers = [line for line in text.splitlines() if "dense" in line and "copy" in line]
    assert [header.split("  ")[-1].strip() for header in headers] == ["copy 3", "copy 5"]
    assert len(headers) == 2


def test_everything_is_in_the_markdown(report) -> None:
    text = report.to_markdown()
    for word in ("# Digits", "| file, gzip |", "## Gates", "**missed**", "## Stages", "## Layers",
                 "odd \\| name", "## Notes", "```toml", "sparsity = 0.9",
                 "tfprune 0.1.0"):  # fmt: skip
        assert word in text


def test_a_table_of_markdown_has_as_many_cells_in_every_line() -> None:
    lines = markdown_table(("a", "b"), [("1", "2|3")]).splitlines()
    assert lines == ["| a | b |", "|---|---|", "| 1 | 2\\|3 |"]
