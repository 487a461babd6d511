"""What a report holds: models beside their baseline, and under what conditions they were measured.

Everything here is plain data. It knows nothing of how a figure was found, and a figure that was not
found is None, which every rendering shows as a dash.
"""

from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Ratio:
    """How many times as long as the baseline, from pairs that ran one right after the other.

    Attributes:
        median: The median of the ratios of the pairs; 0.5 is half the time.
        q1: Their lower quartile.
        q3: Their upper quartile.
        pairs: How many pairs there were.
    """

    median: float
    q1: float
    q3: float
    pairs: int


@dataclass(frozen=True)
class Conditions:
    """Where and how latency was measured; a figure means nothing without it.

    Attributes:
        device: The name that was asked for: `host`, `adb:SERIAL`.
        machine: The processor, or the phone.
        system: The operating system.
        runtime: The runtime that ran the files, with its version.
        threads: Threads of the runtime.
        runs: Samples of each file.
        clock: What was read: thread CPU time or wall time.
        noise: The baseline against itself in the same run: ratios inside of it mean nothing.
        fake: True when a stand-in played the device. Such figures are never printed.
    """

    device: str
    machine: str
    system: str
    runtime: str
    threads: int
    runs: int
    clock: str
    noise: Ratio
    fake: bool = False


@dataclass(frozen=True)
class Kernel:
    """One weight tensor of a model and its zeros."""

    name: str
    shape: tuple[int, ...]
    zeros: int

    @property
    def size(self) -> int:
        """Return how many weights it has."""
        size = 1
        for side in self.shape:
            size *= side
        return size

    @property
    def sparsity(self) -> float:
        """Return its fraction of zeros."""
        return self.zeros / self.size if self.size else 0.0


@dataclass(frozen=True)
class Row:
    """Everything that was measured of one file.

    Attributes:
        name: What the report calls it.
        scheme: How its weights are stored: `float32`, `int8`.
        sha256: The hash of the file.
        raw_bytes: As it lies on disk.
        gzip_bytes: As it is downloaded.
        zstd_bytes: As it is downloaded where zstd is used.
        entropy_bytes: Order-0 entropy of its weights.
        score: The metric on the data, of the file itself.
        agreement: The share of samples with the same top class as the baseline file.
        max_abs_error: The largest difference of its outputs from those of the baseline file.
        mean_abs_error: The mean of these differences.
        weights: Weights that the file stores, after what the converter folded.
        weight_zeros: How many of them are zero.
        params: Parameters of the Keras model, where one was given.
        zeros: How many of them are zero.
        macs: Multiply-accumulates of one call of the Keras model.
        median_ms: Median latency.
        p90_ms: The time that nine of ten runs kept to.
        q1_ms: The lower quartile.
        q3_ms: The upper quartile.
        min_ms: The fastest run.
        latency_ratio: Its time over that of the baseline.
        peak_bytes: What loading it and running it once adds to a fresh process at its peak.
        kernels: Zeros by weight tensor, where a Keras model was given.
    """

    name: str
    raw_bytes: int
    gzip_bytes: int
    scheme: str = ""
    sha256: str = ""
    zstd_bytes: int | None = None
    entropy_bytes: int | None = None
    score: float | None = None
    agreement: float | None = None
    max_abs_error: float | None = None
    mean_abs_error: float | None = None
    weights: int | None = None
    weight_zeros: int | None = None
    params: int | None = None
    zeros: int | None = None
    macs: int | None = None
    median_ms: float | None = None
    p90_ms: float | None = None
    q1_ms: float | None = None
    q3_ms: float | None = None
    min_ms: float | None = None
    latency_ratio: Ratio | None = None
    peak_bytes: int | None = None
    kernels: tuple[Kernel, ...] = ()

    @property
    def sparsity(self) -> float | None:
        """Return the fraction of zeros among the weights that the file stores."""
        if self.weight_zeros is None or not self.weights:
            return None
        return self.weight_zeros / self.weights


@dataclass(frozen=True)
class Section:
    """A table or a paragraph that somebody adds to a report."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage of a run and how long it took."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Curve:
    """One figure of the training, epoch by epoch, in one stage of the run."""

    name: str
    values: tuple[float, ...]
    stage: str = ""


# 0.97 - 0.96 is a little more than 0.01 in binary; such a result keeps a limit of 0.01.
ROUNDING = 1e-9


UNCHANGED = "unchanged"
"""The verdict on a file whose hash is on record: 1 where it is still that one."""


@dataclass(frozen=True)
class GateResult:
    """The verdict of one limit on one file.

    Attributes:
        name: The limit: `max_accuracy_drop`.
        row: The file it was held against.
        limit: What was allowed.
        value: What was found; None when the figure was not measured, which is a miss.
        passed: Whether it was kept.
    """

    name: str
    row: str
    limit: float
    value: float | None
    passed: bool

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "MISSED"
        if self.name == UNCHANGED:
            found = "it is" if self.passed else "it is not"
            return f"{verdict}: {self.name} of {self.row}: {found} the file of its report"
        return f"{verdict}: {self.name} of {self.row}: {self.found}, limit {self.allowed}"

    @property
    def found(self) -> str:
        """Return what was found, as one reads it."""
        return "not measured" if self.value is None else self._shown(self.value, ".4g")

    @property
    def allowed(self) -> str:
        """Return the limit, as one reads it."""
        return self._shown(self.limit, "g")

    def _shown(self, figure: float, form: str) -> str:
        return format(figure, ",.0f" if self.name.endswith("bytes") else form)
