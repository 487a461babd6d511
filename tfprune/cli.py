"""The command `tfprune`. Only this module prints and turns errors into exit codes.

TensorFlow is not loaded before it is needed, so that help, the list of recipes and the errors of
a recipe appear at once.
"""

import argparse
import contextlib
import errno
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import absl.logging
from absl import app
from absl.flags import argparse_flags

import tfprune
from tfprune.commands import files, init, models, reports, run
from tfprune.commands.command import DONE, FAILED, WRONG, Command
from tfprune.console import print_error
from tfprune.errors import (
    ArtifactError,
    DataError,
    ModelError,
    OptionError,
    RecipeError,
    TfpruneError,
)
from tfprune.utils.interrupts import handle_interrupts

WRONG_ERRORS = (ArtifactError, DataError, ModelError, OptionError, RecipeError)

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Error numbers of the system when a file cannot be written."""


def main() -> NoReturn:
    """Run the command with the arguments of the process, and exit."""
    app.run(execute, flags_parser=parse)
    raise SystemExit(DONE)


COMMANDS: Sequence[Command] = (
    *run.COMMANDS,
    *init.COMMANDS,
    *models.COMMANDS,
    *reports.COMMANDS,
    *files.COMMANDS,
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; a wrong one ends the process with code 2 and lists what is allowed."""
    parser = argparse_flags.ArgumentParser(
        prog="tfprune",
        description="Prune, shrink and quantize Keras models; export verified .tflite files.",
        epilog="Exit codes: 0 done, 1 the work failed or a gate was missed, 2 the call, the "
        "recipe or a file was wrong, 143 ended by SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"tfprune {tfprune.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for one in COMMANDS:
        command = commands.add_parser(
            one.name,
            help=one.summary,
            description=one.summary,
            epilog=f"Example: {one.example}",
            inherited_absl_flags=None,
        )
        if one.name in argv:  # options load the tables of recipes, which help does not need
            one.options(command)
        command.set_defaults(work=one.work)
    return parser.parse_args(argv[1:])


def execute(arguments: argparse.Namespace) -> int:
    """Run the chosen command and return the exit code."""
    absl.logging.set_verbosity(absl.logging.WARNING)
    with _one_line_messages():
        try:
            with handle_interrupts():
                return arguments.work(arguments)
        except WRONG_ERRORS as error:
            print_error(str(error))
            return WRONG
        except TfpruneError as error:
            print_error(str(error))
            return FAILED
        except KeyboardInterrupt as error:
            print_error(run.interrupted(error))
            return run.code_of(error)
        except BrokenPipeError:
            # The reader of the output has closed it, as `| head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except Exception as error:  # noqa: BLE001 - the one place where any error ends
            if isinstance(error, OSError) and error.errno in _UNWRITABLE:
                print_error(f"{error.filename or 'a file'}: {error.strerror}; name another place")
                return FAILED
            print_error(f"unexpected {type(error).__name__}: {error}".partition("\n")[0])
            print_error(f"the traceback is in {_write_traceback(arguments)}")
            return FAILED


@contextlib.contextmanager
def _one_line_messages() -> Iterator[None]:
    """Show each warning of tfprune as one line; other log records go to the run folder only."""
    logger = logging.getLogger("tfprune")
    handler = _ErrorHandler(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        logger.warning("%s", message)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


class _ErrorHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_error(f"{record.levelname.lower()}: {record.getMessage()}")


def _write_traceback(arguments: argparse.Namespace) -> Path:
    out = getattr(arguments, "out", None)
    if out and Path(out).is_dir():
        path = Path(out) / "traceback.txt"
    else:
        handle, name = tempfile.mkstemp(prefix="tfprune-", suffix=".txt")
        os.close(handle)
        path = Path(name)
    path.write_text(traceback.format_exc(), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
