"""`tfprune run` and `recipes`."""

import shlex

import pytest

from tfprune import cli
from tfprune.commands import run
from tfprune.recipe import shipped_recipes


def test_every_shipped_recipe_is_listed_and_printed(capsys: pytest.CaptureFixture) -> None:
    assert cli.execute(cli.parse(["tfprune", "recipes"])) == 0
    listed = capsys.readouterr().out
    for name, file in shipped_recipes().items():
        assert f"{name} " in listed
        assert cli.execute(cli.parse(["tfprune", "recipes", name])) == 0
        assert capsys.readouterr().out.rstrip() == file.read_text().rstrip()


def test_the_printed_command_to_resume_can_be_run() -> None:
    line = ["tfprune", "run", "my recipe.toml", "--set", 'prune.only=["a"]', "--out", "a b"]
    again = run.resume_command(cli.parse(line))
    parsed = cli.parse(shlex.split(again))
    assert parsed.recipe == "my recipe.toml"
    assert parsed.set == ['prune.only=["a"]']
    assert parsed.out == "a b"
    assert parsed.resume
