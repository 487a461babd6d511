"""The schemes of a `.tflite` file, and the choice of one by measuring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tfprune.errors import OptionError, nearest
from tfprune.utils.registry import Registry
from tfprune.utils.text_table import aligned


@dataclass(frozen=True)
class Scheme:
    """How weights and activations are stored.

    Attributes:
        summary: One line for a table.
        bound: Allowed difference from the Keras model: the root mean squared difference of an
            output as a fraction of its scale (`model_comparison.scale_of`).
        io: Types that float inputs and outputs may have in the file; the first is the default.
        quantize: Weights are stored in 8 bits.
        activations: "float", "int8" or "int16". Integers need calibration.
        float16: Weights are stored in 16 bits.
        sparse: Zeros are not stored in the file.
        weight_bits: Bits of a weight, if litert-quantizer converts a float file; such schemes can
            be used per layer.
        float_arithmetic: Such weights are converted to floats before they are used.
    """

    summary: str
    bound: float
    io: tuple[str, ...] = ("float32",)
    quantize: bool = False
    activations: str = "float"
    float16: bool = False
    sparse: bool = False
    weight_bits: int | None = None
    float_arithmetic: bool = False

    @property
    def needs_calibration(self) -> bool:
        """Return whether the ranges of the activations must be found on data."""
        return self.activations != "float"

    @property
    def rounds_weights(self) -> bool:
        """Return whether weights are stored in few bits."""
        return self.quantize or self.weight_bits is not None


SCHEMES: Registry[Scheme] = Registry("scheme")

SCHEMES.register("float32")(Scheme("weights and arithmetic in 32-bit floats", bound=1e-3))
SCHEMES.register("float16")(
    Scheme("weights in 16-bit floats: half the size, same speed on a CPU", bound=2e-2, float16=True)
)
SCHEMES.register("sparse")(
    Scheme(
        "32-bit floats without the zeros: faster only if `sparse_ready` is true",
        bound=1e-3,
        sparse=True,
    )
)
SCHEMES.register("sparse_float16")(
    Scheme(
        "16-bit floats without the zeros: faster only if `sparse_ready` is true",
        bound=2e-2,
        float16=True,
        sparse=True,
    )
)
SCHEMES.register("dynamic")(
    Scheme(
        "weights in 8 bits, activations quantized at run time: good for Dense and attention",
        bound=0.2,
        quantize=True,
    )
)
SCHEMES.register("int4")(
    Scheme(
        "weights in 4 bits, activations quantized at run time: the smallest",
        bound=0.6,
        weight_bits=4,
    )
)
SCHEMES.register("weight_int8")(
    Scheme(
        "weights in 8 bits, arithmetic in floats", bound=0.2, weight_bits=8, float_arithmetic=True
    )
)
SCHEMES.register("weight_int4")(
    Scheme(
        "weights in 4 bits, arithmetic in floats: small, slow and nearer to the model than int4",
        bound=0.6,
        weight_bits=4,
        float_arithmetic=True,
    )
)
SCHEMES.register("int16x8")(
    Scheme(
        "weights in 8 bits, activations in 16: precise, and very slow on a CPU",
        bound=0.1,
        io=("int16", "float32"),
        quantize=True,
        activations="int16",
    )
)
SCHEMES.register("int8")(
    Scheme(
        "weights and activations in 8 bits: the fastest for convolutions",
        bound=0.3,
        io=("int8", "float32"),
        quantize=True,
        activations="int8",
    )
)

Rounding = Literal["nearest", "corrected", "learned"]
ROUNDINGS = get_args(Rounding)
"""How weights are rounded."""

LEARNED = ("int4", "weight_int4")
"""The schemes whose weights are learned where there are samples."""

AUTO = "auto"
"""The scheme that builds candidates, measures them and chooses one."""

Prefer = Literal["latency", "size"]
PREFER = get_args(Prefer)
TIE = 0.03
"""Ratios of latency closer than this are equal: two runs of one file differ by as much."""


@dataclass(frozen=True)
class Candidate:
    """One scheme that was tried.

    Attributes:
        scheme: Its name.
        raw_bytes: The size of its file; None if the conversion failed.
        gzip_bytes: Its size under gzip -9.
        median_ms: Its median latency.
        ratio: Its time relative to the float32 file, from interleaved pairs.
        q1: The lower quartile of the ratio.
        q3: The upper quartile of the ratio.
        score: The task's metric on the labeled data; None without labels.
        drop: Its loss against the float32 file, of the metric or (without labels) of agreement, or,
            for outputs without classes, the error as a fraction of the output's scale.
        passed: Whether `drop` is within the gate.
        reason: Why it was not chosen.
    """

    scheme: str
    raw_bytes: int | None = None
    gzip_bytes: int | None = None
    median_ms: float | None = None
    ratio: float | None = None
    q1: float | None = None
    q3: float | None = None
    score: float | None = None
    drop: float | None = None
    passed: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """The candidates, and the rule by which one was chosen.

    Attributes:
        taken: The chosen scheme.
        why: One sentence.
        prefer: "latency" or "size".
        max_drop: The gate.
        judged_by: The quantity of `drop`: the metric, "agreement" or "error".
        measured_on: The machine, the runtime and the clock.
        rows: One for each scheme, in the order of the trials.
        higher_is_better: The direction of the metric.
    """

    taken: str
    why: str
    prefer: str
    max_drop: float
    judged_by: str
    measured_on: str
    rows: tuple[Candidate, ...]
    higher_is_better: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the headers of the columns of `cells`."""
        return ("scheme", "file", "gzip", "median", "ratio [quartiles]", self.judged_by, "verdict")

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """Return the table, a row for each candidate."""
        sign = -1.0 if self.higher_is_better else 1.0
        return tuple(_words(row, row.scheme == self.taken, sign) for row in self.rows)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return the table and the reason as text."""
        lines = aligned([self.columns, *self.cells])
        return "\n".join([*lines, self.why, self.measured_on])


def _words(row: Candidate, taken: bool, sign: float) -> tuple[str, ...]:
    def show(value: float | None, form: str, scale: float = 1.0, unit: str = "") -> str:
        return "–" if value is None else format(value * scale + 0.0, form) + unit  # + 0.0: no -0

    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}x [{row.q1:.2f}, {row.q3:.2f}]"
    return (
        row.scheme,
        show(row.raw_bytes, ".1f", 1e-3, " KB"),
        show(row.gzip_bytes, ".1f", 1e-3, " KB"),
        show(row.median_ms, ".4g", 1.0, " ms"),
        ratio,
        show(row.drop, "+.4f", sign),
        "chosen" if taken else row.reason,
    )


def pick(rows: Sequence[Candidate], prefer: str) -> Candidate:
    """Return the best candidate: the fastest, or the smallest, of those within the gate.

    Of latencies closer than `TIE` to the fastest, the smallest file is chosen.

    Raises:
        OptionError: `prefer` is neither of the two.
        ValueError: No candidate is within the gate.

    Example:
        >>> rows = [Candidate("float32", 400, 400, 1.0, 1.0, passed=True),
        ...         Candidate("int8", 100, 90, 0.3, 0.3, passed=True),
        ...         Candidate("int4", 50, 50, 0.29, 0.29, passed=False)]
        >>> pick(rows, "latency").scheme, pick(rows, "size").scheme
        ('int8', 'int8')
    """
    check_prefer(prefer)
    able = [row for row in rows if row.passed and row.ratio is not None]
    if not able:
        raise ValueError("no candidate passes the gate")
    if prefer == "size":
        return min(able, key=lambda row: (row.gzip_bytes or 0, row.ratio))
    fastest = min(row.ratio or 0.0 for row in able)
    ties = [row for row in able if (row.ratio or 0.0) <= fastest * (1 + TIE)]
    return min(ties, key=lambda row: (row.gzip_bytes or 0, row.ratio))


def check_prefer(prefer: str) -> None:
    """Raise unless a preference is known.

    Raises:
        OptionError: It is unknown.
    """
    if prefer not in PREFER:
        raise OptionError(f"prefer: unknown value {prefer!r}. {nearest(str(prefer), PREFER)}")


def check_scheme(name: str) -> None:
    """Raise unless a name is a scheme or "auto".

    Raises:
        OptionError: It is unknown.
    """
    known = [*SCHEMES, AUTO]
    if not isinstance(name, str) or name not in known:
        raise OptionError(f"unknown scheme {name!r}. {nearest(str(name), known)}")
