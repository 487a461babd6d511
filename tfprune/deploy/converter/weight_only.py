"""Quantization of weights to 4 or 8 bits, layer by layer, by litert-quantizer."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfprune.errors import FilterError, OptionError, nearest
from tfprune.runtime.flatbuffer import Contents
from tfprune.runtime.schemes import SCHEMES, Scheme
from tfprune.utils.extras import require

Rule = tuple[str, int | None, bool]
"""A pattern for names, the bits of a weight (None: it stays float), whether it is used as float."""


def weight_rules(name: str, layers: Mapping[str, str]) -> list[Rule]:
    """Return the rules for weights; later rules take precedence.

    Args:
        name: The scheme of all layers.
        layers: Other schemes, by regular expression.

    Raises:
        OptionError: A scheme cannot be used per layer, or the package is missing.
        FilterError: A pattern is not a regular expression.
    """
    allowed = [key for key in SCHEMES if SCHEMES[key].weight_bits is not None] + ["float32"]
    rules = [_rule(".*", SCHEMES[name])]
    for pattern, scheme in layers.items():
        if scheme not in allowed:
            raise OptionError(f"layers[{pattern!r}]: {scheme!r}. {nearest(str(scheme), allowed)}")
        try:
            re.compile(pattern)
        except re.error as error:
            raise FilterError(f"layers: {pattern!r} is not a regular expression: {error}") from None
        rules.append(_rule(pattern, SCHEMES[scheme]))
    require(f"scheme {name!r}", "quantizer", "litert_quantizer")
    return rules


def _rule(pattern: str, scheme: Scheme) -> Rule:
    return pattern, scheme.weight_bits, scheme.float_arithmetic


def resolve(rules: Sequence[Rule], contents: Contents, chosen: Sequence[Rule] = ()) -> list[Rule]:
    """Return the rules with patterns that name operations of the float file exactly.

    A pattern is searched in the names of an operation's outputs and constants: the output of the
    last layer has the name of the graph's output, and only its weights name the layer.

    Args:
        rules: The rules of the user.
        contents: The float file.
        chosen: Rules that take precedence, and may match nothing: not every layer of a model has
            an operation of its own.

    Raises:
        FilterError: A pattern matches nothing.
    """
    graph = contents.subgraphs[0]
    operations = []
    for op in graph.ops:
        constants = [graph.tensors[i] for i in op.inputs if i != -1]
        names = [tensor.name for tensor in constants if contents.raw(tensor)]
        outputs = [graph.tensors[i].name for i in op.outputs]
        operations.append((outputs, outputs + names))
    resolved = []
    for place, (pattern, bits, float_arithmetic) in enumerate([*rules, *chosen]):
        matched = [
            outputs[0]
            for outputs, names in operations
            if outputs and any(re.search(pattern, name) for name in names)
        ]
        if not matched and place < len(rules):
            # Only the weights of the last layer carry its name.
            known = ", ".join(dict.fromkeys(names[-1] for _, names in operations[:5] if names))
            raise FilterError(
                f"layers: {pattern!r} matches no operation of the file. Some names: {known}"
            )
        resolved += [(f"^{re.escape(name)}(;|$)", bits, float_arithmetic) for name in matched]
    return resolved


def quantize_weights(source: str, target: str, rules: list[Any]) -> None:
    """Quantize a float file; runs in a child process.

    Args:
        source: The float file.
        target: The file to write.
        rules: The result of `resolve`.
    """
    from litert_quantizer import quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    plan = quantizer.Quantizer(bytearray(Path(source).read_bytes()))
    everything = TFLOperationName.ALL_SUPPORTED
    for pattern, bits, float_arithmetic in rules:
        if bits is None:
            plan.update_quantization_recipe(
                pattern, everything, algorithm_key=AlgorithmName.NO_QUANTIZE
            )
            continue
        add = plan.add_weight_only_config if float_arithmetic else plan.add_dynamic_config
        add(pattern, everything, bits)
        # The runtime has no kernels of 4 bits for them.
        for kind in (TFLOperationName.DEPTHWISE_CONV_2D, TFLOperationName.CONV_2D_TRANSPOSE):
            if bits == 4:
                add(pattern, kind, 8)
    Path(target).write_bytes(bytes(plan.quantize().quantized_model))
