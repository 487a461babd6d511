"""The data of a report: models and their baseline, and the conditions of the measurement.

Everything here is plain data. A figure that was not measured is None, which every rendering shows
as a dash.
"""

from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Ratio:
    """Time relative to the baseline, from adjacent pairs of runs.

    Attributes:
        median: The median of the ratios of the pairs; 0.5 is half the time.
        q1: Their lower quartile.
        q3: Their upper quartile.
        pairs: Number of pairs.
    """

    median: float
    q1: float
    q3: float
    pairs: int


@dataclass(frozen=True)
class Conditions:
    """Where and how latency was measured.

    Attributes:
        device: The requested name: `host`, `adb:SERIAL`.
        machine: The processor, or the phone.
        system: The operating system.
        runtime: The runtime of the files, with its version.
        threads: Threads of the runtime.
        runs: Samples of each file.
        clock: Thread CPU time or wall time.
        noise: The baseline against itself in the same run: the noise floor of ratios.
        fake: True for a fake device, whose figures are never printed.
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
class Measure:
    """A metric of the task.

    Attributes:
        name: Its name: `accuracy`, `MAE`.
        higher_is_better: Its direction.
        unit: The unit of its numbers: "kg".
        share: Whether it is in [0, 1], so that 0.01 is one point.
    """

    name: str
    higher_is_better: bool = True
    unit: str = ""
    share: bool = True

    def loss(self, baseline: float, score: float) -> float:
        """Return by how much a score is worse than that of the baseline."""
        return baseline - score if self.higher_is_better else score - baseline

    def text(self, score: float, baseline: float | None = None) -> str:
        """Return a score as text, with its difference from that of the baseline.

        Example:
            >>> Measure("MAE", higher_is_better=False, share=False).text(0.214, 0.211)
            '0.214 (+0.003)'
            >>> Measure("accuracy").text(0.97, 0.98)
            '0.9700 (-0.0100)'
        """
        form = ".4f" if self.share else ".4g"
        text = f"{score:{form}} {self.unit}".rstrip()
        if baseline is None:
            return text
        # The difference has as many digits after the point as the score.
        digits = len(f"{score:{form}}".partition(".")[2]) if "e" not in text else None
        change = score - baseline
        return f"{text} ({change:+.{digits}f})" if digits else f"{text} ({change:+.2g})"


@dataclass(frozen=True)
class Row:
    """All measurements of one file.

    Attributes:
        name: Its name in the report.
        scheme: How its weights are stored: `float32`, `int8`.
        sha256: The hash of the file.
        raw_bytes: Size on disk.
        gzip_bytes: Size under gzip, the download size.
        zstd_bytes: Size under zstd.
        entropy_bytes: Order-0 entropy of its weights.
        score: The metric on the data, for the file itself.
        scores: All metrics of the task, in the order of `Report.measures`.
        agreement: The share of samples with the same answer as the baseline file.
        max_abs_error: The largest difference of its outputs from those of the baseline file.
        mean_abs_error: The mean of these differences.
        weights: Number of weights in the file, after folding by the converter.
        weight_zeros: How many of them are zero.
        params: Parameters of the Keras model, if one was given.
        zeros: How many of them are zero.
        macs: Multiply-accumulates of one call of the Keras model.
        median_ms: Median latency.
        p90_ms: The 90th percentile of latency.
        q1_ms: The lower quartile.
        q3_ms: The upper quartile.
        min_ms: The fastest run.
        latency_ratio: Its time relative to the baseline.
        peak_bytes: Peak memory of loading it and running it once in a fresh process.
        kernels: Zeros by weight tensor, if a Keras model was given.
    """

    name: str
    raw_bytes: int
    gzip_bytes: int
    scheme: str = ""
    sha256: str = ""
    zstd_bytes: int | None = None
    entropy_bytes: int | None = None
    score: float | None = None
    scores: tuple[float, ...] = ()
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
    """An additional table or paragraph of a report."""

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
    """One training curve, epoch by epoch, of one stage of the run."""

    name: str
    values: tuple[float, ...]
    stage: str = ""


# 0.97 - 0.96 is slightly more than 0.01 in binary; such a result must pass a limit of 0.01.
ROUNDING = 1e-9

UNCHANGED = "unchanged"
"""The name of the verdict on a recorded hash: 1 if the file is unchanged."""


@dataclass(frozen=True)
class GateResult:
    """The verdict of one limit on one file.

    Attributes:
        name: The limit: `max_accuracy_drop`.
        row: The name of the file.
        limit: The allowed value.
        value: The measured value; None if it was not measured, which misses the gate.
        passed: Whether the limit is met.
    """

    name: str
    row: str
    limit: float
    value: float | None
    passed: bool

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "MISSED"
        if self.name == UNCHANGED:
            found = "matches" if self.passed else "does not match"
            return f"{verdict}: {self.name} of {self.row}: its hash {found} its report"
        return f"{verdict}: {self.name} of {self.row}: {self.found}, limit {self.allowed}"

    @property
    def found(self) -> str:
        """Return the measured value as text."""
        return "not measured" if self.value is None else self._shown(self.value, ".4g")

    @property
    def allowed(self) -> str:
        """Return the limit as text."""
        return self._shown(self.limit, "g")

    def _shown(self, figure: float, form: str) -> str:
        return format(figure, ",.0f" if self.name.endswith("bytes") else form)
