"""Private parts of Keras are named in three modules only."""

import ast
from pathlib import Path

import pytest

import tfprune

PACKAGE = Path(tfprune.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
INSIDE = {
    "keras_support/attention_steps.py",
    "keras_support/internals.py",
    "keras_support/trainer_internals.py",
}
# Files in which names of modules below `keras.src` are data: what saved models of Keras 2 say.
NAMES_IN_FILES = {"loading/load.py", "loading/model_files.py"}
# Private names of what is not Keras 3: Python's, and tf_keras's, which does not change any more.
OTHERS = {"_exit", "_could_use_gpu_kernel", "_is_graph_network"}


def own_private_names(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines, or sets on an object of its own classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                name.id for t in targets for name in ast.walk(t) if isinstance(name, ast.Name)
            }
            names |= {
                target.attr
                for target in targets
                if isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
    return {name for name in names if name.startswith("_")}


PARSED = {str(path): ast.parse((PACKAGE / path).read_text()) for path in MODULES}
OURS = OTHERS | {name for tree in PARSED.values() for name in own_private_names(tree)}


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.endswith("__")


KERAS_NAMES = {
    name
    for path in INSIDE
    for node in ast.walk(PARSED[path])
    for name in [getattr(node, "attr", None), getattr(node, "value", None)]
    if is_private(name)
}


def keras_internals_in(tree: ast.AST) -> list[str]:
    """Return the private parts of Keras that a module names, each with its line."""
    found = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute):
            named = node.attr in KERAS_NAMES and ast.unparse(node.value) != "self"
            if named or (is_private(node.attr) and node.attr not in OURS):
                found.append(f"{line}: .{node.attr}")
            if node.attr == "src" and ast.unparse(node.value) == "keras":
                found.append(f"{line}: keras.src")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras.src"):
            found.append(f"{line}: {node.module}")
        elif isinstance(node, ast.Import):
            found += [f"{line}: {a.name}" for a in node.names if a.name.startswith("keras.src")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith("keras.src"):
                found.append(f"{line}: {node.value!r}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "getattr",
            "hasattr",
            "setattr",
        ):
            name = getattr(node.args[1], "value", "")
            if name in KERAS_NAMES or (is_private(name) and name not in OURS):
                found.append(f"{line}: {name!r}")
    return found


@pytest.mark.parametrize("path", [p for p in PARSED if p not in INSIDE])
def test_private_parts_of_keras_are_used_in_one_place(path: str) -> None:
    found = keras_internals_in(PARSED[path])
    if path in NAMES_IN_FILES:
        found = [one for one in found if "'keras.src" not in one]
    assert not found, f"{path}: take it from tfprune.keras_support.internals"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("from keras.src.models.functional import Functional", 1),
        ("import keras.src", 1),
        ("x = keras.src.backend", 1),
        ("layer._flatten_layers()", 1),
        ("model._functional", 1),
        ("class A(Layer):\n    def call(self):\n        return self._dropout_layer", 1),
        ('getattr(layer, "_inbound_nodes", None)', 1),
        ('name.startswith("keras.src.ops.")', 1),
        ("keras.ops.add(a, b).shape.__len__()", 0),
    ],
)
def test_private_parts_of_keras_are_recognized(code: str, count: int) -> None:
    assert len(keras_internals_in(ast.parse(code))) == count
