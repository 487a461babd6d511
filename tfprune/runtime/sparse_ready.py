"""Whether a sparse file is faster, on which machines, and if not, which operation prevents it.

The runtime's kernels for sparse weights are XNNPACK's 1×1 convolutions on channels-first data.
XNNPACK uses them for a whole cluster of operations or not at all: from a 3×3 convolution with
stride 2 on three channels to a global average pooling, everything between must be an operation
it can run channels-first, and more than two thirds of the 1×1 weights must be zero. It does so on
ARM (NEON) and WebAssembly (SIMD), not on x86 with AVX.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfprune.runtime import flatbuffer, litert
from tfprune.runtime.flatbuffer import Contents, Op, Subgraph
from tfprune.runtime.inspect import count_zeros

_ELEMENTWISE = frozenset(
    {
        "ABS", "ADD", "ELU", "FLOOR", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MUL", "NEG", "RELU",
        "RELU6", "RELU_N1_TO_1", "ROUND", "SQUARE",
    }
)  # fmt: skip
_SHARE = 2 / 3
_WHERE = "on ARM (NEON) and WebAssembly (SIMD); x86 with AVX runs it like a dense file, 1.0×"


@dataclass(frozen=True)
class Readiness:
    """Whether XNNPACK runs a file with sparse kernels.

    Attributes:
        ready: Whether its sparse kernels run, on machines that have them.
        sparsity: The fraction of zeros in the 1×1 convolutions of the cluster.
        pointwise: The number of 1×1 convolutions in the cluster.
        reasons: Why not, one for each obstacle, naming the operation.
    """

    ready: bool
    sparsity: float
    pointwise: int
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Return the result as one sentence."""
        if self.ready:
            return (
                f"the sparse kernels run for {self.pointwise} 1×1 convolutions with "
                f"{self.sparsity:.0%} zeros, {_WHERE}"
            )
        return f"not faster than a dense file anywhere: {'; '.join(self.reasons)}"


def sparse_ready(source: litert.Source) -> Readiness:
    """Check whether the sparse kernels can run for a file.

    Args:
        source: An artifact, the bytes of a file, or its path.

    Raises:
        ArtifactError: It is missing, truncated, or no `.tflite` file.

    Example:
        print(sparse_ready("model.tflite").verdict)
    """
    return readiness(flatbuffer.parse(*litert.read_source(source)))


def readiness(contents: Contents) -> Readiness:
    """Do the work of `sparse_ready` on a parsed file."""
    view = _View(contents)
    reasons: list[str] = []
    if not any(tensor.sparse for tensor in view.graph.tensors):
        reasons.append("no weight is stored sparse: convert with scheme 'sparse'")
    stems = [op for op in view.graph.ops if view.is_stem(op)]
    if not stems:
        reasons.append(
            "no 3×3 convolution with stride 2 on three channels whose input is padded by 1 on all "
            "sides (ZeroPadding2D(1) before padding='valid')"
        )
    members, blocks = _cluster(view, stems)
    reasons += blocks
    pointwise = [op for op in members if view.is_pointwise(op)]
    zeros = elements = 0
    for op in pointwise:
        count, total = view.zeros(op)
        zeros, elements = zeros + count, elements + total
    sparsity = zeros / elements if elements else 0.0
    if stems and not pointwise:
        reasons.append("no 1×1 convolution after the first one")
    elif pointwise and sparsity <= _SHARE:
        reasons.append(
            f"{sparsity:.0%} of the weights of the 1×1 convolutions are zero, more than 67% is "
            "needed"
        )
    return Readiness(not reasons, sparsity, len(pointwise), tuple(reasons))


class _View:
    """The first graph of a file, with constants resolved through operations that unpack them."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.graph: Subgraph = contents.subgraphs[0]
        self.maker = {index: op for op in self.graph.ops for index in op.outputs}
        self.readers: dict[int, list[Op]] = {}
        for op in self.graph.ops:
            for index in op.inputs:
                self.readers.setdefault(index, []).append(op)

    def constant(self, index: int) -> int | None:
        """Return the stored tensor from which a tensor is unpacked; None when it is computed."""
        while index in self.maker and self.maker[index].name in ("DENSIFY", "DEQUANTIZE"):
            index = self.maker[index].inputs[0]
        return index if self.contents.raw(self.graph.tensors[index]) else None

    def activations(self, op: Op) -> list[int]:
        return [i for i in op.inputs if i != -1 and self.constant(i) is None]

    def kernel(self, op: Op) -> tuple[int, ...]:
        return self.graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 else ()

    def padding(self, op: Op) -> tuple[int, ...] | None:
        """Return the rows and columns that a padding before an operation adds, if there is one."""
        pad = self.maker.get(op.inputs[0])
        if pad is None or pad.name != "PAD" or len(self.readers[pad.outputs[0]]) > 1:
            return None
        stored = self.constant(pad.inputs[1])
        if stored is None or self.graph.tensors[stored].dtype != "int32":
            return None
        amounts = np.frombuffer(self.contents.raw(self.graph.tensors[stored]), "<i4")
        return tuple(int(n) for n in amounts[2:6])

    def is_pointwise(self, op: Op) -> bool:
        return (
            op.name == "CONV_2D"
            and self.kernel(op)[1:3] == (1, 1)
            and self._strides(op) == (1, 1)
            and self.constant(op.inputs[1]) is not None
        )

    def is_stem(self, op: Op) -> bool:
        return (
            op.name == "CONV_2D"
            and self.kernel(op)[1:] == (3, 3, 3)
            and self._strides(op) == (2, 2)
            and bool(op.options["valid"])
            and self.padding(op) == (1, 1, 1, 1)
        )

    def is_end(self, op: Op) -> bool:
        return op.name == "MEAN" and bool(op.options["keep_dims"])

    def obstacle(self, op: Op) -> str | None:
        """Return why an operation cannot be inside the cluster; None when it can."""
        if op.name in _ELEMENTWISE or self.is_pointwise(op):
            return None
        if op.name == "PAD":
            after = self.readers.get(op.outputs[0], [])
            fused = len(after) == 1 and after[0].name == "DEPTHWISE_CONV_2D"
            return None if fused else "its padding cannot be fused into a convolution"
        if op.name == "CONV_2D":
            return (
                f"a {'×'.join(map(str, self.kernel(op)[1:3]))} convolution, only 1×1 is supported"
            )
        if op.name == "DEPTHWISE_CONV_2D":
            return self._depthwise(op)
        if op.name == "MEAN":
            return "a mean without keepdims: use GlobalAveragePooling2D(keepdims=True)"
        return "no kernel for channels-first data"

    def _depthwise(self, op: Op) -> str | None:
        size = self.kernel(op)[1:3]
        if size not in ((3, 3), (5, 5)):
            return f"a {size[0]}×{size[1]} depthwise convolution, only 3×3 and 5×5 are supported"
        if op.options["multiplier"] != 1:
            return "a depthwise convolution with a multiplier"
        if (op.options["dilation_h"], op.options["dilation_w"]) != (1, 1):
            return "a dilated depthwise convolution"
        half = size[0] // 2
        padded = self.padding(op) == (half,) * 4 and op.options["valid"]
        if self._strides(op) == (1, 1) and (padded or not op.options["valid"]):
            return None
        if self._strides(op) == (2, 2) and padded:
            return None
        return f"a depthwise convolution whose input is not padded by {half} on all sides"

    def _strides(self, op: Op) -> tuple[int, int]:
        return op.options["stride_h"], op.options["stride_w"]

    def zeros(self, op: Op) -> tuple[int, int]:
        index = self.constant(op.inputs[1])
        if index is None:
            return 0, 0
        tensor = self.graph.tensors[index]
        return count_zeros(self.contents, tensor) or 0, tensor.elements

    def name(self, op: Op) -> str:
        return f"{op.name} {self.graph.tensors[op.outputs[0]].name.split(';')[0]!r}"


def _cluster(view: _View, stems: list[Op]) -> tuple[list[Op], list[str]]:
    """Return the operations between the stems and the ends, and why some cannot be there."""
    members: list[Op] = []
    reasons: list[str] = []
    seen = {id(op) for op in stems}
    inside = {index for op in stems for index in op.outputs}
    waiting = [reader for index in inside for reader in view.readers.get(index, [])]
    while waiting:
        op = waiting.pop(0)
        if id(op) in seen:
            continue
        seen.add(id(op))
        if view.is_end(op):
            continue
        why = view.obstacle(op)
        if why is not None:
            reasons.append(f"{view.name(op)}: {why}")
            continue
        members.append(op)
        inside.update(op.outputs)
        waiting += [reader for index in op.outputs for reader in view.readers.get(index, [])]
    reasons += _strangers(view, members, inside)
    return members, reasons


def _strangers(view: _View, members: list[Op], inside: set[int]) -> Iterator[str]:
    for op in members:
        if any(index not in inside for index in view.activations(op)):
            yield f"{view.name(op)}: one of its inputs is from outside the cluster"
        if any(index in view.graph.outputs for index in op.outputs):
            yield f"{view.name(op)}: an output of the model before the global average pooling"
