"""The page for users of tensorflow-model-optimization lists what that package really has."""

import re
from pathlib import Path

import tfprune
from tfprune.tfmot_compat import adapter

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from-tfmot.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.partition("##")[0], re.MULTILINE))


def test_the_page_lists_every_public_name_of_the_installed_peer() -> None:
    public = {name for name in dir(adapter.sparsity_api()) if not name.startswith("_")}
    assert set(ROWS) == public


def test_names_that_are_as_they_were_are_names_of_tfprune() -> None:
    assert set(ROWS.values()) == {"as is"}
    assert [name for name in ROWS if not hasattr(tfprune, name)] == []
