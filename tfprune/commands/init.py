"""`tfprune init`: a recipe to start from."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tfprune.commands.command import DONE, Command
from tfprune.commands.options import add_code
from tfprune.commands.output import native_output
from tfprune.console import print_result
from tfprune.errors import OptionError
from tfprune.storage.files import check_destination, write_atomic


def init_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `init`."""
    command.add_argument("model", metavar="MODEL", help="a .keras or .h5 file")
    command.add_argument(
        "--data",
        default="data.npz",
        metavar="SOURCE",
        help="the data as the recipe names it; default data.npz",
    )
    command.add_argument(
        "-o", "--out", metavar="FILE", help="the .toml file to write; default: print it"
    )
    add_code(command)


def write_recipe(arguments: argparse.Namespace) -> int:
    """Print or write a commented recipe for a model."""
    from tfprune.loading.model_files import check_model_file

    out = arguments.out
    if out is not None:
        if Path(out).suffix != ".toml":
            raise OptionError(f"--out {out}: expected a name ending in .toml")
        if Path(out).exists():
            raise OptionError(f"--out {out}: there is such a file; name another or remove it")
        check_destination(out)
    check_model_file(Path(arguments.model))
    with native_output():
        from tfprune.commands.first_recipe import first_recipe
        from tfprune.loading.load import load_as_far_as_plain
        from tfprune.pipeline.models import with_known_outputs

        model = load_as_far_as_plain(arguments.model, allow_code=arguments.allow_code)
        model = with_known_outputs(model)
        folder = Path(out).parent if out else Path()
        source = os.path.relpath(arguments.model, folder)
        text = first_recipe(model, source, arguments.data)
    if out is None:
        print_result(text.rstrip())
        return DONE
    write_atomic(out, text)
    print_result(f"{out} is written. Name your data in it, then: tfprune run {out}")
    return DONE


COMMANDS: Sequence[Command] = (
    Command(
        "init",
        "Write a commented recipe for a model: what it is, what can be removed, what is tried.",
        "tfprune init model.keras -o recipe.toml",
        init_options,
        write_recipe,
    ),
)
