"""Dense on any rank, EinsumDense, Embedding, ReversibleEmbedding, and weights as tensors."""

import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Call, Ref
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import CHANNELS, HEADS, MAKE, USE, WIDTH, Axes, Ids, Keep
from tfprune.structure.ids.rule_registry import layers, newer, stop
from tfprune.structure.rules.activation import activate
from tfprune.utils.einsum import letters_of


@layers(kl.Dense)
def dense(flow: Flow, call: Call) -> Axes:
    """Use the last axis and make a new one; the axes before it pass through."""
    layer, site = call.op, flow.site(call.op)
    x = flow.axes(call.args[0])
    out = site.make("units", layer.units)
    site.bind(layer.kernel, 0, x[-1], USE)
    site.bind(layer.kernel, 1, out, MAKE)
    if layer.use_bias:
        site.bind(layer.bias, 0, out)
    return activate(flow, call, layer.activation, (*x[:-1], out))


@layers(kl.EinsumDense)
def einsum_dense(flow: Flow, call: Call) -> Axes:
    """Bind the kernel by letters: shared with the input they are used or pass, others are made."""
    layer, site = call.op, flow.site(call.op)
    x, shape = flow.axes(call.args[0]), flow.shape(call.args[0])
    source, weight, result = letters_of(layer.equation)
    filled = _ellipsis(source, result, len(shape))
    if filled is None:
        return stop(flow, call, f"computes {layer.equation}, which has no rule")
    source, result = filled
    of: dict[str, Ids | None] = dict(zip(source, x, strict=True))
    made: list[str] = []
    new = [letter for letter in weight if letter not in source]
    for axis, letter in enumerate(weight):
        if letter not in of:
            # If two axes are made at once, as in attention, the first counts heads.
            kind = CHANNELS if len(new) == 1 else HEADS if letter == new[0] else WIDTH
            key = f"output_shape {letter}"
            of[letter] = site.make(key, layer.kernel.shape[axis], kind=kind, resize=False)
            made.append(letter)
        role = MAKE if letter in made else (USE if letter not in result else "along")
        site.bind(layer.kernel, axis, of[letter], role)
    if layer.bias is not None:
        letters = [letter for letter in result if letter in layer.bias_axes]
        spread = result[result.index(letters[0]) :] if letters else ""
        for axis, letter in enumerate(spread):
            if letter in letters:
                site.bind(layer.bias, axis, of[letter])
    for letter in set(source) - set(weight) - set(result):
        flow.freeze(of[letter], f"{call.path} sums over this axis")
    target = tuple(of[letter] for letter in result)
    configured = layer.get_config()["output_shape"]
    wanted = (configured,) if isinstance(configured, int) else tuple(configured)
    tail = target[-len(wanted) :]

    def output_shape(keep: Keep) -> tuple[int | None, ...]:
        return tuple(
            size if ids is None or size is None else keep.count(ids)
            for size, ids in zip(wanted, tail, strict=True)
        )

    site.edit("output_shape", output_shape)
    return activate(flow, call, layer.activation, target)


def _ellipsis(source: str, result: str, rank: int) -> tuple[str, str] | None:
    """Replace the dots of an equation by letters; return None if the ranks do not fit."""
    if "..." not in source + result:
        return source, result
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in source + result]
    dots = "".join(spare[: rank - len(source.replace("...", ""))])
    source, result = source.replace("...", dots), result.replace("...", dots)
    return (source, result) if len(source) == rank else None


def note_vocabulary(flow: Flow, ref: object, size: int) -> None:
    """Record that the model inputs upstream of a tensor are indices below `size`."""
    producers = flow.graph.producers()
    stack, seen = [ref], set()
    while stack:
        here = stack.pop()
        if not isinstance(here, Ref) or here in seen:
            continue
        seen.add(here)
        maker = producers.get(here.index)
        if maker is not None and type(maker.op).__name__ in ("ZerosLike", "OnesLike"):
            continue
        if maker is None:
            flow.vocabulary[here.index] = min(size, flow.vocabulary.get(here.index, size))
        else:
            stack.extend(maker.inputs)


@layers(kl.Embedding)
def embedding(flow: Flow, call: Call) -> Axes:
    """Make one unit for each column of the table; indices select rows."""
    layer, site = call.op, flow.site(call.op)
    flow.freeze_axes(flow.axes(call.args[0]), f"{call.path} reads these as indices")
    note_vocabulary(flow, call.args[0], layer.input_dim)
    out = site.make("output_dim", layer.output_dim, kind=WIDTH)
    site.bind(layer.embeddings, 1, out, MAKE)
    return (*(None for _ in flow.shape(call.args[0])), out)


@layers(*newer("ReversibleEmbedding"))  # Keras 3.12
def reversible_embedding(flow: Flow, call: Call) -> Axes:
    """Make the width in the forward direction, and use it in reverse."""
    layer, site = call.op, flow.site(call.op)
    reverse = call.kwargs.get("reverse", call.args[1] if len(call.args) > 1 else False)
    out = site.make("output_dim", layer.output_dim, kind=WIDTH)
    site.bind(layer.embeddings, 1, out, MAKE)
    if not reverse:
        flow.freeze_axes(flow.axes(call.args[0]), f"{call.path} reads these as indices")
        note_vocabulary(flow, call.args[0], layer.input_dim)
        return (*(None for _ in flow.shape(call.args[0])), out)
    x = flow.axes(call.args[0])
    if layer.tie_weights:
        flow.join(x[-1], out, f"{call.path} is tied to the embedding")
        flow.zero_input(call, call.args[0], -1, x[-1])
    else:
        site.bind(layer.reverse_embeddings, 0, x[-1], USE)
    return (*x[:-1], None)


@layers(Weight, Constant)
def source(flow: Flow, call: Call) -> Axes:
    """Make ids along each axis of a weight or constant that broadcasts to no other size."""
    layer, site = call.op, flow.site(call.op)
    if not keras.backend.is_float_dtype(layer.compute_dtype):
        return (None,) * len(layer.shape)
    axes = tuple(
        None if size < 2 else site.make(f"axis {axis}", size, resize=False)
        for axis, size in enumerate(layer.shape)
    )
    if isinstance(layer, Constant):
        site.edit("value", lambda keep: _kept(layer.value, axes, keep).tolist())
        return axes
    for axis, ids in enumerate(axes):
        if ids is not None:
            site.bind(layer.weight, axis, ids, MAKE)
    site.edit("shape", lambda keep: _kept(np.empty(layer.shape), axes, keep).shape)
    return axes


def _kept(array: np.ndarray, axes: Axes, keep: Keep) -> np.ndarray:
    """Return an array without the removed positions."""
    for axis, ids in enumerate(axes):
        if ids is not None:
            array = np.compress(keep.mask(ids), array, axis)
    return array
