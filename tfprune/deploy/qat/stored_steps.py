"""Which tensors inside a call an int8 file stores.

A call of a layer is traced as a graph. What needs a range is then a question of what each operation
computes, not of the layer's class.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfprune.deploy.converter.rewrites.convolutions import PRODUCTS, REARRANGES, RELUS, SUMS
from tfprune.deploy.converter.rewrites.integers import HIDES
from tfprune.deploy.qat.rounding.ranges import FIXED_LIMITS
from tfprune.deploy.qat.watched_steps import Place, Recording, Step, apart_place, key

# Their output has no values but those of their inputs, and the scale of these. A loop moves what
# its body computes.
MOVES = frozenset({
    "BatchToSpaceND", "BroadcastTo", "Cast", "ClipByValue", "CropAndResize", "DepthToSpace",
    "EnsureShape", "ExpandDims", "Gather", "GatherNd", "GatherV2", "Identity", "IdentityN", "Max",
    "MaxPool", "MaxPool3D", "MaxPoolV2", "Maximum", "Min", "Minimum", "MirrorPad", "Pad", "PadV2",
    "Reshape", "ResourceGather", "ReverseV2", "Roll", "SelectV2", "Slice", "SpaceToBatchND",
    "SpaceToDepth", "Split", "SplitV", "Squeeze", "StatelessWhile", "StopGradient", "StridedSlice",
    "TensorListFromTensor", "TensorListGetItem", "TensorListSetItem", "TensorListStack", "Tile",
    "TopKV2", "Transpose", "Unpack", "While",
})  # fmt: skip
JOINS = frozenset({"Maximum", "Minimum", "SelectV2"})
# A weight that only these read is as exact as the file's 32-bit biases, or is not read as a number.
EXACT = frozenset({"AssignVariableOp", "BiasAdd", "Shape"})
TABLES = frozenset({"Gather", "GatherV2", "ResourceGather"})
# The second factor of these has zero point 0.
_CENTERED = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})
_TAKES_RELU = PRODUCTS | SUMS | {"Mul", "Sub"}
# The runtime has no integer operation for these, and the converter cannot round their output to a
# range of its own before it is joined.
_FLOAT_ONLY = frozenset({"Cos", "Sin"})
# They depend on the shape of their input only.
_OF_SHAPES = frozenset({"OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike"})
# The converter recognizes exact GELU by all operations up to three steps around these.
_ERROR_FUNCTIONS = frozenset({"Erf", "Erfc"})
_CLIPS = frozenset({"ClipByValue", "Minimum", "Relu6"})
_WITH_SCALARS = frozenset({"AddV2", "Maximum", "Mul", "RealDiv", "Sub", *_CLIPS})


@dataclass(frozen=True)
class Stored:
    """A tensor that the file stores: the output of the operation at this place.

    Attributes:
        place: The place.
        about_zero: Whether 0 is the middle of its 256 values.
        fixed: Its fixed range, if it has one.
        hides: Which input of a selection holds scores that are hidden, if one does.
        table: Whether it holds rows of a weight, which have the range of that.
        joins: The place of the choice that alone reads it, whose range it has.
        weight: What reads it, if it is computed from weights alone: the file has it as a weight.
    """

    place: Place
    about_zero: bool = False
    fixed: tuple[float, float] | None = None
    hides: int | None = None
    table: bool = False
    joins: Place | None = None
    weight: tuple[str, ...] = ()


def hidden_by(step: Step) -> float | None:
    """Return the number, far below all scores, that a step adds or multiplies to hide scores."""
    for tensor in step.inputs if step.kind in ("AddV2", "Mul", "Sub") else ():
        value = _scalar(tensor)
        if value is not None and (-value if step.kind == "Sub" else value) <= HIDES:
            return value
    return None


def _scalar(tensor: Any) -> float | None:
    value = tf.get_static_value(tensor) if tensor.dtype.is_floating else None
    return float(value.ravel()[0]) if value is not None and value.size == 1 else None


class StepGraph:
    """The operations of a recorded call, and what each of them depends on.

    Args:
        recording: The call.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.maker: dict[tuple[int, int], Step] = {}
        self.readers: dict[tuple[int, int], list[tuple[Step, int]]] = {}
        self._given = {key(tensor) for tensor in recording.inputs}
        self._outside: dict[tuple[int, int], Any] = {}
        for step in recording.steps:
            for tensor in step.outputs:
                self.maker[key(tensor)] = step
                for outer, inner in getattr(tensor.graph, "captures", ()):
                    self._outside[key(inner)] = outer
            for position, tensor in enumerate(() if step.kind in _OF_SHAPES else step.inputs):
                self.readers.setdefault(key(tensor), []).append((step, position))
        self._varies: set[tuple[int, int]] = set()
        for step in recording.steps:
            if self._depends(step):
                self._varies |= {key(tensor) for tensor in step.outputs}
        self._of_weights = {key(one) for one in recording.fixed}
        self._of_weights |= {key(tensor) for _, tensor in recording.reads}
        for step in recording.steps:
            if self._of_weights.intersection(map(key, step.inputs)) and not self._depends(step):
                self._of_weights |= {key(tensor) for tensor in step.outputs}
        self._fused = self._in_gelu() | self._in_hard_swish()

    def _depends(self, step: Step) -> bool:
        if step.kind in _OF_SHAPES:
            return False
        if step.kind == "Placeholder":
            # Of the body of a loop: a state of the loop, or a tensor from outside.
            outer = self._outside.get(key(step.outputs[0]))
            return self.varies(outer) if outer is not None else True
        return any(self.varies(tensor) for tensor in step.inputs)

    def varies(self, tensor: Any) -> bool:
        """Return whether a tensor depends on the inputs of the call."""
        return key(tensor) in self._varies or key(tensor) in self._given

    def after(self, tensor: Any) -> list[tuple[Step, int]]:
        """Return the operations that read a tensor, with its position among their inputs."""
        return self.readers.get(key(tensor), [])

    def source(self, tensor: Any) -> Step | None:
        """Return the operation whose values a tensor holds, perhaps moved; None for an input."""
        step = self.maker.get(key(tensor))
        while step is not None and step.kind in MOVES:
            if step.kind in ("While", "StatelessWhile") or self._is_lookup(step) or _counts(step):
                return step
            moved = [one for one in step.inputs if self.varies(one) and _is_float(one)]
            step = self.maker.get(key(moved[0])) if moved else None
        return step

    def stored(self, covered: bool) -> list[Stored]:
        """Return the tensors inside the call that a file stores.

        Args:
            covered: Whether the output of the call counts as inside.
        """
        last = set() if covered else {key(tensor) for tensor in self.recording.outputs}
        centered = self._second_factors()
        found: dict[Place, Stored] = {}
        for step in self.recording.steps:
            if (choice := self._choice(step)) is not None:
                found[step.place] = Stored(step.place, joins=choice.place)
                continue
            if self._makes_weight(step) and (uses := self.uses(step.outputs[0]) - EXACT):
                found[step.place] = Stored(step.place, weight=tuple(sorted(uses)))
                continue
            if not self._is_stored(step) or key(step.outputs[0]) in last:
                continue
            about_zero = id(step) in centered
            if step.kind == "SquaredDifference" and step.outputs[0].shape.rank > 4:
                # The converter has no such integer operation for more than four axes.
                apart = apart_place(step.place)
                found[apart] = Stored(apart)
            fixed = None if about_zero else FIXED_LIMITS.get(step.kind.lower())
            hides, table = self._hidden(step), step.kind in TABLES
            found[step.place] = Stored(step.place, about_zero, fixed, hides, table)
        return list(found.values())

    def covers_output(self) -> bool:
        """Return whether the output has the values of tensors inside, only moved.

        It has then the range of those.
        """
        outputs = [tensor for tensor in self.recording.outputs if tensor.dtype.is_floating]
        return len(outputs) > 1 or any(
            step is not None and step.kind in MOVES for step in map(self._maker_of, outputs)
        )

    def _maker_of(self, tensor: Any) -> Step | None:
        step = self.maker.get(key(tensor))
        while step is not None and step.kind == "Identity":
            step = self.maker.get(key(step.inputs[0]))
        return step

    def _is_stored(self, step: Step) -> bool:
        if not step.outputs or step.kind == "Placeholder":
            return False
        if step.kind in MOVES and not (
            self._is_joint(step) or self._is_lookup(step) or _counts(step)
        ):
            return False
        tensor = step.outputs[0]
        if not tensor.dtype.is_floating or not self.varies(tensor) or id(step) in self._fused:
            return False
        after = self.after(tensor)
        if self._hides_score(step) or (_counts(step) and self._becomes_whole(tensor)):
            return False
        if step.kind in _FLOAT_ONLY and {one.kind for one, _ in after} == {"ConcatV2"}:
            return False
        while step.kind in PRODUCTS and len(after) == 1 and after[0][0].kind in REARRANGES:
            after = self.after(after[0][0].outputs[0])
        if len(after) != 1:
            return True
        reader, position = after[0]
        if step.kind in PRODUCTS and reader.kind in SUMS:
            other = reader.inputs[1 - position]
            return self.varies(other) or len(other.shape) > 1
        return not (reader.kind in RELUS and step.kind in _TAKES_RELU)

    def _becomes_whole(self, tensor: Any) -> bool:
        """Return whether a tensor is cast back to integers: indices that were only moved."""
        todo, read = [tensor], self.after(tensor)
        while todo:
            for step, _ in self.after(todo.pop()):
                if step.kind == "Cast" and not step.outputs[0].dtype.is_floating:
                    continue
                if step.kind not in MOVES:
                    return False
                todo += step.outputs
        return bool(read)

    def _makes_weight(self, step: Step) -> bool:
        """Return whether a step computes, and does not only move, a weight from others."""
        if step.kind in MOVES or len(step.outputs) != 1 or not step.outputs[0].dtype.is_floating:
            return False
        return key(step.outputs[0]) in self._of_weights

    def _is_joint(self, step: Step) -> bool:
        """Return whether a step chooses among values of different ranges."""
        if step.kind not in JOINS:
            return False
        read = [one for one in step.inputs if self.varies(one) and _is_float(one)]
        # The states of a loop have the range of what its body computes.
        sources = [one for one in map(self.source, read) if one and one.kind != "Placeholder"]
        return self._hidden(step) is not None or len(set(map(id, sources))) > 1

    def _hides_score(self, step: Step) -> bool:
        return step.kind in ("AddV2", "Sub") and hidden_by(step) is not None

    def _choice(self, step: Step) -> Step | None:
        """Return the choice that alone reads a step that would be stored, if one does."""
        if not self._is_stored(step) or self._is_joint(step):
            return None
        after = [one for one, _ in self.after(step.outputs[0]) if not self._hides_score(one)]
        alone = len(set(map(id, after))) == 1 and self._is_joint(after[0])
        return after[0] if alone and step.kind.lower() not in FIXED_LIMITS else None

    def _is_lookup(self, step: Step) -> bool:
        return step.kind in TABLES and not self.varies(step.inputs[0])

    def _hidden(self, step: Step) -> int | None:
        """Return which input of a selection holds hidden scores: far below all others."""
        if step.kind != "SelectV2":
            return None
        for position in (1, 2):
            value = _scalar(step.inputs[position])
            maker = self.maker.get(key(step.inputs[position]))
            moved = maker is not None and maker.kind in ("AddV2", "Sub") and hidden_by(maker)
            if (value is not None and value <= HIDES) or moved:
                return position
        return None

    def _second_factors(self) -> set[int]:
        found = set()
        for step in self.recording.steps:
            if step.kind in _CENTERED and len(step.inputs) == 2 and self.varies(step.inputs[1]):
                source = self.source(step.inputs[1])
                found |= {id(source)} if source is not None else set()
        return found

    def _in_gelu(self) -> set[int]:
        """Return the operations of GELU, exact or with tanh, which the converter recognizes."""
        found: set[int] = set()
        for step in self.recording.steps:
            before = self._near([step], back=True)
            if step.kind in _ERROR_FUNCTIONS or (
                step.kind == "Tanh" and any(one.kind == "Pow" for one in before)
            ):
                behind = self._near([step], back=False)
                beside = [self.maker.get(key(one)) for last in behind for one in last.inputs]
                near = (step, *before, *behind, *beside)
                found |= {id(one) for one in near if one is not None}
        return found

    def _near(self, steps: list[Step], *, back: bool) -> list[Step]:
        """Return the steps up to four before some, or up to three behind them."""
        found: list[Step] = []
        for _ in range(4 if back else 3):
            if back:
                made = [self.maker.get(key(one)) for step in steps for one in step.inputs]
                steps = [one for one in made if one is not None and self._depends(one)]
            else:
                steps = [
                    one for step in steps for out in step.outputs for one, _ in self.after(out)
                ]
            found += steps
        return found

    def _in_hard_swish(self) -> set[int]:
        """Return the operations of hard_sigmoid(x) in x · hard_sigmoid(x), which are fused."""
        found: set[int] = set()
        for step in self.recording.steps:
            if step.kind == "Mul" and all(map(self.varies, step.inputs)):
                for start, end in itertools.permutations(step.inputs):
                    chain = self._chain(start, end)
                    if any(one.kind in _CLIPS for one in chain):
                        found |= {id(one) for one in chain}
        return found

    def _chain(self, start: Any, end: Any) -> list[Step]:
        """Return the operations with scalars that lead from one tensor to another; [] if none."""
        chain: list[Step] = []
        while key(end) != key(start):
            step = self.maker.get(key(end))
            if step is None or step.kind not in _WITH_SCALARS:
                return []
            varying = [one for one in step.inputs if self.varies(one)]
            fixed = [one for one in step.inputs if not self.varies(one)]
            if len(varying) != 1 or any(one.shape.rank != 0 for one in fixed):
                return []
            chain.append(step)
            end = varying[0]
        return chain

    def uses(self, value: Any) -> set[str]:
        """Return the kinds of the operations that read a value, perhaps moved.

        What computes a weight from it is none of them.
        """
        found: set[str] = set()
        todo = [value]
        while todo:
            for step, _ in self.after(todo.pop()):
                if step.kind in MOVES and not self._is_lookup(step):
                    todo += step.outputs
                elif not self._makes_weight(step):
                    found.add("BiasAdd" if self._adds_bias(step) else step.kind)
        return found

    def _adds_bias(self, step: Step) -> bool:
        """Return whether the file fuses a sum into the product before it."""
        made = [self.maker.get(key(tensor)) for tensor in step.inputs]
        return step.kind in SUMS and any(
            one is not None and one.kind in PRODUCTS and not self._is_stored(one) for one in made
        )


def _counts(step: Step) -> bool:
    """Return whether a step makes floats of integers or of a mask, which have no range."""
    if step.kind != "Cast":
        return False
    return bool(step.outputs[0].dtype.is_floating and not step.inputs[0].dtype.is_floating)


def _is_float(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating or tensor.dtype == tf.variant)
