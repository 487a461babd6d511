"""The figures of a package, counted on one of a few lines."""

import importlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

FILES = {
    "__init__.py": """
        TYPE_CHECKING = False
        _HOME = {"prune": "low.one", "shrink": "low", "to_tflite": "low.one", "compare": "low.one",
                 "compress": "high.top"}
        if TYPE_CHECKING:
            from tfprune.high.top import compress
        """,
    "errors.py": "class Error(Exception): ...\n",
    "low/__init__.py": "from .two import shrink",
    "low/one.py": '''
        """One: two lines
        of a docstring."""
        import json
        from tfprune.errors import Error
        from tfprune.low.two import shrink, table

        class Row: ...

        def prune(model, sparsity=0.5, *, seed=0, **more):
            """Tells nothing."""
            import tensorflow as tf
            from tfprune.high import top
            return "tfprune.high.top:compress"

        def to_tflite(model, /, path): ...
        def compare(*files): ...
        ''',
    "low/two.py": """
        import importlib
        import tfprune.low.one

        RUN = "python -m tfprune.high.top", "tfprune.shrink", "tfprune.nothing.here"

        def shrink(model, target):
            import csv
            import numpy
            return importlib.import_module(f"tfprune.high.{target}")

        def table(): ...
        def _table(): ...
        """,
    "high/__init__.py": "",
    "high/top.py": '''
        from tfprune.low import one, two

        class Row:
            from tfprune.errors import Error

            def table(self):
                """A method is no name of the module."""

        async def table(): ...
        def _table(): ...
        def compress(model, recipe):
            def inner():
                from tfprune.low import one
            return inner
        ''',
}


@pytest.fixture(scope="module")
def house() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("house")
    sys.path.remove(str(FOLDER))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "tfprune" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).strip() + "\n")
    return tmp_path


@pytest.fixture
def counted(house, root) -> tuple[dict[str, int], dict[str, Any]]:
    return house.count(house.read(root))


def test_circles_are_found_with_and_without_imports_inside_functions(counted) -> None:
    counts, details = counted
    assert details["circles of modules"] == {
        "at import": [["tfprune.low.one", "tfprune.low.two"]],
        "with imports inside functions": [
            ["tfprune.high.top", "tfprune.low.one", "tfprune.low.two"]
        ],
    }
    assert details["circles of folders"] == {
        "at import": [],
        "with imports inside functions": [["tfprune.high", "tfprune.low"]],
    }
    assert counts["modules in circles, with imports inside functions"] == 3
    assert counts["circles of folders, at import"] == 0


def test_arrows_go_between_folders_and_modules_under_the_package(counted) -> None:
    counts, _ = counted
    # high -> low, high -> errors, low -> errors; and low -> high inside of a function.
    assert counts["arrows between folders, at import"] == 3
    assert counts["arrows between folders, with imports inside functions"] == 4


def test_what_only_type_checkers_read_is_not_imported(house, root) -> None:
    assert house.read(root).module_graph(inside=True)["tfprune"] == set()


def test_imports_inside_functions_are_told_apart_by_whose_they_are(counted) -> None:
    counts, details = counted
    assert details["imports inside functions, of tfprune"] == [
        "tfprune.high.top:13 tfprune.low.one", "tfprune.low.one:12 tfprune.high.top"
    ]  # fmt: skip
    assert details["imports inside functions, of other packages"] == {"numpy": 1, "tensorflow": 1}
    assert counts["imports inside functions, of Python"] == 1


def test_strings_that_name_modules_are_found(counted) -> None:
    assert counted[1]["module paths in strings"] == [
        "tfprune.low.one:13 tfprune.high.top:compress",
        "tfprune.low.two:4 tfprune.high.top",
        "tfprune.low.two:9 tfprune.high",
    ]


def test_sizes_are_those_of_the_files(counted) -> None:
    counts, details = counted
    assert counts["files"] == 7
    assert details["folders"] == {"tfprune.low": 2, "tfprune": 1, "tfprune.high": 1}
    assert counts["files of the largest folder"] == 2
    assert counts["lines"] == 5 + 1 + 1 + 16 + 12 + 1 + 14
    assert counts["lines of docstrings"] == 2 + 1 + 1
    assert counts["files over 400 lines"] == 0
    assert details["longest functions"][0] == "tfprune.low.one.prune 5"


def test_names_that_are_defined_twice_are_those_at_the_top_of_modules(counted) -> None:
    counts, details = counted
    assert details["class names used twice"] == {"Row": ["tfprune.high.top", "tfprune.low.one"]}
    assert details["public function names used twice"] == {
        "table": ["tfprune.high.top", "tfprune.low.two"]
    }
    assert counts["private function names used twice"] == 1


def test_arguments_of_public_functions_are_counted_wherever_they_are_defined(counted) -> None:
    taken = {name: counted[0][f"arguments of {name}"] for name in ("prune", "shrink", "to_tflite",
             "compare", "compress")}  # fmt: skip
    assert taken == {"prune": 4, "shrink": 2, "to_tflite": 2, "compare": 1, "compress": 2}


def test_the_command_prints_and_stores_and_needs_no_other_package(root) -> None:
    stored = root / "counts.json"
    command = [sys.executable, "-S", str(FOLDER / "house.py"), "--root", str(root)]
    done = subprocess.run(
        [*command, "--json", str(stored)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(stored.read_text())["counts"]
    assert [line.rsplit(maxsplit=1) for line in done.stdout.splitlines()] == [
        [name, str(count)] for name, count in counts.items()
    ]
    done = subprocess.run(
        [*command[:-1], str(root / "tfprune")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "expected a checkout with the folder tfprune/" in done.stderr


def test_both_sides_are_published_in_one_table(house, tmp_path, capsys) -> None:
    before = {"commit": "abc", "counts": {"lines": 1200, "folders": 2}}
    after = {"commit": "def", "counts": {"lines": 900, "circles": 0}}
    house.publish(before, after, tmp_path)
    text = (tmp_path / "house.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    for row in ("|  | abc | def |", "| lines | 1,200 | 900 |", "| folders | 2 | – |",
                "| circles | – | 0 |"):  # fmt: skip
        assert row in text
    stored = json.loads((tmp_path / "house.json").read_text())["numbers"]
    assert stored == {"before": before, "after": after}


def test_a_recorder_sees_calls_within_the_package_and_through_others(house, tmp_path) -> None:
    trace = importlib.import_module("house_trace")
    files = {
        "a/door.py": "import later\ndef door(): return sorted([2, 1], key=later.key)\n",
        "b/later.py": "import beside\ndef key(x): return beside.same(x)\n",
        "b/beside.py": "def same(x): return x\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    sys.path[:0] = [str(tmp_path / "a"), str(tmp_path / "b")]
    recorder = trace.Recorder(tmp_path)
    try:
        sys.setprofile(recorder)
        importlib.import_module("door").door()
    finally:
        sys.setprofile(None)
        del sys.path[:2]
        for name in ("door", "later", "beside"):
            sys.modules.pop(name, None)
    assert recorder.files == set(files)
    assert recorder.crossings == {("a/door.py", "b/later.py")}
