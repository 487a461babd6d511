"""CONTRIBUTING.md says what is true: its list of folders, its commands, and its examples."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.test_house import MOST_FILES, ORDER
from tfprune.measure.devices.registry import devices
from tfprune.runtime.schemes import SCHEMES
from tfprune.sparsity.choices.scores import SCORES
from tfprune.structure.ids.rule_registry import _LAYERS

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = title.partition(" ")[0]
    rest = TEXT.partition(f"\n{title}\n")[2]
    assert rest, f"CONTRIBUTING.md has no section {title!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_the_folders_are_those_of_the_package_in_their_order() -> None:
    named = re.findall(r"^- `([\w.]+)`: ", section("## Find your way"), re.MULTILINE)
    assert named == ORDER
    assert f"at most {MOST_FILES} files" in section("## Find your way").replace("\n", " ")


def test_the_commands_and_files_are_there() -> None:
    targets = re.findall(r"make ([a-z][a-z-]*)", TEXT)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"no make {target}"
    names = re.findall(r"`((?:tests|tfprune|benchmarks|\.ci)/[\w./]*|[\w.]+\.(?:txt|cfg))`", TEXT)
    assert len(names) > 8
    for name in names:
        assert (ROOT / name).exists(), name


def test_what_make_check_runs_is_there() -> None:
    listed = re.search(r"^CHECK := \$\(addprefix tests/,(.*?)\)$", MAKEFILE, re.M | re.S)
    assert listed
    names = listed[1].replace("\\", " ").split()
    assert len(names) > 20
    assert [name for name in names if not (ROOT / "tests" / name).exists()] == []


@contextmanager
def _restored(entries: dict[Any, Any]) -> Iterator[Callable[[], set[Any]]]:
    """Take out again what a `with` block registers; gives a function that says what that is."""
    before = dict(entries)
    try:
        yield lambda: entries.keys() - before.keys()
    finally:
        entries.clear()
        entries.update(before)


EXAMPLES = {
    "### A score": (SCORES._entries, "tfprune.prune("),
    "### A layer rule": (_LAYERS, "tfprune.shrink("),
    "### A conversion scheme": (SCHEMES._entries, "tfprune.to_tflite("),
    "### A device": (devices._entries, "tfprune.benchmark("),
}


def test_every_example_is_run() -> None:
    assert TEXT.count("```python") == len(EXAMPLES)


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_runs_and_is_used(title: str) -> None:
    entries, call = EXAMPLES[title]
    (source,) = re.findall(r"^```python\n(.*?)^```$", section(title), re.DOTALL | re.MULTILINE)
    assert call in source
    assert "\nassert " in source
    with _restored(entries) as added:
        exec(compile(source, f"CONTRIBUTING.md: {title}", "exec"), {"__name__": "contributing"})
        assert len(added()) == 1
    assert not added()
    keras.backend.clear_session(free_memory=False)
