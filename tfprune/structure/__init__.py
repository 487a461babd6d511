"""Channels, heads, neurons and blocks really removed, with proof."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """`tfprune.rules` and `tfprune.layers` are modules, loaded when they are first used."""
    if name in ("rules", "layers"):
        return importlib.import_module(f"tfprune.structure.{name}")
    raise AttributeError(f"module 'tfprune.structure' has no attribute {name!r}")
