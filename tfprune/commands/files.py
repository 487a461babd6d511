"""`tfprune inspect`, `units`, `benchmark` and `check`: what files hold, and how fast they are."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfprune.commands.command import DONE, FAILED, Command
from tfprune.commands.options import (
    add_code,
    add_input_shape,
    add_timing,
    one_shape,
    option_of,
    sizes_by_name,
)
from tfprune.commands.output import native_output
from tfprune.console import print_result, shown_progress
from tfprune.errors import OptionError

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
"""The gates of `check` and `compare`, as options."""


def add_gates(command: argparse.ArgumentParser) -> None:
    """Declare an option for each gate."""
    for gate, meaning in GATES.items():
        command.add_argument(option_of(gate), type=float, metavar="N", help=meaning)


def inspect_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `inspect`."""
    command.add_argument("file", metavar="FILE", help="a .tflite file")


def inspect_file(arguments: argparse.Namespace) -> int:
    """Print the contents of a `.tflite` file."""
    from tfprune.runtime.inspect import inspect

    print_result(str(inspect(arguments.file)))
    return DONE


def units_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `units`."""
    command.add_argument("file", metavar="FILE", help="a .keras or .h5 model")
    add_code(command)
    add_input_shape(command)


def list_units(arguments: argparse.Namespace) -> int:
    """Print the channels, neurons and heads of a model."""
    from tfprune.loading.load import check_model_file, load_as_far_as_plain

    check_model_file(Path(arguments.file))
    with native_output():
        from tfprune.structure.groups.units import units

        model = load_as_far_as_plain(arguments.file, allow_code=arguments.allow_code)
        found = units(model, input_shape=one_shape(arguments.input_shape))
    print_result(str(found))
    return DONE


def benchmark_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `benchmark`."""
    command.add_argument(
        "files", metavar="FILE", nargs="+", help="the others are compared with the first"
    )
    add_timing(command, "timed runs per file")
    command.add_argument(
        "--profile", action="store_true", help="also list the kernels that ran, with their times"
    )


def benchmark_files(arguments: argparse.Namespace) -> int:
    """Print the latency of one file, or of several compared with the first."""
    from tfprune.measure.latency import benchmark, interleaved

    options = {
        "threads": arguments.threads,
        "runs": arguments.runs,
        "input_shapes": sizes_by_name(arguments.input_shape),
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


def check_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `check`."""
    command.add_argument(
        "path", metavar="DIR", help="a run folder, or a .tflite with its report next to it"
    )
    command.add_argument("--data", metavar="FILE", help="an .npz with x and y; default: the run's")
    command.add_argument("--task", metavar="NAME", help="what good means; default: the run's task")
    command.add_argument(
        "--baseline", metavar="FILE", help="the file that ratios and drops refer to"
    )
    command.add_argument(
        "--device", help="where to time: host, adb:SERIAL or ssh:HOST; default: the run's"
    )
    command.add_argument("--threads", type=int, help="threads of the runtime")
    command.add_argument("--runs", type=int, help="timed pairs")
    command.add_argument("--json", action="store_true", help="print figures and gates as JSON")
    add_gates(command)


def check_artifact(arguments: argparse.Namespace) -> int:
    """Print one line for each gate of a stored artifact."""
    from tfprune.measure.check import Limits
    from tfprune.pipeline.check import check

    with native_output(), shown_progress() as progress:
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


COMMANDS: Sequence[Command] = (
    Command(
        "inspect",
        "List operations, types, bytes and zeros of a .tflite.",
        "tfprune inspect model.tflite",
        inspect_options,
        inspect_file,
    ),
    Command(
        "units",
        "List the units of a model that can be removed, and those that cannot.",
        "tfprune units model.keras",
        units_options,
        list_units,
    ),
    Command(
        "benchmark",
        "Measure the latency of .tflite or .onnx files.",
        "tfprune benchmark dense.tflite small.tflite --profile",
        benchmark_options,
        benchmark_files,
    ),
    Command(
        "check",
        "Measure a stored artifact again; fail if it misses a gate.",
        "tfprune check runs/quickstart --max-accuracy-drop 0.01",
        check_options,
        check_artifact,
    ),
)
