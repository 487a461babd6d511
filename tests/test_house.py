"""The walls of the house: what may import what, what stays light, what is tested."""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

import tfprune

PACKAGE = Path(tfprune.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

# Each part may import itself and those before it. `legacy` stands beside the flow: any part may
# reach it from inside a function, and it may reach any part.
FLOW = ["foundation", "sparsity", "structure", "deploy", "report", "measure", "recipe", "pipeline",
        "cli"]  # fmt: skip
FOUNDATION = {"errors", "registry", "progress", "processes", "files", "filters", "twins", "batches",
              "losses", "equations", "interrupts", "quantized",
              "registration"}  # fmt: skip
# Needed before their own part is reached, and free of imports from it.
EARLY = {"legacy.generation", "measure.macs", "measure.mac_rules"}

# What a caller may import without waiting for TensorFlow.
LIGHT = [
    "tfprune",
    "tfprune.cli",
    "tfprune.recipe",
    "tfprune.report",
    "tfprune.deploy.runtime",
    "tfprune.deploy.inspect",
    "tfprune.measure.size",
    "tfprune.measure.latency",
    "tfprune.sparsity.allocation",
    "tfprune.sparsity.patterns",
    "tfprune.sparsity.schedules",
    "tfprune.sparsity.scores",
    "tfprune.sparsity.selection",
]


def part_of(name: str) -> str:
    top = name.split(".")[0]
    if top in FOUNDATION or name in EARLY:
        return "foundation"
    return {"data": "recipe", "zoo": "recipe", "console": "cli"}.get(top, top)


def imports_at_the_top(path: Path) -> list[str]:
    """Return the modules below tfprune that a module imports when it is imported itself."""
    found = []
    for node in ast.parse((PACKAGE / path).read_text()).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            base = node.module
            found += [
                f"{base}.{alias.name}"
                if (PACKAGE.parent / base.replace(".", "/") / f"{alias.name}.py").exists()
                else base
                for alias in node.names
            ]
    return [name.removeprefix("tfprune.") for name in found if name.startswith("tfprune.")]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_part_imports_only_what_comes_before_it(path: Path) -> None:
    own = part_of(".".join(path.with_suffix("").parts))
    if own in ("__init__", "legacy"):
        return
    for name in imports_at_the_top(path):
        part = part_of(name)
        assert part != "legacy", f"{path} imports {name} at its top; import it where it is used"
        assert FLOW.index(part) <= FLOW.index(own), f"{path} ({own}) imports {name} ({part})"


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


ALONE = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [one for one in sys.modules if one.partition(".")[0] == "tfprune"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def test_every_module_can_be_imported_before_all_others() -> None:
    """A circle of imports shows only when it is entered at the wrong place."""
    names = [".".join(["tfprune", *path.with_suffix("").parts]) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *names], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=str)
def test_every_module_has_a_test_of_its_name(path: Path) -> None:
    assert (TESTS / path.parent / f"test_{path.stem.lstrip('_')}.py").exists()


@pytest.mark.parametrize("name", tfprune.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
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
