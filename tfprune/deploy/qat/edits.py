"""What a quantization-aware model has otherwise than its graph, and the ordinary one of it."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.deploy.qat.layer_map import QUANTIZED, channel_axis, fold, kinds_of
from tfprune.deploy.qat.rounded_call import QuantisedCall, rounded_inside, unpacked
from tfprune.deploy.qat.rounding.choices import NARROW, Choices
from tfprune.deploy.qat.rounding.kept import Shared, counts_of, multiplied
from tfprune.deploy.qat.rounding.layer_rounding import WeightRounding
from tfprune.deploy.qat.rounding.ranges import ActivationRange
from tfprune.deploy.qat.rounding_points import (
    OperationGraph,
    fixed_limits,
    foldable,
    has_range,
    moves,
    range_names,
    second_factors,
)
from tfprune.errors import OptionError, type_name
from tfprune.graph.flat import FlatEdits
from tfprune.graph.graph import Call, Graph, Ref

_RANGE = "_range"
_PLAIN = {quantized: kind for kind, quantized in QUANTIZED.items()}


class Rounding(FlatEdits):
    """Layers that round, ranges, and BatchNormalization folded into the layers before it.

    Args:
        flat: The graph of a flat model.
        choices: How layers and operations are rounded.
        shared: The groups of equal weights of each layer that has some, weight by weight.
        prefix: What the names of rounded layers begin with.
    """

    def __init__(
        self,
        flat: Graph,
        choices: Choices,
        shared: Mapping[str, list[Shared | None]],
        prefix: str,
    ) -> None:
        super().__init__()
        self.choices, self.prefix = choices, prefix
        self.graph = graph = OperationGraph(flat, choices)
        self.shared = {name: several for name, several in shared.items() if name in graph.chosen}
        operations = [graph.operations[name] for name in graph.operations if name in graph.chosen]
        self.kinds = kinds_of(operations)
        self.options = {op.name: self._options(op) for op in operations}
        self.inside = {
            op.name: made
            for op in operations
            if op.name not in self.kinds and (made := self._rounded_inside(op))
        }
        graph.covered = {name for name, made in self.inside.items() if made.covers_output}
        # The converter takes given scales of channels only where these are the last axis.
        apart = {name for name in self.shared if channel_axis(graph.operations[name]) == -2}
        found = foldable(graph, self.kinds)
        self.folded = {layer: norm for layer, norm in found.items() if layer not in apart}
        self.norms = {norm: graph.operations[norm] for norm in self.folded.values()}
        self.names = range_names(graph)
        # Number of operations that share a range.
        self.rounded = Counter(
            self.names[name]
            for name, op in graph.operations.items()
            if graph.is_read_rounded(op) or has_range(op, self.folded, graph)
        )
        self.about_zero = {self.names[name] for name in second_factors(graph, self.folded)}
        self.ranges: dict[str, ActivationRange] = {}
        self.starts: dict[int, Any] = {}
        bare = {call.op.name: call.op for call in flat.calls if graph.is_bare(call.op)}
        bare = {name: op for name, op in bare.items() if name not in graph.fixed}
        self.floats = sorted(prefix * graph.rounds(op) + name for name, op in bare.items())

    def _rounded_inside(self, op: Any) -> QuantisedCall | None:
        calls = self.graph.calls[op.name]
        if moves(op) or not calls:
            return None
        if not any("float" in value.dtype for value in self.graph.outputs[op.name]):
            return None
        args, kwargs = tree.map_structure(self.graph.symbol, (calls[0].args, calls[0].kwargs))
        rounding = self.choices[op.name]
        makers = [self.graph.makers[ref.index].name for ref in calls[0].inputs]
        fixed = tuple(i for i, name in enumerate(makers) if name in self.graph.fixed)
        options = {**self.options[op.name], "ranges": rounding.ranges, "fixed": fixed}
        made = rounded_inside(op, args, kwargs, options)
        self.graph.kernels.update((makers[i], op.name) for i in (made.fixed if made else ()))
        usual = (rounding.limits, rounding.symmetric, rounding.output) == (None, False, True)
        if made is not None and not usual:
            raise OptionError(
                f"layer {op.name!r} ({type_name(op)}) is rounded inside, with its output: limits, "
                "symmetric and output are for layers of Keras. Leave them out"
            )
        return made

    def _options(self, op: Any) -> dict[str, Any]:
        """Return the options of a layer whose weights are rounded otherwise than most."""
        own: dict[str, Any] = {"clusters": counts_of(self.shared.get(op.name, ()))}
        rounding = self.choices[op.name]
        if isinstance(op, keras.Layer) and (rounding.bits < 8 or rounding.weights):
            roundings = rounding.of_weights(op)
            if not any(one not in (None, WeightRounding()) for one in roundings):
                return own
            own["roundings"] = roundings
            if op.name in self.kinds and type(op) not in NARROW:
                known = ", ".join(kind.__name__ for kind in NARROW)
                raise OptionError(
                    f"layer {op.name!r} ({type_name(op)}): weights are rounded otherwise only in "
                    f"{known} and layers of your own. Leave out bits and weights"
                )
        return own

    def rounds(self, op: Any) -> bool:
        """Return whether a new operation rounds its weights and what it computes."""
        return (op.name in self.kinds or op.name in self.inside) and not self.is_dropped(op)

    def values(self, op: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Return the weights of a layer, with those of the norm that is folded into it."""
        norm = self.norms.get(self.folded.get(op.name, ""))
        return arrays if norm is None else fold(op, list(arrays), norm)[0]

    def groups(self, op: Any) -> list[Shared | None]:
        """Return the groups of equal weights of a layer, with the factor of a folded norm."""
        groups, norm = self.shared.get(op.name, []), self.norms.get(self.folded.get(op.name, ""))
        if not groups or norm is None:
            return groups
        arrays = [np.asarray(weight) for weight in op.weights]
        last = len(arrays) - 1 - bool(op.use_bias)
        factor = fold(op, arrays, norm)[1]
        return [multiplied(one, factor) if i == last else one for i, one in enumerate(groups)]

    def remake(self, op: Any, name: str) -> Any:
        made = self.inside[name] if name in self.inside else super().remake(op, name)
        if self.graph.rounds(op):
            made.name = self.prefix + name
        return made

    def kind(self, op: Any) -> Any:
        return self.kinds.get(op.name, type(op))

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        config = super().config(op, config)
        if op.name in self.folded:
            config["use_bias"] = True
        if op.name in self.kinds:
            config |= {key: own for key, own in self.options[op.name].items() if any(own)}
        # Keras 3.10 omits this from configs.
        if op.name in self.kinds and hasattr(op, "output_padding"):
            config["output_padding"] = op.output_padding
        return config

    def is_dropped(self, op: Any) -> bool:
        return op.name in self.norms

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        def read(leaf: Any, given: Any) -> Any:
            return self._read(call.op, leaf, given)

        args, kwargs = tree.map_structure(read, (call.args, call.kwargs), (args, kwargs))
        return op.called(args, kwargs) if call.op.name in self.inside else op(*args, **kwargs)

    def _read(self, reader: Any, leaf: Any, given: Any) -> Any:
        """Return what a rounded call reads: rounded, even if what made it is not."""
        maker = self.graph.makers[leaf.index] if isinstance(leaf, Ref) else None
        if maker is None or not self.graph.is_bare(maker) or not given.dtype.startswith("float"):
            return given
        if not self.graph.reads_rounded(reader, maker):
            return given
        if leaf.index not in self.starts:
            self.starts[leaf.index] = self._in_range(maker, given)
        return self.starts[leaf.index]

    def after(self, call: Call, made: Any) -> Any:
        stored = has_range(call.op, self.folded, self.graph)
        return self._in_range(call.op, made) if stored else made

    def _in_range(self, op: Any, tensor: Any) -> Any:
        """Return a tensor, rounded like the output of an operation or the input of the model."""
        name = self.names[op.name]
        free = name + _RANGE
        tensors = self.rounded[name]
        if tensors > 1 and free in self.ranges:
            return self.ranges[free](tensor)
        while free in self.ranges:  # a layer that is used several times
            free += "_again"
        centered = name in self.about_zero
        maker = self.graph.operations.get(name)
        bare, rounding = self.graph.is_bare(op), self.choices[op.name]
        limits = fixed_limits(maker) if maker is not None and not bare else None
        kind = self.choices.ranges if bare else rounding.ranges
        self.ranges[free] = ActivationRange(
            kind="widening" if tensors > 1 else kind,
            # All tensors of a batch together narrow the range as much as one does.
            tensors=tensors,
            about_zero=centered or rounding.symmetric,
            fixed=None if centered else limits or rounding.limits,
            # One of them keeps what is known of the model.
            floats=() if self.ranges else self.floats,
            prefix="" if self.ranges else self.prefix,
            name=free,
        )
        return self.ranges[free](tensor)


class Stripping(FlatEdits):
    """The layers without rounding, with their former names, and no ranges.

    Args:
        prefix: What the names of rounded layers begin with.
        floats: The names of layers that compute in floats.
    """

    def __init__(self, prefix: str, floats: Collection[str]) -> None:
        super().__init__()
        self.prefix, self.floats = prefix, floats

    def remake(self, op: Any, name: str) -> Any:
        plain = op.inner if type(op) is QuantisedCall else op
        kept = name in self.floats and type(op) not in _PLAIN
        return super().remake(plain, name if kept else name.removeprefix(self.prefix))

    def kind(self, op: Any) -> Any:
        return _PLAIN.get(type(op), type(op))

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        for own in ("clusters", "roundings"):
            config.pop(own, None)
        return super().config(op, config)

    def is_dropped(self, op: Any) -> bool:
        return type(op) is ActivationRange

    def is_called_as_is(self, call: Call) -> bool:
        return type(call.op) is not QuantisedCall

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        if type(call.op) is QuantisedCall:
            args, kwargs = unpacked(args[0], call.op.rest)
        return op(*args, **kwargs)
