"""`tfprune convert`, `shrink` and `prune`: a model in, a file or a smaller model out."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfprune.commands.command import DONE, Command
from tfprune.commands.data_files import FORMS, read_data
from tfprune.commands.options import (
    add_input_shape,
    add_keys,
    add_model,
    one_shape,
    option_of,
    read_keys,
)
from tfprune.commands.output import native_output
from tfprune.console import print_error, print_result, shown_progress
from tfprune.errors import OptionError
from tfprune.storage.files import check_destination
from tfprune.utils.progress import Progress

OF_QUANTIZE = ("io", "layers", "prefer", "max_drop")
OF_SHRINK = ("target", "importance", "ranking", "round_to", "heads", "only", "skip", "repair")
OF_PRUNE = ("sparsity", "score", "pattern", "allocation", "only", "skip")
"""The keys of a recipe's tables that are options here."""

NOT_REFITTED = "warning: nothing was refitted on samples: give --data, and train the model"
AS_THEY_WERE = (
    "warning: the weights that stay are as they were: give --oneshot and --data, or prune while "
    "the model trains, with a recipe (tfprune init)"
)


def convert_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `convert`."""
    from tfprune.runtime.schemes import AUTO, SCHEMES

    add_model(command, "the .tflite or .onnx file to write")
    add_input_shape(command)
    command.add_argument("--calibration", metavar="DATA", help=f"samples of the inputs: {FORMS}")
    command.add_argument(
        "--scheme",
        metavar="NAME",
        help=f"{', '.join(sorted(SCHEMES))}, or {AUTO}: built and measured, then chosen; default: "
        "int8 with --calibration, else float32",
    )
    add_keys(command, "quantize", OF_QUANTIZE)
    command.add_argument(
        "--allow-float",
        metavar="OPERATION",
        action="append",
        default=[],
        help="an operation that may stay float in an integer file",
    )
    command.add_argument(
        "--random", choices=("mean",), help="what random numbers that the model draws become"
    )
    command.add_argument(
        "--data", metavar="DATA", help="labeled samples, on which --scheme auto scores"
    )


def convert(arguments: argparse.Namespace) -> int:
    """Convert a model to a `.tflite` or `.onnx` file."""
    ending = Path(arguments.out).suffix
    if ending not in (".tflite", ".onnx"):
        raise OptionError(f"--out {arguments.out}: expected a name ending in .tflite or .onnx")
    for key in ("scheme", *OF_QUANTIZE, "data", "allow_float"):
        if ending == ".onnx" and getattr(arguments, key) not in (None, []):
            raise OptionError(
                f"{option_of(key)}: an .onnx file is float32; remove it, or write a .tflite"
            )
    scheme = arguments.scheme or ("int8" if arguments.calibration else "float32")
    table = read_keys(arguments, "quantize", OF_QUANTIZE, scheme=scheme)
    options: dict[str, Any] = {"random": arguments.random}
    if arguments.calibration:
        options["calibration"] = read_data(arguments.calibration, "--calibration")
    if arguments.data:
        options["data"] = read_data(arguments.data, "--data")
    if ending == ".tflite":
        unread = table.unread()
        options |= {k: getattr(table, k) for k in OF_QUANTIZE if k not in unread}
        options["scheme"] = scheme
        options["allow_float"] = arguments.allow_float
    with _loaded(arguments) as (model, progress):
        from tfprune.deploy.onnx.to_onnx import to_onnx
        from tfprune.deploy.tflite import to_tflite

        write: Any = to_tflite if ending == ".tflite" else to_onnx
        artifact = write(
            model,
            arguments.out,
            input_shape=one_shape(arguments.input_shape),
            progress=progress,
            **options,
        )
    print_result(str(artifact.report))
    return DONE


def shrink_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `shrink`."""
    add_model(command, "the .keras file of the smaller model")
    add_input_shape(command)
    add_keys(command, "shrink", OF_SHRINK)
    command.add_argument(
        "--data",
        metavar="DATA",
        help="training samples, for refitting what is kept, and for an importance "
        f"that needs them: {FORMS}",
    )
    _add_loss(command)


def shrink_model(arguments: argparse.Namespace) -> int:
    """Write a model without some of its channels, neurons and heads."""
    _check_keras(arguments.out)
    table = read_keys(arguments, "shrink", OF_SHRINK)
    data = read_data(arguments.data, "--data") if arguments.data else None
    if arguments.repair is not None and data is None:
        raise OptionError("--repair: it refits on samples; give --data")
    with _loaded(arguments) as (model, progress):
        from tfprune.pipeline.changes import shrink_by
        from tfprune.pipeline.saving import save_model

        small, report = shrink_by(
            model,
            table,
            data=data,
            loss=arguments.loss,
            repair=_first(data, model, table.examples),
            input_shape=one_shape(arguments.input_shape),
            progress=progress,
        )
        save_model(small, Path(arguments.out))
    print_result(str(report))
    if data is None:
        print_error(NOT_REFITTED)
    return DONE


def prune_options(command: argparse.ArgumentParser) -> None:
    """Declare the options of `prune`."""
    add_model(command, "the .keras file of the pruned model")
    add_keys(command, "prune", OF_PRUNE)
    command.add_argument(
        "--oneshot",
        action="store_true",
        help="refit the weights that stay on samples, layer by layer",
    )
    command.add_argument(
        "--bits",
        type=int,
        metavar="BITS",
        help="with --oneshot: also round the weights that stay to a grid of 2, 3, 4 or 8 bits",
    )
    command.add_argument(
        "--data", metavar="DATA", help=f"samples, for --oneshot or a score by gradients: {FORMS}"
    )
    _add_loss(command)


def prune_model(arguments: argparse.Namespace) -> int:
    """Write a model with weights that are zero."""
    from tfprune.few_bits.grid import check_bits
    from tfprune.sparsity.choices.scores import SCORES

    _check_keras(arguments.out)
    table = read_keys(arguments, "prune", OF_PRUNE)
    if arguments.oneshot and not arguments.data:
        raise OptionError("--oneshot: it refits on samples; give --data")
    if arguments.oneshot and arguments.score is not None:
        raise OptionError("--score: --oneshot has its own; remove one of them")
    if arguments.bits is not None:
        if not arguments.oneshot:
            raise OptionError("--bits: weights are rounded on samples; give --oneshot and --data")
        check_bits(arguments.bits)
    gradients = not arguments.oneshot and SCORES[table.score].needs == "gradient"
    for key, needed in (("data", gradients or arguments.oneshot), ("loss", gradients)):
        if getattr(arguments, key) is not None and not needed:
            raise OptionError(f"--{key}: nothing reads it here; see --oneshot and --score taylor")
    data = read_data(arguments.data, "--data") if arguments.data else None
    chosen = {key: getattr(table, key) for key in ("pattern", "allocation", "only", "skip")}
    with _loaded(arguments) as (model, progress):
        from tfprune.pipeline.saving import save_model
        from tfprune.sparsity.oneshot.prune import prune_oneshot
        from tfprune.sparsity.pruning import prune, strip_pruning
        from tfprune.sparsity.summary import sparsity_of

        if arguments.oneshot:
            options = {"bits": arguments.bits, **chosen}
            prune_oneshot(model, data, table.final_sparsity, progress=progress, **options)
        else:
            prune(
                model,
                table.final_sparsity,
                score=table.score,
                data=data,
                loss=arguments.loss,
                **chosen,
            )
        pruned = strip_pruning(model)
        save_model(pruned, Path(arguments.out))
        shown = str(sparsity_of(pruned))
    print_result(shown)
    if not arguments.oneshot:
        print_error(AS_THEY_WERE)
    return DONE


@contextmanager
def _loaded(arguments: argparse.Namespace) -> Iterator[tuple[Any, Progress]]:
    """Yield the model that a command was given, and a progress."""
    from tfprune.loading.load import load_as_far_as_plain
    from tfprune.loading.model_files import check_model_file

    check_model_file(Path(arguments.model))
    with native_output(), shown_progress() as progress:
        yield load_as_far_as_plain(arguments.model, allow_code=arguments.allow_code), progress


def _add_loss(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--loss",
        metavar="NAME",
        help="a loss of Keras, for a choice by gradients; default: the one that "
        "the model is compiled with",
    )


def _first(data: Any, model: Any, count: int) -> Any:
    """Return a number of samples without labels; None for none."""
    from tfprune.data.batches import first_samples
    from tfprune.data.model_inputs import inputs_of

    takes = inputs_of(model)
    if data is None or not count or takes is None:
        return None
    arrays, _ = first_samples(data, takes, "--data", count)
    return arrays if len(arrays) > 1 else arrays[0]


def _check_keras(out: str) -> None:
    check_destination(out)
    if Path(out).suffix != ".keras":
        raise OptionError(f"--out {out}: expected a name ending in .keras")


COMMANDS: Sequence[Command] = (
    Command(
        "convert",
        "Convert a model to a .tflite or .onnx file, and verify the file against the model.",
        "tfprune convert model.keras --calibration samples.npz -o model.tflite",
        convert_options,
        convert,
    ),
    Command(
        "shrink",
        "Remove channels, neurons and heads of a model, down to a cost.",
        "tfprune shrink model.keras --target macs=0.5 --data train.npz -o small.keras",
        shrink_options,
        shrink_model,
    ),
    Command(
        "prune",
        "Set weights of a model to zero, without training.",
        "tfprune prune model.keras --sparsity 0.7 --oneshot --data samples.npz -o pruned.keras",
        prune_options,
        prune_model,
    ),
)
