"""The tables: defaults, keys without effect, and combinations that are not allowed."""

import dataclasses
import tomllib

import pytest

from tfprune.errors import RecipeError
from tfprune.recipe import parse_recipe
from tfprune.recipe.recipe import TABLES, Recipe
from tfprune.recipe.tables import IMPORTANCES, RANKINGS, PruneTable, QuantizeTable, ShrinkTable
from tfprune.recipe.toml import to_toml
from tfprune.report import Gate


def test_every_default_is_of_its_kind_and_every_key_has_help() -> None:
    for table in TABLES.values():
        for field in dataclasses.fields(table):
            assert field.metadata["help"]
            if field.default not in (dataclasses.MISSING, None):
                assert field.metadata["kind"].read(field.default) == field.default


@pytest.mark.parametrize(
    ("keys", "faulty"),
    [
        ({"begin_step": 5, "end_step": 3}, "begin_step"),
        ({"begin_epoch": 2.0, "end_epoch": 1.5}, "begin_epoch"),
        ({"end_epoch": 11.0}, "end_epoch"),
        ({"initial_sparsity": 0.9}, "initial_sparsity"),
    ],
)
def test_schedules_that_are_not_possible_are_refused(keys: dict, faulty: str) -> None:
    assert [named[0] for named, _ in PruneTable(**keys).faults()] == [faulty]


def test_sound_pruning_has_no_faults() -> None:
    assert list(PruneTable(begin_step=3, end_step=5).faults()) == []


def test_names_listed_for_speed_are_those_of_the_registries() -> None:
    from tfprune.structure.select.importance import IMPORTANCES as KNOWN_IMPORTANCES
    from tfprune.structure.select.ranking import RANKINGS as KNOWN_RANKINGS

    assert sorted(KNOWN_IMPORTANCES) == list(IMPORTANCES)
    assert sorted(KNOWN_RANKINGS) == list(RANKINGS)


def test_the_target_of_shrinking_is_checked() -> None:
    assert parse_recipe({"shrink": {"target": {"macs": 0.5}}}).shrink is not None
    for wrong, hint in [
        ({"mac": 0.5}, "Did you mean macs"),
        ({"macs": 0}, "share in"),
        (3, "a table of one cost"),
    ]:
        with pytest.raises(RecipeError, match=hint):
            parse_recipe({"shrink": {"target": wrong}})
    assert "learning_rate" in ShrinkTable({"macs": 0.5}, epochs=0).unread()


def test_options_that_choose_channels_have_no_effect_for_zeros_and_blocks() -> None:
    table = parse_recipe({"shrink": {"target": "zeros"}}).shrink
    assert table is not None
    assert table.after_pruning
    assert {"importance", "round_to", "only", "repair"} <= table.unread().keys()
    assert table.examples == 0
    table = parse_recipe({"shrink": {"target": {"blocks": 0.25}, "importance": "l1"}}).shrink
    assert table is not None
    assert not table.after_pruning
    assert {"round_to", "repair"} <= table.unread().keys()
    assert table.examples == 0
    assert ShrinkTable({"macs": 0.5}, repair=64).examples == 64
    for wrong, hint in [
        ("zero", "a table of one cost"),
        ("gates", "No stage of a run adds gates"),
        ({"blocks": 25}, r"Did you mean 0\.25\?"),
    ]:
        with pytest.raises(RecipeError, match=hint):
            parse_recipe({"shrink": {"target": wrong}})
    with pytest.raises(RecipeError, match="round_to"):
        parse_recipe({"shrink": {"target": "zeros", "round_to": 4}})


def test_keys_without_effect_are_named() -> None:
    assert "calibration" in QuantizeTable("dynamic").unread()
    assert set(QuantizeTable("int8").unread()) == {"layers", "prefer", "max_drop"}
    assert set(QuantizeTable("int4").unread()) == {"prefer", "max_drop"}
    assert {"calibration", "rounding"} <= QuantizeTable("float16").unread().keys()
    assert set(PruneTable(schedule="constant").unread()) == {"initial_sparsity", "power"}
    assert set(PruneTable(begin_step=1).unread()) == {"begin_epoch"}


def test_keys_of_auto_are_refused_for_other_schemes() -> None:
    chosen = parse_recipe({"quantize": {"scheme": "auto", "prefer": "size", "max_drop": 0.02}})
    assert chosen.quantize is not None
    assert (chosen.quantize.prefer, chosen.quantize.max_drop) == ("size", 0.02)
    assert parse_recipe(tomllib.loads(to_toml(chosen.to_dict()))) == chosen
    assert "prefer" not in Recipe(quantize=QuantizeTable("int8")).to_dict()["quantize"]
    for table, fault in (
        ({"scheme": "int8", "prefer": "size"}, "prefer.*is only for auto, not int8"),
        (
            {"scheme": "auto", "layers": {"a": "int4"}},
            "layers.*is only for a fixed scheme, not auto",
        ),
        ({"scheme": "auto", "io": "int16"}, "io: expected int8 or float32 with scheme = auto"),
        ({"scheme": "autos"}, "Did you mean auto"),
    ):
        with pytest.raises(RecipeError, match=fault):
            parse_recipe({"quantize": table})


def test_a_recipe_has_the_gates_of_the_library() -> None:
    names = {field.name for field in dataclasses.fields(TABLES["gate"])}
    assert names == {field.name for field in dataclasses.fields(Gate)}


@pytest.mark.parametrize(
    ("table", "key", "value", "hint"),
    [
        ("gate", "max_accuracy_drop", 1, "Did you mean 0.01?"),
        ("gate", "min_accuracy", 88, "Did you mean 0.88?"),
        ("quantize", "max_drop", 2.5, "Did you mean 0.025?"),
    ],
)
def test_a_percentage_instead_of_a_share_is_refused(table, key, value, hint) -> None:
    """A drop of 1 would let everything through."""
    with pytest.raises(RecipeError, match=hint):
        parse_recipe({"quantize": {"scheme": "auto"}}, [f"{table}.{key}={value}"])
