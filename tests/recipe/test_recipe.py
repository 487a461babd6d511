"""A recipe as a whole: its order, its hash, its own TOML, and the help on it."""

import dataclasses
import inspect
import tomllib

from tfprune.pipeline.models import BUILDERS
from tfprune.recipe import parse_recipe
from tfprune.recipe.recipe import TABLES, Recipe, describe
from tfprune.recipe.sources import MODELS
from tfprune.recipe.toml import to_toml
from tfprune.structure.select.target import COSTS


def test_tables_are_in_the_recipe_in_the_order_of_the_run() -> None:
    assert [field.name for field in dataclasses.fields(Recipe)] == list(TABLES)


FULL = {
    "model": {"source": "convnet", "options": {"width": 8}},
    "data": {"source": "digits", "limit": 100},
    "train": {"epochs": 1},
    "prune": {"sparsity": 0.5, "only": ["conv.*"], "begin_step": 0, "end_step": 9},
    "quantize": {"scheme": "float16"},
    "measure": {"runs": 5},
    "gate": {"min_compression": 2},
}


def test_a_recipe_is_read_again_from_its_own_toml() -> None:
    recipe = parse_recipe(FULL)
    assert parse_recipe(tomllib.loads(to_toml(recipe.to_dict()))) == recipe


def test_a_recipe_with_a_constant_schedule_is_read_again() -> None:
    recipe = parse_recipe({"prune": {"schedule": "constant"}})
    assert parse_recipe(recipe.to_dict()) == recipe


def test_equal_recipes_have_equal_hashes_with_defaults_given_or_not() -> None:
    assert parse_recipe({}).sha256() == parse_recipe({}).sha256()
    explicit = parse_recipe({"prune": {"sparsity": 0.8}})
    assert explicit.sha256() == parse_recipe({"prune": {}}).sha256()
    assert explicit.sha256() != parse_recipe({"prune": {"sparsity": 0.81}}).sha256()
    assert explicit.sha256() != parse_recipe({}).sha256()


def test_all_tables_and_keys_are_described() -> None:
    text = describe()
    for name, table in TABLES.items():
        assert f"[{name}]" in text
        for field in dataclasses.fields(table):
            assert f"  {field.name}: {field.metadata['help']}" in text


def test_names_that_a_key_takes_are_listed() -> None:
    text = " ".join(describe().split())
    assert "the name of a score (gradient, magnitude, movement, random, taylor); default" in text
    assert "the name of a pattern: unstructured, block(4,1), 2:4, channel or head;" in text
    assert "the name of an allocation (erk, global, uniform), or a table of layer" in text
    assert "the name of a scheme (auto, dynamic, float16, float32, int16x8, int4, int8" in text
    assert "the name of a device (adb, host, ssh), or name:address" in text
    assert "{ blocks = 0.25 }; tflite_bytes are those of the float32 file" in text
    for cost in COSTS:
        assert cost in text
    for name in MODELS:
        known = list(inspect.signature(BUILDERS[name]).parameters)[2:]
        assert f"{name}: {', '.join(known)}" in text
