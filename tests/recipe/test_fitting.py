"""How a model is trained: what the keys take, and which table they come from."""

import dataclasses
import tomllib

import pytest

from tfprune.errors import RecipeError
from tfprune.pipeline.steps import filled
from tfprune.recipe import parse_recipe
from tfprune.recipe.fitting import Fitting
from tfprune.recipe.toml import to_toml

SGD = {"name": "sgd", "momentum": 0.9}


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "adamw"},
        {"optimizer": SGD},
        {"learning_rate": {"name": "constant", "value": 0.1}},
        {
            "learning_rate": {
                "name": "piecewise_constant_decay",
                "boundaries": [3],
                "values": [1, 2],
            }
        },
        {"early_stopping": {"patience": 2, "min_delta": 0.01}},
        {"class_weight": "balanced"},
        {"class_weight": {"0": 1.0, "3": 2.5}},
        {"callbacks": ["my_code:Lower", "my_code.more:log"]},
        {"steps_per_epoch": 100},
        {"backup_steps": 100},
        {"fit": "my_code:fit"},
    ],
    ids=str,
)
@pytest.mark.parametrize("table", ["train", "prune"])
def test_a_key_is_read_and_written(keys: dict, table: str) -> None:
    recipe = parse_recipe({table: keys})
    (key,) = keys
    given = keys[key]
    found = getattr(getattr(recipe, table), key)
    assert found == (tuple(given) if isinstance(given, list) else given)
    assert parse_recipe(tomllib.loads(to_toml(recipe.to_dict()))) == recipe


def test_a_number_of_epochs_is_the_patience() -> None:
    assert parse_recipe({"train": {"early_stopping": 3}}).train.early_stopping == {"patience": 3}


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ({"optimizer": "adan"}, "Did you mean adam"),
        ({"optimizer": {"momentum": 0.9}}, "expected an optimizer of Keras"),
        ({"optimizer": {**SGD, "learning_rate": 1}}, "a key of its own, beside optimizer"),
        ({"learning_rate": {"name": "cosine"}}, "Did you mean cosine_decay"),
        ({"learning_rate": 0}, "expected a number above 0, or a table"),
        ({"early_stopping": 0}, "expected a number of epochs"),
        ({"early_stopping": {"patients": 3}}, "Did you mean patience"),
        ({"early_stopping": {"min_delta": 0.1}}, "expected a number of epochs"),
        ({"class_weight": {"zero": 1.0}}, "a table of classes"),
        ({"class_weight": {"0": -1.0}}, "a table of classes"),
        ({"class_weight": "even"}, "balanced"),
        ({"callbacks": ["Lower"]}, "package.module:name"),
        ({"fit": "fit"}, "package.module:name"),
        ({"fit": "a:b", "class_weight": "balanced"}, "not passed on to fit"),
        ({"fit": "a:b", "backup_steps": 5}, "stored after each epoch"),
        ({"steps_per_epoch": 0}, "a whole number"),
        ({"backup_steps": 0}, "a whole number"),
    ],
    ids=str,
)
def test_what_is_not_allowed_is_refused_with_a_hint(keys: dict, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        parse_recipe({"train": keys})


def test_what_a_table_leaves_unset_is_as_in_train() -> None:
    recipe = parse_recipe(
        {
            "train": {"optimizer": SGD, "early_stopping": 2, "learning_rate": 0.5},
            "prune": {"optimizer": "lion"},
            "shrink": {"target": {"macs": 0.5}},
        }
    )
    pruning, shrinking = filled(recipe, recipe.prune), filled(recipe, recipe.shrink)
    assert (pruning.optimizer, pruning.early_stopping) == ("lion", {"patience": 2})
    assert shrinking.optimizer == SGD
    assert shrinking.learning_rate == 1e-3  # each table has its own
    alone = parse_recipe({"prune": {}})
    assert filled(alone, alone.prune) == alone.prune


def test_without_epochs_nothing_of_it_is_read() -> None:
    for field in dataclasses.fields(Fitting):
        value = {"class_weight": "balanced", "early_stopping": 1, "optimizer": "sgd"}
        given = value.get(field.name, 5 if "steps" in field.name else ["a:b"])
        given = "a:b" if field.name == "fit" else given
        with pytest.raises(RecipeError, match="is only for epochs above 0"):
            parse_recipe({"shrink": {"target": {"macs": 0.5}, "epochs": 0, field.name: given}})
