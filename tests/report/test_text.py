"""Text and Markdown: everything is in them, aligned and escaped."""

import dataclasses
import re

from tfprune.report import Section, Stage
from tfprune.report.text import escaped
from tfprune.utils.text_table import grid


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


HOSTILE = "<img src=x onerror=alert(1)> & [a](javascript:b) | *c* `d` __e__\n# f"


def test_no_name_is_markup_in_markdown(report) -> None:
    rows = tuple(dataclasses.replace(row, name=HOSTILE, scheme=HOSTILE) for row in report.rows)
    gates = tuple(dataclasses.replace(gate, row=HOSTILE, name=HOSTILE) for gate in report.gates)
    text = dataclasses.replace(
        report,
        title=HOSTILE,
        rows=rows,
        metric=HOSTILE,
        gates=gates,
        stages=(Stage(HOSTILE, 1.0, HOSTILE),),
        sections=(Section(HOSTILE, HOSTILE, (HOSTILE,), ((HOSTILE,),)),),
        notes=(HOSTILE,),
        recipe=f"# ```\n```\n{HOSTILE}",
        versions={HOSTILE: HOSTILE},
        conditions=dataclasses.replace(report.conditions, machine=HOSTILE),
    ).to_markdown()
    before, after = text.split("````toml")
    recipe, after = after.split("````")
    assert HOSTILE in recipe
    for part in (before, after):
        assert "alert(1)" in part
        assert not re.search(r"<|>|(?<!\\)[\[\]`]|\n# f|(?<!\\)__e", part)
        bold = re.sub(r"\*\*missed\*\*", "", part)
        assert not re.search(r"(?<!\\)\*", bold)
    tables = [block.splitlines() for block in before.split("\n\n") if block.startswith("|")]
    assert len(tables) > 3
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_names_that_need_no_escape_stand_as_they_are() -> None:
    assert escaped("max_accuracy_drop of conv2d_1/kernel (3×3), 0.5x") == (
        "max_accuracy_drop of conv2d_1/kernel (3×3), 0.5x"
    )
