"""The page for users of tensorflow-model-optimization lists what that package really has."""

import re
from pathlib import Path

import pytest

import tfprune
from tfprune.tfmot_compat import adapter

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from-tfmot.md").read_text("utf-8")


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))


TABLES = {
    "sparsity": rows(PAGE.partition("##")[0]),
    "quantization": rows(PAGE.partition("## Quantization")[2]),
}


@pytest.mark.parametrize("kit", TABLES)
def test_the_page_lists_every_public_name_of_the_installed_peer(kit) -> None:
    api = getattr(adapter.toolkit(), kit).keras
    assert set(TABLES[kit]) == {name for name in dir(api) if not name.startswith("_")}


@pytest.mark.parametrize("kit", TABLES)
def test_names_that_are_as_they_were_are_names_of_tfprune(kit) -> None:
    there = {name for name, how in TABLES[kit].items() if how == "as is"}
    assert there == {name for name in TABLES[kit] if hasattr(tfprune, name)}
    assert set(TABLES[kit].values()) <= {"as is", "not there"}
    assert TABLES[kit] == {**TABLES[kit], **dict.fromkeys(there, "as is")}


def test_the_quantizers_are_those_of_the_installed_peer() -> None:
    api = adapter.toolkit().quantization.keras.quantizers
    missing = [n for n in dir(api) if not n.startswith("_") and not hasattr(tfprune.quantizers, n)]
    assert missing == []
