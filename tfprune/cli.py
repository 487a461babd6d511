"""The command `tfprune`. Only this module prints and turns errors into exit codes.

TensorFlow is not loaded before it is needed, so that help, the list of recipes and the errors of
a recipe appear at once.
"""

import argparse
import contextlib
import errno
import logging
import os
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import absl.logging
from absl import app
from absl.flags import argparse_flags

import tfprune
from tfprune.console import print_error, print_result, shown_progress
from tfprune.errors import (
    ArtifactError,
    DataError,
    GateError,
    ModelError,
    OptionError,
    RecipeError,
    TfpruneError,
)
from tfprune.utils.interrupts import Terminated, handle_interrupts

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: done; the work failed or a gate was missed; the call, recipe or file was wrong."""

_BY_SIGNAL = 128
"""Shells add this to the number of the signal that ended a process: 143 for SIGTERM."""

WRONG_ERRORS = (ArtifactError, DataError, ModelError, OptionError, RecipeError)

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Error numbers of the system when a file cannot be written."""


def main() -> NoReturn:
    """Run the command with the arguments of the process, and exit."""
    app.run(execute, flags_parser=parse)
    raise SystemExit(DONE)


GATES = {
    "min_accuracy": "minimum accuracy on the data",
    "max_accuracy_drop": "maximum loss of accuracy against the baseline",
    "max_drop": "maximum loss of the task's metric against the baseline, in its unit",
    "min_score": "minimum of a metric where higher is better",
    "max_score": "maximum of a metric where lower is better",
    "max_bytes": "maximum size of the file",
    "max_gzip_bytes": "maximum size of the file under gzip",
    "min_compression": "minimum times smaller than the baseline under gzip",
    "max_latency_ms": "maximum median latency",
    "max_latency_ratio": "maximum ratio to the baseline's latency",
}
"""The gates of `tfprune check`, as options."""


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

    def add(
        name: str, work: Callable[[argparse.Namespace], int], summary: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=summary, inherited_absl_flags=None
        )
        command.set_defaults(work=work)
        return command

    run = add("run", run_recipe, "Run a recipe and write its folder.")
    run.add_argument("recipe", metavar="RECIPE", help="a .toml file, or the name of a shipped one")
    run.add_argument("--set", metavar="TABLE.KEY=VALUE", action="append", default=[],
                     help="change one key of the recipe; may be repeated")  # fmt: skip
    run.add_argument("--out", metavar="DIR", help="run folder; default runs/RECIPE")
    run.add_argument("--resume", action="store_true", help="resume the run in that folder")

    inspect = add("inspect", inspect_file, "List operations, types, bytes and zeros of a .tflite.")
    inspect.add_argument("file", metavar="FILE", help="a .tflite file")

    units = add(
        "units", list_units, "List the units of a model that can be removed, and those that cannot."
    )
    units.add_argument("file", metavar="FILE", help="a .keras or .h5 model")

    benchmark = add("benchmark", benchmark_files, "Measure the latency of .tflite or .onnx files.")
    benchmark.add_argument("files", metavar="FILE", nargs="+",
                           help="the others are compared with the first")  # fmt: skip
    benchmark.add_argument(
        "--device",
        default="host",
        help="where to measure: host (the default), adb:SERIAL or ssh:HOST",
    )
    benchmark.add_argument(
        "--threads", type=int, default=1, help="threads of the runtime; default 1"
    )
    benchmark.add_argument("--runs", type=int, default=50, help="timed runs per file; default 50")

    benchmark.add_argument("--input-shape", metavar="NAME=SIZES", action="append", default=[],
                           help="for an input with open sizes, such as tokens=1,128")  # fmt: skip
    benchmark.add_argument("--profile", action="store_true",
                           help="also list the kernels that ran, with their times")  # fmt: skip

    check = add(
        "check", check_artifact, "Measure a stored artifact again; fail if it misses a gate."
    )
    check.add_argument("path", metavar="DIR", help="a run folder, or a .tflite beside its report")
    check.add_argument("--data", metavar="FILE", help="an .npz with x and y; default: the run's")
    check.add_argument("--task", metavar="NAME", help="what good means; default: the run's task")
    check.add_argument("--baseline", metavar="FILE", help="the file that ratios and drops refer to")
    check.add_argument(
        "--device", help="where to time: host, adb:SERIAL or ssh:HOST; default: the run's"
    )
    check.add_argument("--threads", type=int, help="threads of the runtime")
    check.add_argument("--runs", type=int, help="timed pairs")
    check.add_argument("--json", action="store_true", help="print figures and gates as JSON")
    for gate, meaning in GATES.items():
        check.add_argument(f"--{gate.replace('_', '-')}", type=float, metavar="N", help=meaning)

    recipes = add("recipes", list_recipes, "List the shipped recipes, or print one.")
    recipes.add_argument("name", metavar="NAME", nargs="?", help="the one to print")
    recipes.add_argument("--keys", action="store_true", help="list all keys a recipe may have")

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
            print_error(_interrupted(error))
            return _code(error)
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


def run_recipe(arguments: argparse.Namespace) -> int:
    """Run a recipe."""
    from tfprune.pipeline import carry_out, prepare
    from tfprune.pipeline.folder import NATIVE_LOG
    from tfprune.recipe import find_recipe, load_recipe

    path = find_recipe(arguments.recipe)
    recipe = load_recipe(path, arguments.set)
    arguments.out = arguments.out or str(Path("runs") / path.stem)
    # Keras data sets and user functions load TensorFlow already here.
    with _native_output():
        job = prepare(None, recipe, out=arguments.out, resume=arguments.resume)
    try:
        with handle_interrupts(), _native_output(Path(arguments.out) / NATIVE_LOG):
            _load_tensorflow()
            with shown_progress() as progress:
                result = carry_out(job, progress)
    except KeyboardInterrupt as error:
        print_error(f"{_interrupted(error)}. Resume with: {_resume_command(arguments)}")
        return _code(error)
    print_result(str(result.report))
    print_result(f"Everything is in {result.folder}: model.tflite, model.keras, report.html …")
    missed = [str(gate) for gate in result.report.gates if not gate.passed]
    if missed:
        raise GateError("\n".join(missed))
    return DONE


def inspect_file(arguments: argparse.Namespace) -> int:
    """Print the contents of a `.tflite` file."""
    from tfprune.runtime.inspect import inspect

    print_result(str(inspect(arguments.file)))
    return DONE


def list_units(arguments: argparse.Namespace) -> int:
    """Print the channels, neurons and heads of a model."""
    from tfprune.loading.load import check_model_file, load_model

    check_model_file(Path(arguments.file))
    with _native_output():
        from tfprune.structure.groups.units import units

        found = units(load_model(arguments.file))
    print_result(str(found))
    return DONE


def benchmark_files(arguments: argparse.Namespace) -> int:
    """Print the latency of one file, or of several compared with the first."""
    from tfprune.measure.latency import benchmark, interleaved

    options = {
        "threads": arguments.threads,
        "runs": arguments.runs,
        "input_shapes": dict(map(_shape, arguments.input_shape)),
    }
    files, device = arguments.files, arguments.device
    if arguments.profile:
        from tfprune.measure.profile import check_profiled, profile

        if device != "host":
            raise OptionError(
                f"--profile works on this machine only, not on {device}; remove --profile or "
                "--device"
            )
        for file in files:
            check_profiled(file)
    with shown_progress() as progress:
        if len(files) == 1:
            shown = str(benchmark(files[0], device=device, **options, progress=progress))
        else:
            shown = str(interleaved(files, device=device, **options, progress=progress))
    print_result(shown)
    if arguments.profile:
        for file in files:
            print_result(str(profile(file, **options)))
    return DONE


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse an option such as tokens=1,128.

    Raises:
        OptionError: It has another form.
    """
    name, _, sizes = text.rpartition("=")
    parts = sizes.split(",")
    if not name or not all(part.strip().isdecimal() for part in parts):
        raise OptionError(f"--input-shape {text}: expected NAME=SIZES, such as tokens=1,128")
    return name, tuple(map(int, parts))


def check_artifact(arguments: argparse.Namespace) -> int:
    """Print one line for each gate of a stored artifact."""
    from tfprune.measure.check import Limits
    from tfprune.pipeline.check import check

    with _native_output(), shown_progress() as progress:
        verdict = check(
            arguments.path,
            data=arguments.data,
            task=arguments.task,
            limits=Limits(**{gate: getattr(arguments, gate) for gate in GATES}),
            baseline=arguments.baseline,
            device=arguments.device,
            threads=arguments.threads,
            runs=arguments.runs,
            progress=progress,
        )
    print_result(verdict.to_json() if arguments.json else str(verdict))
    return DONE if verdict.passed else FAILED


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


def _load_tensorflow() -> None:
    """Load TensorFlow with deterministic operations."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _native_output(path: Path = Path(os.devnull)) -> Iterator[None]:
    """Redirect what native code writes to file descriptor 2 to a file; keep Python's stderr.

    TensorFlow 2.21 and LiteRT write there whatever their log levels are, into the progress bar.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    python_stderr = sys.stderr
    kept = os.dup(2)
    try:
        with path.open("ab") as file, os.fdopen(os.dup(2), "w", buffering=1) as shown:
            os.dup2(file.fileno(), 2)
            sys.stderr = shown
            yield
    finally:
        sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)


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


def _interrupted(error: KeyboardInterrupt) -> str:
    return f"interrupted by {error}" if isinstance(error, Terminated) else "interrupted"


def _code(error: KeyboardInterrupt) -> int:
    """Return the exit code; after a signal, the one that shells use."""
    return _BY_SIGNAL + error.number if isinstance(error, Terminated) else FAILED


def _resume_command(arguments: argparse.Namespace) -> str:
    words = ["tfprune", "run", arguments.recipe]
    for setting in arguments.set:
        words += ["--set", setting]
    return shlex.join([*words, "--out", arguments.out, "--resume"])


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
