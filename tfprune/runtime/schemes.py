"""The ways a model can be stored in a `.tflite` file."""

from dataclasses import dataclass

from tfprune.utils.registry import Registry


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
        "weights in 8 bits, arithmetic in floats",
        bound=0.2,
        weight_bits=8,
        float_arithmetic=True,
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
