"""The proof: comparing the small model with the original whose removed units are zeroed.

A unit is zeroed where it is used, not where it is made: after a zeroed filter the beta of a
BatchNormalization may still be nonzero. Both models get random inputs. Weights that are constant,
as after initialization, are replaced by random numbers, since they hide mistakes.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from tfprune.data.model_comparison import largest_share
from tfprune.errors import ModelError
from tfprune.graph.graph import Call, Ref
from tfprune.graph.rebuild import Rebuilt, Weights, execute, perform, states_of
from tfprune.graph.residual_blocks import addends
from tfprune.keras_support.internals import copy_mask, pass_mask
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import Axes, Keep
from tfprune.structure.proof.check_unrolling import check_unrolling, generators_of
from tfprune.structure.proof.inputs import Statistics, random_inputs, varied
from tfprune.structure.rebuild.cut import NOTHING, Branches, Cut, uncut
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.rebuild.weights import sliced, zeroed

TOLERANCE = 1e-4
"""The largest allowed difference, as a share of the output's largest number."""


@dataclass(frozen=True)
class Proof:
    """The difference between the small model and the original with the removed units zeroed."""

    error: float
    outputs: int


def prove(cut: Cut, small: Rebuilt, *, seed: int = 0, input_shape: Any = None) -> Proof:
    """Compare a small model with its reference, without changing either.

    The reference is the original if the cut is exact (`cut.same`), and else the original with the
    removed parts zeroed: first the branches, then the units of the rest. If an operation mixes
    channels that are removed (LayerNormalization, softmax), the reference computes it on the kept
    positions only: the proof is of the cut, not of an unchanged model.

    Raises:
        ModelError: The outputs differ by more than TOLERANCE.
    """
    given: dict[str, Any] = {"seed": seed, "input_shape": input_shape}
    if cut.same:
        return _against_original(cut, small, **given)
    proofs = []
    if cut.branches.arms:
        bare = replace(cut, removed=NOTHING)
        built = rebuild(bare) if len(cut.removed) else small
        proofs.append(_against_zeroed(bare, built, **given))
    if len(cut.removed) or not cut.branches.arms:
        rest = replace(cut, whole=cut.left, branches=Branches({}))
        proofs.append(_against_zeroed(rest, small, **given))
    return max(proofs, key=lambda proof: proof.error)


def _against_zeroed(cut: Cut, small: Rebuilt, *, seed: int, input_shape: Any) -> Proof:
    """Compare with the original in which either the branches or the removed units are zeroed.

    In a deep network, rounding alone can come to a little more than TOLERANCE. Then the comparison
    is made again with numbers of 64 bits, where a wrong cut is as wrong as before.
    """
    given: dict[str, Any] = {"seed": seed, "input_shape": input_shape}
    proof = _compare_zeroed(
        cut, small, "float32" if has_low_precision(cut.whole) else None, **given
    )
    if TOLERANCE < proof.error <= 10 * TOLERANCE:
        # A layer may be written for 32 bits alone: then the first comparison decides.
        with contextlib.suppress(TypeError, ValueError, tf.errors.OpError):
            proof = _compare_zeroed(cut, small, "float64", **given)
    if not proof.error <= TOLERANCE:
        raise ModelError(
            f"model {cut.whole.model.name!r}: the shrunken model differs from the original with "
            f"its removed units zeroed by {proof.error:.2g} of the output's scale (allowed "
            f"{TOLERANCE:g}); nothing was returned. Exclude the faulty layer with skip="
        )
    return proof


def _compare_zeroed(
    cut: Cut, small: Rebuilt, dtype: str | None, *, seed: int, input_shape: Any
) -> Proof:
    """Compare in a dtype, or in that of each layer."""
    found, weights = cut.whole, cut.weights
    rng = np.random.default_rng(seed)
    kept_mask = found.kept_mask(cut.removed)
    keep = Keep(kept_mask)
    if dtype is not None:
        originals = rebuild(Cut(found, found, weights), dtype=dtype).ops
        small = rebuild(cut, dtype=dtype)
    else:
        originals = {id(call.op): call.op for call in found.graph.calls}
    inputs = random_inputs(found, rng, input_shape, kept_mask)
    check_unrolling(found, inputs, low_precision=has_low_precision(found))
    noisy = varied(weights, rng)
    reference = zeroed(found, noisy, keep)
    statistics = Statistics(found, originals, reference, rng)
    with _state(originals, reference), _linear_outputs(found, originals):
        small_weights = sliced(found, noisy, keep)
        expected = _reference(
            found, originals, inputs, keep, small.ops, small_weights, first=statistics.normalize,
            zero_tensors=_branch_tensors(cut),
        )  # fmt: skip
    small_weights |= sliced(found, statistics.weights(noisy), keep)
    with _state(small.ops, small_weights), _linear_outputs(found, small.ops):
        struct = tree.pack_sequence_as(found.graph.inputs, inputs)
        actual = small.model(struct, training=False)
    ends = tree.flatten(expected)
    worst = _difference(ends, tree.flatten(actual))
    refuse_nan(found, weights, worst)
    return Proof(worst, len(ends))


def _branch_tensors(cut: Cut) -> dict[int, set[int]]:
    """Return the indices of the branches' tensors, by the `id` of the call that adds them."""
    zero_tensors: dict[int, set[int]] = {}
    for place, position in cut.branches.arms:
        call = cut.whole.graph.calls[place]
        zero_tensors.setdefault(id(call), set()).add(addends(call)[position].index)
    return zero_tensors


def _against_original(cut: Cut, small: Rebuilt, *, seed: int, input_shape: Any) -> Proof:
    """Compare with the original as it is."""
    original = uncut(cut.whole)
    models = cut.whole.model, small.model
    if has_low_precision(cut.left):
        models = rebuild(original, dtype="float32").model, rebuild(cut, dtype="float32").model
    inputs = random_inputs(cut.left, np.random.default_rng(seed), input_shape, cut.kept_mask)
    struct = tree.pack_sequence_as(cut.left.graph.inputs, inputs)
    expected, actual = (tree.flatten(model(struct, training=False)) for model in models)
    error = _difference(expected, actual)
    refuse_nan(cut.whole, original.weights, error)
    if not error <= TOLERANCE:
        raise ModelError(
            f"model {cut.whole.model.name!r}: without its closed units its output differs by "
            f"{error:.2g} of the output's scale (allowed {TOLERANCE:g}); nothing was returned"
        )
    return Proof(error, len(expected))


def refuse_nan(found: Units, weights: Weights, difference: float) -> None:
    """Raise if the difference between two outputs is not finite.

    Raises:
        ModelError: Names the first layer with NaN or infinity in its weights.
    """
    if np.isfinite(difference):
        return
    bad = [
        call.op.name
        for call in found.graph.calls
        if not all(np.isfinite(array).all() for array in weights.get(id(call.op), ()))
    ]
    cause = f"layer {bad[0]!r} has such weights" if bad else "its outputs overflow"
    raise ModelError(
        f"model {found.model.name!r} gives NaN or infinity on random inputs, so it cannot be "
        f"verified: {cause}; fix it, or pass verify=False"
    )


def _difference(expected: Sequence[Any], actual: Sequence[Any]) -> float:
    to_numpy = keras.ops.convert_to_numpy
    return max(
        largest_share(to_numpy(a), to_numpy(b)) for a, b in zip(expected, actual, strict=True)
    )


def has_low_precision(found: Units) -> bool:
    """Return whether a layer computes in less than float32."""
    layers = [call.op for call in found.graph.calls if isinstance(call.op, keras.Layer)]
    return any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)


def _state(ops: dict[int, Any], weights: Weights) -> keras.StatelessScope:
    """Return a scope in which layers have other weights and zero states."""
    mapping = [
        (variable, keras.ops.convert_to_tensor(array, dtype=variable.dtype))
        for key, op in ops.items()
        if isinstance(op, keras.Layer)
        for variable, array in zip(op.weights, weights[key], strict=True)
    ]
    states = [state for op in ops.values() for state in states_of(op)]
    # Both models must draw the same numbers.
    states += [drawn.state for op in ops.values() for drawn in generators_of(op)]
    mapping += [(state, keras.ops.zeros_like(state.value)) for state in states]
    return keras.StatelessScope(state_mapping=mapping)


@contextlib.contextmanager
def _linear_outputs(found: Units, ops: dict[int, Any]) -> Iterator[None]:
    """Replace saturating activations of output layers by linear ones while entered.

    A softmax or sigmoid far from zero would hide an error before it.
    """
    producers = found.graph.producers()
    makers = [producers.get(ref.index) for ref in tree.flatten(found.graph.outputs)]
    # A sum at the output does not exist in a model from which its branch was removed.
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
    zero_tensors: Mapping[int, Collection[int]],
) -> Any:
    """Run the original, zeroing the inputs of calls that have no weight to zero instead."""
    flow = found.flow
    zero_at: dict[int, list[tuple[Ref, int, np.ndarray]]] = {}
    for item in flow.zeroed_inputs:
        if not keep.all(item.ids):
            mask = keep.mask(item.ids)
            zero_at.setdefault(id(item.call), []).append((item.ref, item.axis, mask))

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = compute(call, args, kwargs)
        _carry_mask(call.op, args, made)
        return made

    def compute(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = first(call, args, kwargs)
        if made is not None:
            return made
        if any(not keep.all(ids) for ids in flow.gathered.get(id(call), ())):
            return _on_kept_positions(found, call, args, kwargs, keep, ops, small_weights)
        if id(call) in zero_tensors:
            indices = zero_tensors[id(call)]

            def zero(spec: Any, tensor: Any) -> Any:
                zeroed = isinstance(spec, Ref) and spec.index in indices
                return keras.ops.zeros_like(tensor) if zeroed else tensor

            args = tree.map_structure(zero, call.args, args)
            kwargs = tree.map_structure(zero, call.kwargs, kwargs)
        for ref, axis, mask in zero_at.get(id(call), ()):
            shape = [-1 if position == axis else 1 for position in range(len(flow.shape(ref)))]
            factor = mask.reshape(shape)

            def multiply(spec: Any, tensor: Any, ref: Ref = ref, by: np.ndarray = factor) -> Any:
                if spec is not ref and spec != ref:
                    return tensor
                return copy_mask(tensor, tensor * keras.ops.cast(by, tensor.dtype))

            args = tree.map_structure(multiply, call.args, args)
            kwargs = tree.map_structure(multiply, call.kwargs, kwargs)
        return perform(originals[id(call.op)], args, kwargs)

    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    return execute(found.graph, tensors, run)


def _carry_mask(op: Any, args: tuple[Any, ...], made: Any) -> None:
    """Attach the mask that Keras would attach to a layer's output."""
    if isinstance(op, keras.Layer) and op.supports_masking and args:
        pass_mask(op, args[0], made)


def _on_kept_positions(
    found: Units,
    call: Call,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    keep: Keep,
    ops: dict[int, Any],
    small_weights: Weights,
) -> Any:
    """Compute a call on the kept positions, and put its outputs back among zeros."""
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
        # Removed positions read the zero that is padded after the kept ones.
        where = np.where(mask, np.cumsum(mask) - 1, int(mask.sum()))
        width = [(0, int(position == axis)) for position in range(len(tensor.shape))]
        tensor = keras.ops.take(keras.ops.pad(tensor, width), where, axis=axis)
    return tensor
