"""`tfprune run` and `recipes`."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from tfprune.commands.command import DONE, FAILED, Command
from tfprune.commands.output import native_output
from tfprune.console import print_error, print_result, shown_progress
from tfprune.errors import GateError
from tfprune.utils.interrupts import Terminated, handle_interrupts

_BY_SIGNAL = 128
"""Shells add this to the number of the signal that ended a process: 143 for SIGTERM."""


def run_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `run`."""
    command.add_argument(
        "recipe", metavar="RECIPE", help="a .toml file, or the name of a shipped one"
    )
    command.add_argument(
        "--set",
        metavar="TABLE.KEY=VALUE",
        action="append",
        default=[],
        help="change one key of the recipe; may be repeated",
    )
    command.add_argument("--out", metavar="DIR", help="run folder; default runs/RECIPE")
    command.add_argument("--resume", action="store_true", help="resume the run in that folder")


def run_recipe(arguments: argparse.Namespace) -> int:
    """Run a recipe."""
    from tfprune.recipe import find_recipe, load_recipe

    path = find_recipe(arguments.recipe)
    recipe = load_recipe(path, arguments.set)
    # A faulty recipe is answered before the pipeline is loaded.
    from tfprune.pipeline import carry_out, prepare
    from tfprune.pipeline.folder import NATIVE_LOG

    arguments.out = arguments.out or str(Path("runs") / path.stem)
    # Keras data sets and user functions load TensorFlow already here.
    with native_output():
        job = prepare(None, recipe, out=arguments.out, resume=arguments.resume)
    try:
        with handle_interrupts(), native_output(Path(arguments.out) / NATIVE_LOG):
            load_tensorflow()
            with shown_progress() as progress:
                result = carry_out(job, progress)
    except KeyboardInterrupt as error:
        print_error(f"{interrupted(error)}. Resume with: {resume_command(arguments)}")
        return code_of(error)
    print_result(str(result.report))
    print_result(f"Everything is in {result.folder}: model.tflite, model.keras, report.html …")
    missed = [str(gate) for gate in result.report.gates if not gate.passed]
    if missed:
        raise GateError("\n".join(missed))
    return DONE


def load_tensorflow() -> None:
    """Load TensorFlow with deterministic operations."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def interrupted(error: KeyboardInterrupt) -> str:
    """Return what interrupted a command, as words."""
    return f"interrupted by {error}" if isinstance(error, Terminated) else "interrupted"


def code_of(error: KeyboardInterrupt) -> int:
    """Return the exit code; after a signal, the one that shells use."""
    return _BY_SIGNAL + error.number if isinstance(error, Terminated) else FAILED


def resume_command(arguments: argparse.Namespace) -> str:
    """Return the command that resumes a run."""
    words = ["tfprune", "run", arguments.recipe]
    for setting in arguments.set:
        words += ["--set", setting]
    return shlex.join([*words, "--out", arguments.out, "--resume"])


def recipes_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `recipes`."""
    command.add_argument("name", metavar="NAME", nargs="?", help="the one to print")
    command.add_argument("--keys", action="store_true", help="list all keys a recipe may have")


def list_recipes(arguments: argparse.Namespace) -> int:
    """Print the names of the shipped recipes, the text of one, or the keys of recipes."""
    from tfprune.recipe.shipped import find_recipe, headline, shipped_recipes

    if arguments.keys:
        from tfprune.recipe.recipe import describe

        print_result(describe())
    elif arguments.name:
        print_result(find_recipe(arguments.name).read_text(encoding="utf-8").rstrip())
    else:
        shipped = shipped_recipes()
        width = max(map(len, shipped))
        for name, file in shipped.items():
            print_result(f"{name:{width}}  {headline(file.read_text(encoding='utf-8'))}")
    return DONE


COMMANDS: Sequence[Command] = (
    Command(
        "run",
        "Run a recipe and write its folder.",
        "tfprune run quickstart --set prune.sparsity=0.8",
        run_options,
        run_recipe,
    ),
    Command(
        "recipes",
        "List the shipped recipes, or print one.",
        "tfprune recipes quickstart",
        recipes_options,
        list_recipes,
    ),
)
