"""How the package is built, in figures: circles, arrows, sizes, and how far a call travels.

    python benchmarks/house.py [--root CHECKOUT] [--trace] [--json FILE] [--against FILE]

Reads the source of any checkout; nothing of it is imported, but for `--trace`, which runs `shrink`,
`prune`, `to_tflite` and `compress` on a tiny model in a process of its own. `--json` stores the
figures. `--against` takes such a file, and publishes both as results/house.md and .json:

    python benchmarks/house.py --root ../before --trace --json before.json
    python benchmarks/house.py --trace --against before.json

What is counted:
  - a folder is one that holds modules; a module right under the package stands for itself;
  - a circle is a set of folders (or modules) each of which imports all others, in steps;
  - an arrow is a pair of folders of which one imports the other;
  - imports under `if TYPE_CHECKING:` are never carried out, and do not count.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from house_source import PACKAGE, Function, Graph, House, commit_of, read

DOORS = ("shrink", "prune", "to_tflite", "compare", "compress")
RESULTS = Path(__file__).parent / "results"
LONG = 400
"""Lines of a file that is long."""


def circles(graph: Graph) -> list[list[str]]:
    """Return the circles of a graph, the largest first.

    Example:
        >>> circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})
        [['b', 'c']]
    """
    reach = {name: _reached(graph, name) for name in graph}
    found = {tuple(sorted(one for one in reach[name] if name in reach[one])) for name in graph}
    return sorted(map(list, filter(None, found)), key=lambda circle: (-len(circle), circle))


def _reached(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def arrows(graph: Graph) -> int:
    """Return how many arrows a graph has."""
    return sum(len(names) for names in graph.values())


def lines_of(node: ast.AST) -> int:
    """Return over how many lines a node stretches, decorators left out."""
    return int(node.end_lineno - node.lineno + 1)  # type: ignore[attr-defined]


def arguments(function: Function) -> int:
    """Return how many arguments a function takes."""
    spec = function.args
    several = [spec.vararg, spec.kwarg]
    return len([*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, several)])


def docstring_lines(tree: ast.Module) -> int:
    """Return the lines of a module's docstrings, those under its constants included."""
    return sum(
        lines_of(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def count(house: House) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the figures of a package by what they count, and what they were counted of."""
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in house.files.items()}
    sizes = house.folder_sizes()
    long = {name: count for name, count in lines.items() if count > LONG}
    functions = [(lines_of(node), f"{name}.{node.name}") for name, node in house.functions()]
    inside = [entry for entry in house.imports if entry.inside]
    own = [f"{entry.module}:{entry.line} {entry.name}" for entry in inside if entry.top == PACKAGE]
    standard = [entry for entry in inside if entry.top in sys.stdlib_module_names]
    others = Counter(
        entry.top for entry in inside if entry.top != PACKAGE and entry not in standard
    )
    strings = house.paths_in_strings()
    classes = _twice(house.names(ast.ClassDef))
    named = _twice(house.names((ast.FunctionDef, ast.AsyncFunctionDef)))
    public = {name: homes for name, homes in named.items() if not name.startswith("_")}
    ways = {"at import": False, "with imports inside functions": True}
    folder_circles = {way: circles(house.folder_graph(also)) for way, also in ways.items()}
    module_circles = {way: circles(house.module_graph(also)) for way, also in ways.items()}
    counts = {
        "files": len(house.files),
        "lines": sum(lines.values()),
        "lines of docstrings": sum(map(docstring_lines, house.trees.values())),
        f"files over {LONG} lines": len(long),
        "folders": len(sizes),
        "files of the largest folder": max(sizes.values(), default=0),
        **_circle_counts("folders", folder_circles),
        **_circle_counts("modules", module_circles),
        **{
            f"arrows between folders, {way}": arrows(house.folder_graph(also))
            for way, also in ways.items()
        },
        f"imports inside functions, of {PACKAGE}": len(own),
        "imports inside functions, of other packages": sum(others.values()),
        "imports inside functions, of Python": len(standard),
        "module paths in strings": len(strings),
        "class names used twice": len(classes),
        "public function names used twice": len(public),
        "private function names used twice": len(named) - len(public),
        "lines of the longest function": max(functions, default=(0, ""))[0],
        **{f"arguments of {name}": arguments(house.door(name)) for name in DOORS},
    }
    details = {
        "folders": dict(sizes.most_common()),
        "circles of folders": folder_circles,
        "circles of modules": module_circles,
        "long files": long,
        "longest functions": [f"{name} {size}" for size, name in sorted(functions)[:-11:-1]],
        f"imports inside functions, of {PACKAGE}": own,
        "imports inside functions, of other packages": dict(others.most_common()),
        "module paths in strings": strings,
        "class names used twice": classes,
        "public function names used twice": public,
    }
    return counts, details


def _circle_counts(what: str, ways: Mapping[str, list[list[str]]]) -> dict[str, int]:
    return {
        **{f"circles of {what}, {way}": len(found) for way, found in ways.items()},
        **{f"{what} in circles, {way}": sum(map(len, found)) for way, found in ways.items()},
    }


def _twice(names: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: homes for name, homes in sorted(names.items()) if len(homes) > 1}


def trace(root: Path) -> dict[str, Any]:
    """Return what each call enters in a checkout.

    Raises:
        SystemExit: A call failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("house_trace.py"))],
        env=environment, capture_output=True, text=True, cwd=root,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"--trace: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def trace_counts(found: Mapping[str, Any]) -> dict[str, int]:
    """Return the figures of what was traced."""
    return {
        **{f"files that {name} enters": len(seen["files"]) for name, seen in found.items()},
        **{
            f"calls between folders in {name}": len(seen["crossings"])
            for name, seen in found.items()
        },
    }


def table(columns: Iterable[Mapping[str, int]]) -> list[list[str]]:
    """Return rows of figures side by side; what one column lacks is a dash.

    Example:
        >>> table([{"files": 1200}, {"files": 900, "folders": 3}])
        [['files', '1,200', '900'], ['folders', '–', '3']]
    """
    columns = list(columns)
    names = dict.fromkeys(name for column in columns for name in column)
    return [
        [name, *(f"{column[name]:,}" if name in column else "–" for column in columns)]
        for name in names
    ]


def publish(before: Mapping[str, Any], after: Mapping[str, Any], folder: Path) -> None:
    """Print both sides and store them in a folder."""
    import harness

    harness.publish(
        "house",
        title="How the package is built",
        columns=("", before["commit"], after["commit"]),
        rows=table([before["counts"], after["counts"]]),
        numbers={"before": before, "after": after},
        seeds=[0],
        remarks=[
            "Counted in the source by benchmarks/house.py, which says what each figure is. What a "
            "call enters is that of a small residual network in one process, without the "
            "processes that it starts; a call between folders is a pair of files.",
        ],
        folder=folder,
    )


def main() -> None:
    """Count, print, and store what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="a checkout")
    parser.add_argument("--trace", action="store_true", help="also run calls, with TensorFlow")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to store the figures")
    parser.add_argument("--against", type=Path, metavar="FILE", help="figures to publish beside")
    options = parser.parse_args()
    root = options.root.resolve()
    counts, details = count(read(root))
    if options.trace:
        found = trace(root)
        counts |= trace_counts(found)
        details["traced"] = found
    record = {"commit": commit_of(root), "counts": counts, "details": details}
    if options.json:
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if options.against:
        publish(json.loads(options.against.read_text("utf-8")), record, RESULTS)
    else:
        rows = table([counts])
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:{width}}  {figure:>7}" for name, figure in rows))


if __name__ == "__main__":
    main()
