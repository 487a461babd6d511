"""Options that are the keys of a recipe: what they take, and what they answer."""

import argparse

import pytest

from tfprune import cli
from tfprune.commands.options import add_keys, one_shape, read_keys, sizes_by_name
from tfprune.errors import OptionError
from tfprune.recipe.tables import PruneTable, ShrinkTable

KEYS = ("target", "importance", "round_to", "heads", "only")


def table(*words: str) -> ShrinkTable:
    parser = argparse.ArgumentParser()
    add_keys(parser, "shrink", KEYS)
    return read_keys(parser.parse_args(words), "shrink", KEYS)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--target", "macs=0.5"], "target", {"macs": 0.5}),
        (["--target", "macs=.5"], "target", {"macs": 0.5}),
        (["--target", "{ macs = 0.5 }"], "target", {"macs": 0.5}),
        (["--target", "zeros"], "target", "zeros"),
        (["--target", "params=0.5", "--round-to", "4"], "round_to", 4),
        (["--target", "params=0.5"], "round_to", 8),
        (["--target", "params=0.5", "--heads", "false"], "heads", False),
        (["--target", "params=0.5", "--only", "conv.*", "--only", "a"], "only", ("conv.*", "a")),
    ],
    ids=str,
)
def test_an_option_has_the_values_of_the_key(words: list[str], key: str, value: object) -> None:
    assert getattr(table(*words), key) == value


def test_a_table_of_sparsities_is_an_allocation() -> None:
    parser = argparse.ArgumentParser()
    add_keys(parser, "prune", ["allocation"])
    given = parser.parse_args(["--allocation", "dense=0.9,conv.*=0.5"])
    found = read_keys(given, "prune", ["allocation"], epochs=3)
    assert found == PruneTable(allocation={"dense": 0.9, "conv.*": 0.5}, epochs=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "macs=0.5", "--round-to", "0"], "--round-to: expected a whole number, 1"),
        (["--target", "mac=0.5"], "Did you mean macs?"),
        (["--target", "macs=0.5", "--importance", "l3"], "--importance: expected one of"),
        (["--target", "zeros", "--round-to", "4"], "--round-to: is only for a cost"),
        (["--target", "{ macs"], "{ macs: not a TOML value"),
        (["--target", "macs="], "macs=: not a TOML value"),
    ],
    ids=str,
)
def test_a_wrong_value_names_its_option(words: list[str], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        table(*words)
    assert said in str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        table("--target", "macs=0.5", "--round-to", "0", "--heads", "1")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "--round-to",
        "--heads",
    ]


def test_a_required_key_is_a_required_option(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        table("--round-to", "4")
    assert "required: --target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ([], None),
        (["224,224,3"], (224, 224, 3)),
        (["a=4", "b=2,3"], {"a": (4,), "b": (2, 3)}),
    ],
    ids=str,
)
def test_shapes_are_given_as_sizes_or_by_name(given: list[str], shape: object) -> None:
    assert one_shape(given) == shape


@pytest.mark.parametrize("given", ["4,x", "-1", "a=", "a=1,,2"])
def test_a_wrong_shape_is_refused(given: str) -> None:
    with pytest.raises(OptionError, match=r"--input-shape .*: expected"):
        one_shape([given])


def test_shapes_of_files_need_names() -> None:
    with pytest.raises(OptionError, match="expected NAME=SIZES"):
        sizes_by_name(["1,2"])


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda one: one.name)
def test_every_command_has_help_with_an_example_that_parses(
    command: cli.Command, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parse(["tfprune", command.name, "--help"])
    assert ended.value.code == 0
    assert "Example: tfprune" in capsys.readouterr().out
    assert cli.parse(command.example.split()).work is command.work
