"""The tables of a recipe. Each field describes its allowed values, for parsing and help.

A table checks combinations of its own keys (`faults`); a missing key is None if its value follows
from others or from the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tfprune.clustering.centroids import INITS
from tfprune.measure.devices.registry import devices
from tfprune.recipe.fitting import RATE, Fitting
from tfprune.recipe.kinds import (
    FRACTION,
    NAMES,
    NOT_NEGATIVE,
    OPTIONS,
    POSITIVE,
    RATIO,
    SHARE,
    SIZES,
    TEXT,
    YES_OR_NO,
    Faults,
    Table,
    choice,
    option,
    registered,
    resolved,
    whole,
)
from tfprune.recipe.sources import APPLICATIONS, DATA_SOURCE, MODEL_SOURCE, is_file, is_function
from tfprune.runtime.schemes import AUTO, LEARNED, PREFER, ROUNDINGS, SCHEMES, check_scheme
from tfprune.sparsity.choices.allocation import ALLOCATIONS, resolve_allocation
from tfprune.sparsity.choices.patterns import resolve_pattern
from tfprune.sparsity.choices.scores import SCORES, resolve_score
from tfprune.structure.select.target import check_target


@dataclass(frozen=True)
class ModelTable(Table):
    """The model to compress."""

    source: str = option(MODEL_SOURCE, "source of the model")
    weights: str | None = option(TEXT, "a weights file, for keras.applications.NAME", None)
    options: Mapping[str, Any] | None = option(
        OPTIONS,
        "arguments for a built-in model (attention: width, heads, blocks; autoencoder: width, "
        "code; convnet: width; lstm: words, width; mlp: width; unet: width), application or "
        "function",
        None,
    )

    def unread(self) -> dict[str, str]:
        """Return `weights` except for applications, and `options` for files."""
        keys = {}
        if not self.source.startswith(APPLICATIONS):
            keys["weights"] = "is only for keras.applications.NAME"
        if is_file(self.source):
            keys["options"] = "is only for models that are built, not for files"
        return keys


@dataclass(frozen=True)
class DataTable(Table):
    """The data to train and evaluate on."""

    source: str = option(DATA_SOURCE, "source of the data")
    validation: float = option(
        FRACTION,
        "fraction of the training set for validation, if the source has no validation set",
        0.1,
    )
    limit: int | None = option(
        whole(1), "use only this many examples of each set, the first ones", None
    )
    scale: float = option(
        POSITIVE,
        "factor for the inputs of a file or function; 0.00392156862745098 scales bytes to [0, 1]",
        1.0,
    )
    seed: int = option(whole(0), "seed of the split", 0)

    def unread(self) -> dict[str, str]:
        """Return `scale` for built-in data, which is scaled to [0, 1]."""
        if is_file(self.source) or is_function(self.source):
            return {}
        return {"scale": f"is only for a file or a function; {self.source} is in [0, 1] already"}


RATE_HELP = "a number, from which it falls to 0 along a cosine, or a schedule"


@dataclass(frozen=True)
class TrainTable(Fitting):
    """Training of the dense model. Without this table it is not trained."""

    epochs: int = option(whole(1), "passes over the training set", 10)
    batch_size: int = option(whole(1), "examples per step; pruning uses it too", 64)
    learning_rate: float | Mapping[str, Any] = option(RATE, RATE_HELP, 1e-3)
    precision: str | None = option(
        choice("float32", "mixed_bfloat16", "mixed_float16"),
        "precision of the arithmetic of all training; weights stay float32; default: the model's",
        None,
    )
    strategy: str | None = option(
        choice("mirrored", "multi_worker"),
        "all training on every device of this machine, or on the workers that TF_CONFIG lists; "
        "default: on one device",
        None,
    )
    seed: int = option(whole(0), "seed of weights, shuffling and dropout", 0)


IMPORTANCES = (
    "activation", "bn_scale", "fpgm", "hessian", "l1", "l2", "lamp", "random", "taylor",
)  # fmt: skip
RANKINGS = ("fast", "global", "isomorphic", "uniform")


@dataclass(frozen=True)
class ShrinkTable(Fitting):
    """Removal of channels, neurons, heads and blocks: before pruning, or of those it closed."""

    target: str | Mapping[str, float] = option(
        resolved(
            check_target,
            "a table of one cost (channels, macs, params or tflite_bytes) and how much of it to "
            "keep, a share or an amount, such as { macs = 0.5 }; or the share of blocks to remove, "
            "{ blocks = 0.25 }; tflite_bytes are those of the float32 file, whatever [quantize] "
            'is; or "zeros", the units that [prune] has closed',
            str | Mapping,
        ),
        "how much smaller the model gets",
    )
    importance: str = option(choice(*IMPORTANCES), "how much a unit matters", "l2")
    ranking: str = option(choice(*RANKINGS), "how the total is shared among the groups", "global")
    round_to: int = option(whole(1), "channel counts stay multiples of this", 8)
    heads: bool = option(YES_OR_NO, "whether attention heads may be removed", True)
    only: tuple[str, ...] = option(NAMES, "shrink these layers only", ())
    skip: tuple[str, ...] = option(NAMES, "do not change these layers", ())
    repair: int = option(
        whole(0),
        "training examples for refitting the kept weights by least squares and recalibrating "
        "BatchNormalization, before fine-tuning; 0: none",
        512,
    )
    epochs: int = option(whole(0), "epochs of fine-tuning afterwards", 10)
    learning_rate: float | Mapping[str, Any] = option(RATE, RATE_HELP, 1e-3)

    def unread(self) -> dict[str, str]:
        """Return keys of fine-tuning without epochs, and of choosing units that are closed."""
        keys = super().unread()
        if not self.epochs:
            training = ("learning_rate", *(field.name for field in fields(Fitting)))
            keys = dict.fromkeys(training, "is only for epochs above 0")
        if self.after_pruning:
            chosen = ("importance", "ranking", "round_to", "heads", "only", "skip", "repair")
            keys |= dict.fromkeys(
                chosen, 'is only for a cost; "zeros" removes what [prune] has closed'
            )
        elif "blocks" in self.target:
            channels = ("ranking", "round_to", "heads", "repair")
            keys |= dict.fromkeys(channels, "is only for channels, not blocks")
        return keys

    @property
    def after_pruning(self) -> bool:
        """Return whether this removes units closed by pruning, and so follows it."""
        return self.target == "zeros"

    @property
    def examples(self) -> int:
        """Return the number of training examples for repair."""
        return 0 if "repair" in self.unread() else self.repair


STEPS = ("begin_step", "end_step")
EPOCHS = ("begin_epoch", "end_epoch")
RAMP = ("initial_sparsity", "power")


@dataclass(frozen=True)
class PruneTable(Fitting):
    """Pruning of weights during fine-tuning."""

    sparsity: float = option(FRACTION, "fraction of zeros at the end", 0.8)
    score: str = option(
        resolved(resolve_score, "the name of a score", names=(SCORES,)),
        "how much a weight matters",
        "magnitude",
    )
    pattern: str = option(
        resolved(
            resolve_pattern, "the name of a pattern: unstructured, block(4,1), 2:4, channel or head"
        ),
        "weights that are pruned together",
        "unstructured",
    )
    allocation: str | Mapping[str, float] = option(
        resolved(
            resolve_allocation,
            "the name of an allocation, or a table of layer = sparsity",
            str | Mapping,
            (ALLOCATIONS,),
        ),
        "how the total is shared among the layers",
        "uniform",
    )
    only: tuple[str, ...] = option(NAMES, "prune these layers only", ())
    skip: tuple[str, ...] = option(NAMES, "do not change these layers", ())
    schedule: str = option(
        choice("polynomial", "constant"), "how sparsity grows with the steps", "polynomial"
    )
    initial_sparsity: float = option(FRACTION, "fraction of zeros at begin_step", 0.0)
    power: float = option(POSITIVE, "exponent of the polynomial schedule", 3.0)
    begin_step: int | None = option(whole(0), "first step of the schedule (or begin_epoch)", None)
    end_step: int | None = option(whole(0), "last step of the schedule (or end_epoch)", None)
    begin_epoch: float | None = option(NOT_NEGATIVE, "start, in epochs; default 0", None)
    end_epoch: float | None = option(POSITIVE, "end, in epochs; default 2/3 of epochs", None)
    frequency: int | None = option(
        whole(1), "steps between two prunings; default: about 50 prunings in all", None
    )
    epochs: int = option(whole(1), "passes over the training set", 10)
    learning_rate: float | Mapping[str, Any] = option(RATE, RATE_HELP, 1e-3)

    def unread(self) -> dict[str, str]:
        """Return the ramp of a constant schedule, and epochs where steps are given."""
        keys = super().unread()
        if self.constant:
            keys |= dict.fromkeys(RAMP, 'is only for schedule = "polynomial"')
        for step, epoch in zip(STEPS, EPOCHS, strict=True):
            if getattr(self, step) is not None:
                keys[epoch] = f"means the same as {step}: give one of them"
        fixed = resolve_pattern(self.pattern).fixed
        if fixed is not None:
            keys |= dict.fromkeys(
                ("sparsity", "allocation", *RAMP), f"is set by the pattern: {fixed:g} everywhere"
            )
        return keys

    @property
    def final_sparsity(self) -> float:
        """Return the fraction of zeros at the end: the pattern's, if it is fixed."""
        fixed = resolve_pattern(self.pattern).fixed
        return self.sparsity if fixed is None else fixed

    @property
    def constant(self) -> bool:
        """Return whether sparsity has its final value from the start."""
        return self.schedule == "constant"

    def faults(self) -> Faults:
        """Yield errors of a schedule that ends before it begins, or after the training."""
        for low, high in (STEPS, EPOCHS):
            begin, end = getattr(self, low), getattr(self, high)
            if begin is not None and end is not None and begin >= end:
                message = f"expected less than {high} = {end}. Received {begin}. Swap them?"
                yield (low, high), message
        for key in EPOCHS:
            value = getattr(self, key)
            if value is not None and value > self.epochs:
                message = f"expected at most epochs = {self.epochs}. Received {value:g}."
                yield (key, "epochs"), message
        if not self.constant and self.initial_sparsity > self.sparsity:
            message = f"expected at most sparsity = {self.sparsity:g}. Received "
            yield (
                ("initial_sparsity", "sparsity"),
                f"{message}{self.initial_sparsity:g}. Swap them?",
            )


@dataclass(frozen=True)
class ClusterTable(Fitting):
    """Clustering during fine-tuning, the last: the weights of a kernel share a few values."""

    clusters: int = option(whole(2), "the most values that a kernel may have", 16)
    init: str = option(choice(*sorted(INITS)), "where the values begin", "kmeans++")
    per_channel: bool = option(
        YES_OR_NO, "whether each output channel of a convolution has values of its own", False
    )
    keep_zeros: bool = option(YES_OR_NO, "whether zeros, as of [prune], stay zero", True)
    only: tuple[str, ...] = option(NAMES, "cluster these layers only", ())
    skip: tuple[str, ...] = option(NAMES, "do not change these layers", ())
    epochs: int = option(whole(1), "passes over the training set", 3)
    learning_rate: float | Mapping[str, Any] = option(RATE, RATE_HELP, 3e-4)


@dataclass(frozen=True)
class QuantizeTable(Table):
    """The scheme of the .tflite file. Without this table: float32."""

    scheme: str = option(
        resolved(check_scheme, "the name of a scheme", names=(SCHEMES, (AUTO,))),
        "scheme of the file; auto: chosen by measuring",
        "int8",
    )
    io: str | None = option(
        choice("float32", "int8", "int16"),
        "type of the file's inputs and outputs; default: that of its arithmetic",
        None,
    )
    layers: Mapping[str, str] | None = option(
        OPTIONS, "other schemes for layers, by regular expression", None
    )
    calibration: int = option(
        whole(1), "training examples for the integer ranges and the rounding of weights", 200
    )
    rounding: str | None = option(
        choice(*ROUNDINGS),
        "how weights are rounded; default: learned for weights of 4 bits, else nearest",
        None,
    )
    input_shape: tuple[int, ...] | None = option(
        SIZES, "shape of the file's input, where the model leaves sizes open", None
    )
    prefer: str = option(choice(*PREFER), "what auto optimizes", "latency")
    max_drop: float | None = option(
        NOT_NEGATIVE,
        "what auto may lose of the task's metric against the float32 file, on the validation set; "
        "default 0.01, or a hundredth of a metric with a unit",
        None,
        former=(0.01,),
    )

    def unread(self) -> dict[str, str]:
        """Return calibration of floats, and `layers` of schemes that cannot differ by layer."""
        if self.scheme == AUTO:
            return {"layers": f"is only for a fixed scheme, not {AUTO}"}
        scheme, keys = SCHEMES[self.scheme], {}
        for key in ("prefer", "max_drop"):
            keys[key] = f"is only for {AUTO}, not {self.scheme}"
        if not scheme.needs_calibration and self.scheme not in LEARNED:
            keys["calibration"] = f"is only for int8, int16x8 and 4 bits, not {self.scheme}"
        if not scheme.rounds_weights:
            keys["rounding"] = f"is only for weights of 8 or 4 bits, not {self.scheme}"
        if scheme.weight_bits is None:
            keys["layers"] = f"is only for int4, weight_int4 and weight_int8, not {self.scheme}"
        return keys

    def faults(self) -> Faults:
        """Yield errors of inputs and outputs that the scheme does not support."""
        allowed = SCHEMES["int8" if self.scheme == AUTO else self.scheme].io
        if self.io is not None and self.io not in allowed:
            yield (
                ("io", "scheme"),
                f"expected {' or '.join(allowed)} with scheme = {self.scheme}. Received {self.io}.",
            )


@dataclass(frozen=True)
class MeasureTable(Table):
    """Measurement of the baseline and the result in one run."""

    device: str = option(
        registered(devices, "the name of a device, or name:address"),
        "device that measures latency",
        "host",
    )
    threads: int = option(whole(1), "threads of the runtime", 1)
    runs: int = option(whole(2), "timed runs per file", 50)


@dataclass(frozen=True)
class GateTable(Table):
    """Limits for the result; the run fails if it misses one."""

    min_accuracy: float | None = option(SHARE, "minimum accuracy of the file", None)
    max_accuracy_drop: float | None = option(
        SHARE, "maximum loss of accuracy against the baseline file", None
    )
    max_drop: float | None = option(
        NOT_NEGATIVE,
        "maximum loss of the task's metric against the baseline file, in its own unit",
        None,
    )
    min_score: float | None = option(
        NOT_NEGATIVE, "minimum of a metric where higher is better", None
    )
    max_score: float | None = option(
        NOT_NEGATIVE, "maximum of a metric where lower is better", None
    )
    max_bytes: int | None = option(whole(1), "maximum size of the file", None)
    max_gzip_bytes: int | None = option(whole(1), "maximum size of the file under gzip", None)
    min_compression: float | None = option(
        RATIO, "minimum times smaller than the baseline file, both under gzip", None
    )
    max_latency_ms: float | None = option(POSITIVE, "maximum median latency", None)
    max_latency_ratio: float | None = option(
        POSITIVE, "maximum median latency relative to the baseline file", None
    )
