"""The list of subcommands."""

from tfprune import cli
from tfprune.commands.command import DONE, FAILED, WRONG


def test_commands_have_names_of_their_own_and_a_sentence() -> None:
    names = [one.name for one in cli.COMMANDS]
    assert len(set(names)) == len(names)
    assert all(one.summary.endswith(".") for one in cli.COMMANDS)


def test_exit_codes_are_those_of_the_help() -> None:
    assert (DONE, FAILED, WRONG) == (0, 1, 2)
