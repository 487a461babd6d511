"""The layout of the package: what may import what, what stays light, what is tested."""

import ast
import configparser
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import tfprune

PACKAGE = Path(tfprune.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
NAMES = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in MODULES}

# From the ground up. A module imports from its own folder and from those above it in this list,
# wherever the import stands: at the top of the file or inside a function.
ORDER = [
    "errors",
    "utils",
    "storage",
    "workers",
    "keras_support",
    "data",
    "runtime",
    "task",
    "graph.tracing",
    "graph",
    "graph.cost",
    "few_bits",
    "report",
    "measure.devices",
    "measure",
    "deploy.converter.rewrites",
    "deploy.converter",
    "deploy.qat.rounding",
    "deploy.qat",
    "deploy.verify",
    "deploy.onnx",
    "deploy",
    "structure.ids",
    "structure.rules",
    "structure.groups",
    "structure.rebuild",
    "structure.proof",
    "structure.select",
    "structure.gates",
    "structure.depth",
    "structure.targets",
    "structure",
    "sparsity.choices",
    "sparsity",
    "sparsity.oneshot",
    "clustering",
    "tfmot_compat",
    "tfmot",
    "bridge",
    "loading",
    "recipe.made",
    "recipe",
    "training",
    "pipeline",
    "console",
    "commands",
    "cli",
    "__init__",
]
MOST_FILES = 12

# Modules that import others of the package inside functions: what they import there loads
# TensorFlow or Keras, and they are used without (see LIGHT).
LAZY = {
    "bridge.function_pairs",
    "commands.data_files",
    "commands.files",
    "commands.init",
    "commands.models",
    "commands.options",
    "commands.reports",
    "commands.run",
    "loading.load",
    "measure.comparison",
    "measure.devices.registry",
    "pipeline.compress",
    "pipeline.models",
    "structure.select.tflite_size",
}

# What a caller may import without waiting for TensorFlow.
LIGHT = [
    "tfprune",
    "tfprune.cli",
    "tfprune.loading.load",
    "tfprune.recipe",
    "tfprune.report",
    "tfprune.runtime.litert",
    "tfprune.runtime.inspect",
    "tfprune.measure.size",
    "tfprune.measure.latency",
    "tfprune.clustering.centroids",
    "tfprune.task.task",
    "tfprune.sparsity.choices.allocation",
    "tfprune.sparsity.choices.patterns",
    "tfprune.sparsity.choices.schedules",
    "tfprune.sparsity.choices.scores",
    "tfprune.sparsity.choices.selection",
]


def name_of(path: Path) -> str:
    """Return the dotted name of a module below `tfprune`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def folder_of(name: str) -> str:
    """Return the folder that a module lies in; a module of the root stands for itself."""
    if (PACKAGE / name.replace(".", "/")).is_dir():
        return name
    return name.rpartition(".")[0] or name


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the modules below `tfprune` that a module imports, and whether inside a function.

    Imports for type checkers alone do not count: nothing is loaded.
    """

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    if alias.name.startswith("tfprune."):
                        yield alias.name.removeprefix("tfprune."), inside
            if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("tfprune."):
                base = str(child.module).removeprefix("tfprune.")
                for alias in child.names:
                    name = f"{base}.{alias.name}"
                    yield name if name in NAMES else base, inside
            yield from visit(child, inside or isinstance(child, ast.FunctionDef | ast.Lambda))

    yield from visit(ast.parse((PACKAGE / path).read_text()), False)


@pytest.mark.parametrize("path", [p for p in MODULES if p != Path("__init__.py")], ids=str)
def test_a_module_imports_only_from_its_folder_and_those_below(path: Path) -> None:
    own = folder_of(name_of(path))
    for name, _ in imports_of(path):
        folder = folder_of(name)
        assert ORDER.index(folder) <= ORDER.index(own), f"{path} imports {name}, which is above it"


def test_no_imports_go_in_a_circle() -> None:
    below = {name_of(p): {name for name, _ in imports_of(p)} - {name_of(p)} for p in MODULES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(below.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(below):
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_inside_functions_are_for_what_must_stay_light(path: Path) -> None:
    inside = sorted({name for name, lazily in imports_of(path) if lazily})
    assert not inside or name_of(path) in LAZY, f"{path} imports {inside} inside a function"


def test_what_is_listed_as_lazy_is() -> None:
    lazy = {name_of(path) for path in MODULES if any(inside for _, inside in imports_of(path))}
    assert lazy == LAZY


def test_no_folder_has_more_than_12_files() -> None:
    files = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {folder: count for folder, count in files.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("path", [p for p in MODULES if p != Path("__init__.py")], ids=str)
def test_no_module_of_ours_is_named_by_a_string(path: Path) -> None:
    """Such an import is found neither by readers nor by the test of the order."""
    found = [
        node.value
        for node in ast.walk(ast.parse((PACKAGE / path).read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"tfprune(\.\w+)+(:\w+)?", node.value)
        and node.value.removeprefix("tfprune.").partition(":")[0] in NAMES
    ]
    assert found == [] or path in MAY_NAME_MODULES


# Child processes are started by the name of a module; layers of ours are registered with Keras
# when their module is imported, which is when a file that has them is read.
MAY_NAME_MODULES = [
    Path("keras_support/registration.py"),
    Path("workers/pool.py"),
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_neither_tensorflow_nor_keras(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print(*sorted({'tensorflow', 'keras', 'tf_keras', 'tensorflow_model_optimization'}"
        " & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import importlib, sys; before = set(sys.modules); import tfprune; "
        "print(*sorted(sys.modules.keys() - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tfprune"]


ALONE = """
import importlib, sys
import keras
# What is imported again and again is compiled once; Keras and TensorFlow are compiled already.
sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv[1]
for name in sys.argv[2:]:
    for loaded in [one for one in sys.modules if one.partition(".")[0] == "tfprune"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


@pytest.mark.slow
def test_every_module_can_be_imported_before_all_others(tmp_path: Path) -> None:
    """A circle of imports shows only when it is entered at the wrong place."""
    names = [".".join(["tfprune", *path.with_suffix("").parts]) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path), *names],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


# What of Keras reads the nodes of a model, and where it may be used: `tfprune.graph` is the reader
# of Keras 3 for every verb, and one module of the bridge reads tf_keras.
READS_NODES = {
    "graph_inside",
    "maker_of",
    "nodes_in_order",
    "note_calls",
    "symbolic_inputs_of",
    "symbolic_outputs_of",
}
READERS = (
    "bridge/graphs.py",
    "graph/",
    "keras_support/internals.py",
    "keras_support/trainer_internals.py",
)
# What else has an attribute `layers` or `operations`: packages, and data of ours.
NOT_MODELS = re.compile(
    r"keras|tf\.keras|(.+\.)?api|block|line|group|table|options|recipe\.quantize|(.+\.)?graph|self"
)


@pytest.mark.parametrize("path", [p for p in MODULES if not str(p).startswith(READERS)], ids=str)
def test_models_are_read_in_one_place(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name in READS_NODES]
        if isinstance(node, ast.Attribute) and node.attr in ("layers", "operations"):
            base = ast.unparse(node.value)
            found += [] if NOT_MODELS.fullmatch(base) else [f"{base}.{node.attr}"]
    assert found == [], f"{path}: read the model with tfprune.graph.read"


def test_temporary_folders_are_made_where_they_are_cleaned_up() -> None:
    """But those of a run's own folder, which the run sweeps."""
    made = {
        str(path)
        for path in MODULES
        if re.search("TemporaryDirectory|mkdtemp|NamedTemporaryFile", (PACKAGE / path).read_text())
    }
    assert made == {"storage/scratch.py", "pipeline/saving.py"}


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=str)
def test_every_module_has_a_test_of_its_name(path: Path) -> None:
    assert (TESTS / path.parent / f"test_{path.stem.lstrip('_')}.py").exists()


@pytest.mark.parametrize("name", tfprune.__all__)
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    assert getattr(tfprune, name) is not None
    if name != "__version__":
        assert getattr(tfprune, name).__doc__


def test_every_folder_with_code_is_in_the_package_that_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(TESTS.parent / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    folders = {".".join(("tfprune", *path.parent.parts)) for path in MODULES}
    assert listed == folders | {"tfprune.recipes"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prunne'"):
        tfprune.prunne  # noqa: B018 - the access is the test
    assert "prune" in dir(tfprune)


def test_the_names_are_sorted_within_their_part() -> None:
    source = (PACKAGE / "__init__.py").read_text()
    block: list[str] = []
    for line in source.splitlines():
        text = line.strip()
        if text.startswith('"') and '": "' in text:
            block.append(text.split('"')[1])
        elif block:
            assert block == sorted(block)
            block = []
