"""`tfprune compare` and `report`: files beside their baseline, and runs beside each other."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfprune.commands.command import DONE, Command
from tfprune.commands.data_files import FORMS, TEST, read_data
from tfprune.commands.files import GATES, add_gates
from tfprune.commands.options import add_timing, option_of, sizes_by_name
from tfprune.commands.output import native_output
from tfprune.console import print_result, shown_progress
from tfprune.errors import ArtifactError, GateError, OptionError
from tfprune.storage.files import check_destination, write_atomic

PAGES = {".html": "to_html", ".md": "to_markdown", ".txt": "to_text", ".json": "to_json"}
"""The renderings of a report, by the ending of the file."""


SCORE_GATES = ("min_accuracy", "max_accuracy_drop", "max_drop", "min_score", "max_score")


def compare_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `compare`."""
    command.add_argument("baseline", metavar="DENSE", help="the .tflite that ratios refer to")
    command.add_argument("files", metavar="FILE", nargs="+", help="the .tflite files to compare")
    command.add_argument("--data", metavar="DATA", help=f"labeled samples to score on: {FORMS}")
    command.add_argument(
        "--metric",
        metavar="NAME",
        help="accuracy, mae …; default: what the labels show; or package.module:name of a "
        "function of labels and outputs, or of a metric of Keras",
    )
    command.add_argument("--task", metavar="NAME", help="regression, segmentation …")
    command.add_argument(
        "--output", metavar="NAME", help="the output to score, if the files have several"
    )
    add_timing(command, "timed pairs of each file and the baseline")
    add_gates(command)
    command.add_argument("-o", "--out", metavar="FILE", help=f"also write it: {_endings(PAGES)}")


def compare_files(arguments: argparse.Namespace) -> int:
    """Print files beside their baseline, measured in one run."""
    from tfprune.measure.comparison import compare
    from tfprune.recipe.sources import is_function
    from tfprune.recipe.user_code import import_function
    from tfprune.report.gates import Gate

    render = _rendering(arguments.out, PAGES)
    metric: Any = arguments.metric
    for key in ("metric", "task", "output", *SCORE_GATES):
        if getattr(arguments, key) is not None and arguments.data is None:
            raise OptionError(f"{option_of(key)}: nothing is scored without labels; give --data")
    with native_output(), shown_progress() as progress:
        if metric and is_function(metric):
            metric = import_function(metric)
            metric = metric() if isinstance(metric, type) else metric
        report = compare(
            arguments.baseline,
            list(arguments.files),
            read_data(arguments.data, "--data", TEST) if arguments.data else None,
            metric=metric,
            task=arguments.task,
            output=arguments.output,
            device=arguments.device,
            threads=arguments.threads,
            runs=arguments.runs,
            input_shapes=sizes_by_name(arguments.input_shape),
            gate=Gate(**{gate: getattr(arguments, gate) for gate in GATES}),
            title=f"Compared with {Path(arguments.baseline).name}",
            progress=progress,
        )
    print_result(str(report))
    if render:
        write_atomic(arguments.out, getattr(report, render)())
    missed = [str(gate) for gate in report.gates if not gate.passed]
    if missed:
        raise GateError("\n".join(missed))
    return DONE


def report_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `report`."""
    command.add_argument("folders", metavar="DIR", nargs="+", help="the folder of a finished run")
    pages = {ending: name for ending, name in PAGES.items() if ending != ".json"}
    command.add_argument("-o", "--out", metavar="FILE", help=f"also write it: {_endings(pages)}")


def report_runs(arguments: argparse.Namespace) -> int:
    """Print several runs in one table, and write them on one page."""
    from tfprune.report.overview import Overview

    pages = {ending: name for ending, name in PAGES.items() if ending != ".json"}
    render = _rendering(arguments.out, pages)
    overview = Overview({folder: _report(folder) for folder in arguments.folders})
    print_result(str(overview))
    if render == "to_html":
        write_atomic(arguments.out, overview.to_html(Path(arguments.out).parent))
    elif render:
        write_atomic(arguments.out, getattr(overview, render)())
    return DONE


def _report(folder: str) -> Any:
    from tfprune.report.report import Report

    path = Path(folder) / "report.json"
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: no report.json in it; give the folder of a finished run (tfprune run)"
        )
    return Report.load(path)


def _endings(pages: dict[str, str]) -> str:
    return f"a name ending in {', '.join(pages)}"


def _rendering(out: str | None, pages: dict[str, str]) -> str | None:
    """Return the method that writes a page of the ending of a file, before any work is done."""
    if out is None:
        return None
    if Path(out).suffix not in pages:
        raise OptionError(f"--out {out}: expected {_endings(pages)}")
    check_destination(out)
    return pages[Path(out).suffix]


COMMANDS: Sequence[Command] = (
    Command(
        "compare",
        "Measure .tflite files beside a baseline in one run: size, score, latency, memory.",
        "tfprune compare dense.tflite int8.tflite --data test.npz -o report.html",
        compare_options,
        compare_files,
    ),
    Command(
        "report",
        "Show several runs on one page.",
        "tfprune report runs/quickstart runs/small -o runs.html",
        report_options,
        report_runs,
    ),
)
