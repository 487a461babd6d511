"""The page: well formed, self-contained, escaped, the same on every call."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from tfprune.report import Kernel, Report, Row

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects the words of a page and what it points at, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.targets.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag, attributes) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data)


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_the_page_is_well_formed_and_has_no_links_outside(report) -> None:
    checker = parsed(report.to_html())
    assert all(target.startswith("#") for target in checker.targets)
    assert len(set(checker.ids)) == len(checker.ids)
    assert "@import" not in report.to_html()
    assert not re.search(r"url\((?!#)", report.to_html())


def test_everything_is_on_the_page(report) -> None:
    text = " ".join(parsed(report.to_html()).words)
    for word in ("Digits", "int8 & pruned", "1 of 6 gates missed", "15.0×", "0.50×",
                 "Some <CPU> & co", "conv/kernel", "75.0 %", "val_loss", "1 min 15 s",
                 "conv <1>: kept dense", "sparsity = 0.9", "tfprune 0.1.0", "Layers"):  # fmt: skip
        assert word in text, word


def test_colors_are_defined_for_light_and_dark_screens(report) -> None:
    page = report.to_html()
    assert "prefers-color-scheme: dark" in page
    svg = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    # Nothing in a plot has a color that only suits one of the two.
    assert not re.findall(r"(?:fill|stroke): ?#[0-9a-f]{6}", svg)
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    defined = set(re.findall(r"(--[\w-]+):", page))
    assert used <= defined


def test_the_page_is_the_same_on_every_call(report) -> None:
    assert report.to_html() == report.to_html()


@pytest.mark.parametrize(
    "small",
    [
        Report("Only a baseline", (Row("dense", 10, 5),)),
        Report("No figures", (Row("dense", 10, 5), Row("small", 5, 2))),
        Report("A metric below zero", (Row("a", 10, 5, score=-3.0), Row("b", 5, 2, score=-4.0))),
    ],
    ids=lambda report: report.title,
)
def test_a_report_with_few_figures_is_a_page_too(small) -> None:
    assert small.title in " ".join(parsed(small.to_html()).words)


def test_figures_of_a_fake_device_are_not_shown_as_a_measurement(report) -> None:
    fake = dataclasses.replace(report.conditions, fake=True)
    page = dataclasses.replace(report, conditions=fake, gates=()).to_html()
    assert "0.50×" not in page
    assert "latency, median" not in page
    assert "was not measured" in page


def test_of_many_weight_tensors_the_largest_are_shown(report) -> None:
    kernels = tuple(Kernel(f"layer_{i}/kernel", (i + 1, 10), 5) for i in range(100))
    row = dataclasses.replace(report.rows[1], kernels=kernels)
    page = dataclasses.replace(report, rows=(report.baseline, row)).to_html()
    assert "The 40 largest of 100 weight tensors." in page
    assert "layer_99/kernel" in page
    assert "layer_3/kernel" not in page
