"""Recipes: TOML parsed to frozen dataclasses, with all errors reported at once."""

from tfprune.recipe.parse import load_recipe, parse_recipe
from tfprune.recipe.recipe import Recipe
from tfprune.recipe.shipped import find_recipe, shipped_recipes
from tfprune.recipe.tables import (
    ClusterTable,
    DataTable,
    GateTable,
    MeasureTable,
    ModelTable,
    PruneTable,
    QuantizeTable,
    ShrinkTable,
    TrainTable,
)

__all__ = [
    "ClusterTable",
    "DataTable",
    "GateTable",
    "MeasureTable",
    "ModelTable",
    "PruneTable",
    "QuantizeTable",
    "Recipe",
    "ShrinkTable",
    "TrainTable",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
]
