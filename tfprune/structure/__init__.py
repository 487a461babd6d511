"""Channels, heads, neurons and blocks really removed, with proof."""

import importlib
from types import ModuleType

_PUBLIC = {"layers": "tfprune.structure.gates.layers", "rules": "tfprune.structure.rules"}


def __getattr__(name: str) -> ModuleType:
    if name in _PUBLIC:
        return importlib.import_module(_PUBLIC[name])
    raise AttributeError(f"module 'tfprune.structure' has no attribute {name!r}")
