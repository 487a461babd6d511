"""The contract of every registry, and that each registry has a contract test."""

import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import tfprune
from tfprune.errors import OptionError
from tfprune.utils.registry import Registry

TESTS = Path(__file__).parents[1]

# What else the entries of each registry keep is tested where it is parametrised over them.
CONTRACTS = {
    "ALLOCATIONS": "contract/test_registries.py",
    "BLOCK_IMPORTANCES": "contract/test_structure_choices.py",
    "BUILDERS": "pipeline/test_models.py",
    "INITS": "clustering/test_centroids.py",
    "IMPORTANCES": "contract/test_structure_choices.py",
    "PATTERNS": "contract/test_registries.py",
    "RANKINGS": "contract/test_structure_choices.py",
    "SCHEMES": "contract/test_schemes.py",
    "METRICS": "contract/test_tasks.py",
    "SCORES": "contract/test_registries.py",
    "TASKS": "contract/test_tasks.py",
    "TARGETS": "contract/test_structure_choices.py",
    "devices": "contract/test_devices.py",
    "runtimes": "contract/test_runtimes.py",
}


def registries() -> dict[str, Registry[Any]]:
    """All registries of the package, by the name of their variable."""
    found: dict[int, tuple[str, Registry[Any]]] = {}
    for module in pkgutil.walk_packages(tfprune.__path__, "tfprune."):
        if module.name.endswith(".__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Registry):
                found[id(value)] = name, value
    return dict(found.values())


ALL = registries()


@pytest.mark.parametrize("name", ALL)
def test_a_registry_has_a_contract(name: str) -> None:
    if name not in CONTRACTS:
        pytest.fail(f"{name} is a registry without a contract: add one, and list it in CONTRACTS")
    assert re.search(rf"\b{name}\b", (TESTS / CONTRACTS[name]).read_text())


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_names_are_found_and_given_once(registry: Registry[Any]) -> None:
    assert len(registry) == len(list(registry)) > 0
    for name in registry:
        entry = registry[name]
        assert name in registry
        with pytest.raises(
            OptionError, match=f"^{registry.kind} {re.escape(repr(name))} is registered already"
        ):
            registry.register(name)
        assert registry[name] is entry


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_an_unknown_name_lists_the_known_and_the_nearest(registry: Registry[Any]) -> None:
    for name in registry:
        with pytest.raises(OptionError) as caught:
            registry[f"{name}_"]
        message = str(caught.value)
        assert message.startswith(f"unknown {registry.kind} '{name}_'. Known: ")
        assert all(known in message for known in registry)
        assert f"Did you mean {name}?" in message
        assert "\n" not in message
    assert f"{name}_" not in registry


def words(entry: Any) -> str:
    """Return the description of an entry: its summary, or the docstring of its function."""
    if hasattr(entry, "summary"):
        return str(entry.summary)
    if isinstance(entry, functools.partial):
        entry = entry.func
    return inspect.getdoc(getattr(entry, "function", entry)) or ""


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_every_entry_has_a_one_line_description(registry: Registry[Any]) -> None:
    for name in registry:
        first = words(registry[name]).partition("\n")[0]
        assert len(first.split()) > 1 or first.endswith("."), f"{registry.kind} {name} says nothing"
