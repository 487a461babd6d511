"""The proof: the small model against the original with the removed units silenced.

A unit is silenced where it is used, not where it is made: after a zeroed filter the beta of a
BatchNormalization would still speak. Both models get random inputs, and in the place of fresh
weights that are all alike (ones, zeros) random ones, since those hide mistakes.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.data.output_difference import largest_share
from tfprune.errors import ModelError
from tfprune.graph.read import Call, Ref
from tfprune.graph.residual_blocks import addends
from tfprune.keras_support.internals import all_layers, copy_mask, own_seed_generators, pass_mask
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import Axes, Keep
from tfprune.structure.proof.check_unrolling import check_unrolling
from tfprune.structure.proof.inputs import Statistics, random_inputs, varied
from tfprune.structure.rebuild.cut import NOTHING, Branches, Cut, uncut
from tfprune.structure.rebuild.rebuild import Rebuilt, execute, perform, rebuild, states_of
from tfprune.structure.rebuild.weights import Weights, silenced, sliced

TOLERANCE = 1e-4
"""The largest difference that is allowed, as a share of the output's largest number."""


@dataclass(frozen=True)
class Proof:
    """How far the small model is from the original with the removed units silenced."""

    error: float
    outputs: int


def prove(cut: Cut, small: Rebuilt, *, seed: int = 0, input_shape: Any = None) -> Proof:
    """Compare a small model with what it has to compute. Neither it nor the original is changed.

    That is the original where nothing of it is lost, and else the original with what goes
    silenced: first its branches, then the units of what is left. Where an operation mixes the
    channels that are cut (LayerNormalization, softmax), the reference computes it on the living
    positions only: the cut itself is proven, not that nothing changed.

    Raises:
        ModelError: They differ by more than TOLERANCE.
    """
    given: dict[str, Any] = {"seed": seed, "input_shape": input_shape}
    if cut.same:
        return _against_itself(cut, small, **given)
    proofs = []
    if cut.branches.arms:
        bare = replace(cut, removed=NOTHING)
        built = rebuild(bare) if len(cut.removed) else small
        proofs.append(_against_silenced(bare, built, **given))
    if len(cut.removed) or not cut.branches.arms:
        rest = replace(cut, whole=cut.left, branches=Branches({}))
        proofs.append(_against_silenced(rest, small, **given))
    return max(proofs, key=lambda proof: proof.error)


def _against_silenced(cut: Cut, small: Rebuilt, *, seed: int, input_shape: Any) -> Proof:
    """Compare with the original, in which either the branches or the units that go are silenced."""
    found, weights = cut.whole, cut.weights
    rng = np.random.default_rng(seed)
    alive = found.alive(cut.removed)
    keep = Keep(alive)
    if has_low_precision(found):
        originals = rebuild(Cut(found, found, weights), dtype="float32").ops
        small = rebuild(cut, dtype="float32")
    else:
        originals = {id(call.op): call.op for call in found.graph.calls}
    inputs = random_inputs(found, rng, input_shape, alive)
    check_unrolling(found, inputs, low_precision=has_low_precision(found))
    noisy = varied(weights, rng)
    quiet = silenced(found, noisy, keep)
    statistics = Statistics(found, originals, quiet, rng)
    with _state(originals, quiet), _plain_ends(found, originals):
        small_weights = sliced(found, noisy, keep)
        expected = _reference(
            found, originals, inputs, keep, small.ops, small_weights, first=statistics.normalize,
            muted=_muted(cut),
        )  # fmt: skip
    small_weights |= sliced(found, statistics.weights(noisy), keep)
    with _state(small.ops, small_weights), _plain_ends(found, small.ops):
        struct = tree.pack_sequence_as(found.graph.inputs, inputs)
        actual = small.model(struct, training=False)
    ends = tree.flatten(expected)
    worst = _apart(ends, tree.flatten(actual))
    refuse_nan(found, weights, worst)
    if not worst <= TOLERANCE:
        raise ModelError(
            f"model {found.model.name!r}: the shrunken model differs from the original with its "
            f"removed units silenced by {worst:.2g} of the output's scale (allowed {TOLERANCE:g}); "
            "nothing was returned. Freeze the layer at fault with skip="
        )
    return Proof(worst, len(ends))


def _muted(cut: Cut) -> dict[int, set[int]]:
    """The tensors that branches add, by the `id` of the call that adds them."""
    muted: dict[int, set[int]] = {}
    for place, position in cut.branches.arms:
        call = cut.whole.graph.calls[place]
        muted.setdefault(id(call), set()).add(addends(call)[position].index)
    return muted


def _against_itself(cut: Cut, small: Rebuilt, *, seed: int, input_shape: Any) -> Proof:
    """Compare with the original as it is."""
    original = uncut(cut.whole)
    models = cut.whole.model, small.model
    if has_low_precision(cut.left):
        models = rebuild(original, dtype="float32").model, rebuild(cut, dtype="float32").model
    inputs = random_inputs(cut.left, np.random.default_rng(seed), input_shape, cut.alive)
    struct = tree.pack_sequence_as(cut.left.graph.inputs, inputs)
    expected, actual = (tree.flatten(model(struct, training=False)) for model in models)
    error = _apart(expected, actual)
    refuse_nan(cut.whole, original.weights, error)
    if not error <= TOLERANCE:
        raise ModelError(
            f"model {cut.whole.model.name!r}: without its closed units it differs from itself by "
            f"{error:.2g} of the output's scale (allowed {TOLERANCE:g}); nothing was returned"
        )
    return Proof(error, len(expected))


def refuse_nan(found: Units, weights: Weights, difference: float) -> None:
    """Raise where a model gives no numbers that could be compared.

    Raises:
        ModelError: Naming the first layer with NaN or infinity in its weights.
    """
    if np.isfinite(difference):
        return
    spoilt = [
        call.op.name
        for call in found.graph.calls
        if not all(np.isfinite(array).all() for array in weights.get(id(call.op), ()))
    ]
    cause = f"layer {spoilt[0]!r} has such weights" if spoilt else "its outputs overflow"
    raise ModelError(
        f"model {found.model.name!r} gives NaN or infinity on random inputs, so that nothing "
        f"can be proven: {cause}; mend it, or leave the proof out with verify=False"
    )


def _apart(expected: Sequence[Any], actual: Sequence[Any]) -> float:
    to_numpy = keras.ops.convert_to_numpy
    return max(
        largest_share(to_numpy(a), to_numpy(b)) for a, b in zip(expected, actual, strict=True)
    )


def has_low_precision(found: Units) -> bool:
    """Tell whether a layer computes in less than float32."""
    layers = [call.op for call in found.graph.calls if isinstance(call.op, keras.Layer)]
    return any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)


def _state(ops: dict[int, Any], weights: Weights) -> keras.StatelessScope:
    """While it is entered, layers have other weights and empty states; they are not changed."""
    mapping = [
        (variable, keras.ops.convert_to_tensor(array, dtype=variable.dtype))
        for key, op in ops.items()
        if isinstance(op, keras.Layer)
        for variable, array in zip(op.weights, weights[key], strict=True)
    ]
    states = [state for op in ops.values() for state in states_of(op)]
    states += [drawn.state for op in ops.values() for drawn in _generators(op)]
    mapping += [(state, keras.ops.zeros_like(state.value)) for state in states]
    return keras.StatelessScope(state_mapping=mapping)


def _generators(op: Any) -> list[Any]:
    """What an operation's random numbers come from: both models are to draw the same ones."""
    layers = all_layers(op) if isinstance(op, keras.Layer) else ()
    return [one for layer in layers for one in own_seed_generators(layer)]


@contextlib.contextmanager
def _plain_ends(found: Units, ops: dict[int, Any]) -> Iterator[None]:
    """While it is entered, layers that make outputs have no saturating activation.

    A softmax or sigmoid far from zero would hide what went wrong before it.
    """
    producers = found.graph.producers()
    makers = [producers.get(ref.index) for ref in tree.flatten(found.graph.outputs)]
    # A sum at the end is not there any more where its branch was taken out.
    made = [call for call in makers if call is not None and id(call.op) in ops]
    layers = {id(call.op): ops[id(call.op)] for call in made}
    saturating = (keras.activations.softmax, keras.activations.sigmoid, keras.activations.tanh)
    changed = [
        (layer, layer.activation)
        for layer in layers.values()
        if getattr(layer, "activation", None) in saturating
        and not isinstance(layer, keras.layers.RNN)
    ]
    try:
        for layer, _ in changed:
            layer.activation = keras.activations.linear
        yield
    finally:
        for layer, activation in changed:
            layer.activation = activation


def _reference(
    found: Units,
    originals: dict[int, Any],
    inputs: list[np.ndarray],
    keep: Keep,
    ops: dict[int, Any],
    small_weights: Weights,
    *,
    first: Callable[[Call, tuple[Any, ...], dict[str, Any]], Any],
    muted: Mapping[int, Collection[int]],
) -> Any:
    """Run the original, silencing inputs of calls that have no weight to silence them."""
    flow = found.flow
    silences: dict[int, list[tuple[Ref, int, np.ndarray]]] = {}
    for item in flow.silences:
        if not keep.all(item.ids):
            mask = keep.mask(item.ids)
            silences.setdefault(id(item.call), []).append((item.ref, item.axis, mask))

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = compute(call, args, kwargs)
        _carry_mask(call.op, args, made)
        return made

    def compute(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = first(call, args, kwargs)
        if made is not None:
            return made
        if any(not keep.all(ids) for ids in flow.gathered.get(id(call), ())):
            return _on_the_living(found, call, args, kwargs, keep, ops, small_weights)
        if id(call) in muted:
            indices = muted[id(call)]

            def mute(spec: Any, tensor: Any) -> Any:
                silent = isinstance(spec, Ref) and spec.index in indices
                return keras.ops.zeros_like(tensor) if silent else tensor

            args = tree.map_structure(mute, call.args, args)
            kwargs = tree.map_structure(mute, call.kwargs, kwargs)
        for ref, axis, mask in silences.get(id(call), ()):
            shape = [-1 if position == axis else 1 for position in range(len(flow.shape(ref)))]
            quiet = mask.reshape(shape)

            def hush(spec: Any, tensor: Any, ref: Ref = ref, quiet: np.ndarray = quiet) -> Any:
                if spec is not ref and spec != ref:
                    return tensor
                return copy_mask(tensor, tensor * keras.ops.cast(quiet, tensor.dtype))

            args = tree.map_structure(hush, call.args, args)
            kwargs = tree.map_structure(hush, call.kwargs, kwargs)
        return perform(originals[id(call.op)], args, kwargs)

    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    return execute(found.graph, tensors, run)


def _carry_mask(op: Any, args: tuple[Any, ...], made: Any) -> None:
    """Give what stands for a layer's output the mask that Keras would carry along with it."""
    if isinstance(op, keras.Layer) and op.supports_masking and args:
        pass_mask(op, args[0], made)


def _on_the_living(
    found: Units,
    call: Call,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    keep: Keep,
    ops: dict[int, Any],
    small_weights: Weights,
) -> Any:
    """A call computed on the living positions, its outputs put back among zeros."""
    flow = found.flow

    def gather(spec: Any, tensor: Any) -> Any:
        if not isinstance(spec, Ref):
            return tensor
        for axis, ids in enumerate(flow.axes(spec)):
            if ids is not None and not keep.all(ids):
                fewer = keras.ops.take(tensor, np.flatnonzero(keep.mask(ids)), axis=axis)
                tensor = copy_mask(tensor, fewer) if axis == len(tensor.shape) - 1 else fewer
        return tensor

    args = tree.map_structure(gather, call.args, args)
    kwargs = tree.map_structure(gather, call.kwargs, kwargs)
    change = flow.rewrites.get(id(call))
    if change is not None:
        args, kwargs = change(keep, args, kwargs)
    op = ops[id(call.op)]
    if isinstance(op, keras.Layer):
        with _state({id(call.op): op}, small_weights):
            made = perform(op, args, kwargs)
    else:
        made = perform(op, args, kwargs)
    flat = [
        _scatter(tensor, flow.axes(ref), keep)
        for ref, tensor in zip(call.outputs, tree.flatten(made), strict=True)
    ]
    return tree.pack_sequence_as(made, flat)


def _scatter(tensor: Any, axes: Axes, keep: Keep) -> Any:
    for axis, ids in enumerate(axes):
        if ids is None or keep.all(ids):
            continue
        mask = keep.mask(ids)
        # Dead positions read the zero that is put after the living ones.
        where = np.where(mask, np.cumsum(mask) - 1, int(mask.sum()))
        width = [(0, int(position == axis)) for position in range(len(tensor.shape))]
        tensor = keras.ops.take(keras.ops.pad(tensor, width), where, axis=axis)
    return tensor
