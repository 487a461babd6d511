"""The named inputs and outputs of a Keras model of either generation."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfprune.data.model_inputs import mapped
from tfprune.errors import ModelError, OptionError, nearest, type_name
from tfprune.graph.inputs import given_shapes, typed
from tfprune.keras_support.file_forms import file_forms
from tfprune.keras_support.internals import all_layers, built_shapes
from tfprune.keras_support.models import refuse_quantized
from tfprune.keras_support.randomness import fixed_seeds, means_for_draws
from tfprune.runtime.artifact import TensorSpec

Assigned = dict[int, Any]
"""Values that calls of a model assigned to its weights, by the identity of the variable."""

Structure = Any
"""Dicts, lists and tuples of leaves, as in Keras."""


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model, flat, with names.

    Attributes:
        model: The model.
        inputs: The inputs in the model's order, with -1 for the batch.
        structure: The structure of inputs that the model's call takes, with names as leaves.
        vocabulary: The size of the embedding, for inputs that are indices.
        outputs: Names for the outputs, instead of the model's own.
        guessed: Whether the dtypes of the inputs are unknown, and some that the call takes.
        mean_draws: Whether random numbers that the model draws are the means of their
            distributions.
    """

    model: Any
    inputs: tuple[TensorSpec, ...]
    structure: Structure
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    guessed: bool = False
    mean_draws: bool = False

    def arguments(self, arrays: Mapping[str, Any]) -> Structure:
        """Return arrays by name in the structure that the model's call takes."""
        return mapped(lambda name: arrays[name], self.structure)

    @contextlib.contextmanager
    def as_its_file(self) -> Iterator[None]:
        """Let the model compute what a file of it does, inside a `with` block."""
        draws = means_for_draws() if self.mean_draws else contextlib.nullcontext()
        with fixed_seeds(), draws, file_forms():
            yield

    def call(self, arrays: Mapping[str, Any], assigned: Assigned | None = None) -> dict[str, Any]:
        """Run the model, whose weights stay as they are, and return its outputs by name.

        Args:
            arrays: The inputs by name.
            assigned: What an earlier call assigned to weights; becomes what this one did.
        """
        with self.as_its_file(), unchanged_weights(self.model, assigned):
            outputs = self.model(self.arguments(arrays), training=False)
        own = self.outputs or getattr(self.model, "output_names", None) or ()
        return _checked_outputs(dict(_name_outputs(own, outputs)))


@contextlib.contextmanager
def unchanged_weights(model: Any, assigned: Assigned | None = None) -> Iterator[None]:
    """Keep what a model of Keras 3 assigns to its weights within a `with` block.

    Some layers set a kernel to itself times a mask in every call. Without a resource that is
    written, a file has the masked kernel as a constant.
    """
    import keras

    if generation(model) != "keras":
        yield
        return
    with keras.StatelessScope() as scope:
        scope.state_mapping.update(assigned or {})
        yield
    if assigned is not None:
        assigned.update(scope.state_mapping)


def generation(model: Any) -> str | None:
    """Return "keras" for a Keras 3 model, "tf_keras" for a Keras 2 one, None for neither."""
    import keras

    if isinstance(model, keras.Model):
        return "keras"
    # By name, since importing tf_keras takes a second.
    bases = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(model).__mro__}
    return "tf_keras" if "tf_keras.Model" in bases else None


def interface(
    model: Any, signature: Structure = None, example: Any = None, input_shape: Any = None
) -> Interface:
    """Return the inputs and outputs of a model.

    Args:
        model: A built `keras.Model` or `tf_keras.Model`.
        signature: Shapes and dtypes of the inputs, for a subclassed model that does not know
            them: a structure of anything with `shape` and `dtype` (`keras.InputSpec`,
            `tf.TensorSpec`, an array), including the batch axis.
        example: Calibration data that gives the shapes if neither the model nor a signature does.
        input_shape: The shape of the input without the batch, to fix sizes that the model leaves
            open; for several inputs a list in their order, or a dict from their names.

    Raises:
        ModelError: It is not a Keras model, not built, or has inputs that a file cannot have.
        OptionError: The signature or the shape is not valid.
    """
    if generation(model) is None:
        raise ModelError(f"expected a keras.Model or tf_keras.Model, got {type_name(model)}")
    refuse_quantized(model)
    if not model.built:
        raise ModelError(
            f"model {model.name!r} is not built: it has no weights yet; call it once on data, or "
            "model.build(input_shape)"
        )
    structure, guessed = _checked(signature), False
    if structure is None:
        structure = symbolic_inputs(model)
    if structure is None:
        structure = _of_data(example, _built_inputs(model))
    if structure is None and _built_inputs(model) is not None:
        structure, guessed = typed(model, next(iter(built_shapes(model).values()))), True
    if isinstance(structure, list | tuple) and len(structure) == 1:
        structure = structure[0]
    if structure is None:
        raise ModelError(
            f"model {model.name!r} does not know its input shapes; give input_signature=, such as "
            'keras.InputSpec(shape=(None, 28, 28, 1), dtype="float32")'
        )
    leaves = list(_flatten(structure))
    inputs = tuple(_input(name, leaf) for name, leaf in _unique(leaves))
    inputs = _with_fixed_sizes(inputs, input_shape)
    names = iter(spec.name for spec in inputs)
    return Interface(
        model,
        inputs,
        mapped(lambda _: next(names), structure),
        _vocabulary(model, inputs),
        guessed=guessed,
    )


def _checked(signature: Structure) -> Structure:
    leaves = [] if signature is None else [leaf for _, leaf in _flatten(signature)]
    for leaf in leaves:
        # The shape of a KerasTensor is a tuple, that of a tf.TensorSpec is iterable.
        shape = getattr(leaf, "shape", None)
        unknown = getattr(shape, "rank", 0) is None
        if unknown or not isinstance(shape, Iterable) or not hasattr(leaf, "dtype"):
            raise OptionError(
                "input_signature: expected shapes and types, such as keras.InputSpec(shape=(None, "
                f'28, 28, 1), dtype="float32"), or a list or dict of them; got {signature!r}'
            )
    return signature


def kinds_of(layer: Any) -> set[str]:
    """Return the names of a layer's class and of its base classes."""
    return {base.__name__ for base in type(layer).__mro__}


def symbolic_inputs(model: Any) -> Structure:
    """Return the inputs of a functional or sequential model, or None for others."""
    symbolic = getattr(model, "inputs", None)
    if not symbolic:
        return None
    try:
        structure = model.input
    except (AttributeError, RuntimeError):  # a Sequential, which was never called
        structure = list(symbolic)
    return structure[0] if isinstance(structure, list) and len(structure) == 1 else structure


def _of_data(data: Any, built: Structure) -> Structure:
    """Return the shapes and dtypes of the inputs in data; None if data would have to be read.

    One array is not valid for a model that was built with several inputs (`built`).
    """
    several = isinstance(built, list | Mapping) and len(built) > 1
    inputs = data[0] if isinstance(data, tuple) and data else data
    if several and isinstance(inputs, list) and len(inputs) == len(built):
        inputs = tuple(inputs)  # one for each input; other lists are of batches
    return None if several and hasattr(inputs, "__array__") else _of_arrays(inputs)


def _of_arrays(data: Any) -> Structure:
    """Return the shapes and dtypes of arrays; None for data that would have to be read."""
    if isinstance(data, Mapping | tuple):
        parts = [_of_arrays(x) for x in (data.values() if isinstance(data, Mapping) else data)]
        if None in parts:
            return None
        return dict(zip(data, parts, strict=True)) if isinstance(data, Mapping) else parts
    if not hasattr(data, "__array__"):
        return None
    array = np.asarray(data)
    dtype = "float32" if array.dtype.kind == "f" else array.dtype.name
    return TensorSpec("", (-1, *array.shape[1:]), dtype)


def _built_inputs(model: Any) -> Structure:
    """Return the shapes that a subclassed model was built with, with float32 as dtype."""
    shapes = built_shapes(model)
    if not shapes:
        return None
    structures = [_map_shapes(shape) for shape in shapes.values()]
    return structures[0] if len(structures) == 1 else None


def _map_shapes(shapes: Structure) -> Structure:
    if isinstance(shapes, Mapping):
        return {key: _map_shapes(value) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return TensorSpec(
            "", (-1, *(-1 if size is None else size for size in shapes[1:])), "float32"
        )
    return [_map_shapes(value) for value in shapes]


def _input(name: str, leaf: Any) -> TensorSpec:
    shape = [(-1 if size is None else int(size)) for size in leaf.shape]
    if not shape:
        raise ModelError(f"input {name!r} has no batch axis; a file needs one")
    # An InputSpec may have no dtype; keras.Input also defaults to float32.
    dtype = getattr(leaf.dtype, "name", None) or str(leaf.dtype or "float32")
    if dtype in ("string", "object") or getattr(leaf, "sparse", False):
        raise ModelError(
            f"input {name!r} is {'sparse' if dtype != 'string' else 'text'}: a file takes numbers; "
            "move that preprocessing out of the model"
        )
    return TensorSpec(name, tuple(shape), np.dtype(dtype).name)


def _with_fixed_sizes(inputs: tuple[TensorSpec, ...], given: Any) -> tuple[TensorSpec, ...]:
    """Return the inputs with the sizes of an `input_shape` for those that are open."""
    if given is None:
        return inputs
    names = [spec.name for spec in inputs]
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise OptionError(f"input_shape: no input {name!r}. {nearest(str(name), names)}")
        shapes = {name: next(given_shapes(given[name])) for name in given}
    else:
        listed = list(given_shapes(given))
        if len(listed) != len(inputs):
            raise OptionError(
                f"input_shape: received {len(listed)} shapes for {len(inputs)} inputs: "
                f"{', '.join(names)}"
            )
        shapes = dict(zip(names, listed, strict=True))
    return tuple(_with_sizes(spec, shapes.get(spec.name)) for spec in inputs)


def _with_sizes(spec: TensorSpec, sizes: Sequence[int | None] | None) -> TensorSpec:
    if sizes is None:
        return spec
    own = spec.shape[1:]
    fits = len(sizes) == len(own) and all(
        size == given or -1 in (size, given or -1) for size, given in zip(own, sizes, strict=True)
    )
    if not fits:
        allowed = tuple(None if size == -1 else size for size in own)
        raise OptionError(
            f"input_shape: input {spec.name!r} takes {allowed} without the batch, None for any "
            f"size. Received {tuple(sizes)}"
        )
    fixed = (size if given is None else given for size, given in zip(own, sizes, strict=True))
    return replace(spec, shape=(spec.shape[0], *fixed))


def _flatten(
    structure: Structure, prefix: str = "", *, named: bool = True
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves with names: their own if `named`, else from their places."""
    if isinstance(structure, Mapping):
        for key, value in structure.items():
            name = f"{prefix}_{key}" if prefix else str(key)
            yield from _flatten(value, name, named=named)
    elif isinstance(structure, list | tuple):
        for i, value in enumerate(structure):
            own = getattr(value, "name", "") if named and not isinstance(value, Mapping) else ""
            name = own or (f"{prefix}_{i}" if prefix else f"input_{i}")
            yield from _flatten(value, name, named=named)
    else:
        yield prefix or (getattr(structure, "name", None) if named else "") or "input", structure


def _unique(leaves: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for name, leaf in leaves:
        unique, i = name, 1
        while unique in seen:
            unique, i = f"{name}_{i}", i + 1
        seen.add(unique)
        yield unique, leaf


def _checked_outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    """Raise for outputs that a file cannot have."""
    if not outputs:
        raise ModelError("the model gives no output; a file needs one")
    for name, value in outputs.items():
        kind = type(value).__name__
        dtype = str(getattr(getattr(value, "dtype", None), "name", ""))
        if value is None:
            fault = "None: return only tensors from the model's call"
        elif kind in ("RaggedTensor", "SparseTensor"):
            fault = f"a {kind}: return a dense tensor from the model's call"
        elif dtype == "string" or dtype.startswith("complex"):
            fault = f"of type {dtype}: return real numbers from the model's call"
        elif len(getattr(value, "shape", ())) == 0:
            fault = "a single number: return one for each sample of the batch"
        else:
            continue
        raise ModelError(f"output {name!r} is {fault}")
    return outputs


def _name_outputs(own: Sequence[str], outputs: Structure) -> Iterator[tuple[str, Any]]:
    if isinstance(outputs, Mapping):
        yield from _unique(list(_flatten(outputs, named=False)))
        return
    leaves = [leaf for _, leaf in _flatten(outputs, named=False)]
    names = own if len(own) == len(leaves) else [f"output_{i}" for i in range(len(leaves))]
    yield from _unique(list(zip(names, leaves, strict=True)))


def _vocabulary(model: Any, inputs: Sequence[TensorSpec]) -> dict[str, int]:
    """Return the inputs that hold indices into an embedding, with its size."""
    sizes = [
        layer.input_dim
        for layer in all_layers(model)
        if "Embedding" in kinds_of(layer) and isinstance(getattr(layer, "input_dim", None), int)
    ]
    if not sizes:
        return {}
    # With several embeddings, use the smallest: its indices are valid for all. A float input of
    # rank 2 may hold indices too, since keras.Input defaults to float32.
    return {
        spec.name: min(sizes)
        for spec in inputs
        if np.dtype(spec.dtype).kind in "iu" or len(spec.shape) == 2
    }


def check_batch(batch: int | None, inputs: Sequence[TensorSpec] = ()) -> int | None:
    """Return a batch size; raise if it is not valid or differs from that of the inputs."""
    whole = isinstance(batch, int | np.integer) and not isinstance(batch, bool)
    if batch is not None and not (whole and batch >= 1):
        raise OptionError(f"batch: expected a positive integer or None, got {batch!r}")
    for spec in inputs:
        if batch is not None and spec.shape[0] not in (-1, batch):
            raise OptionError(
                f"batch: received {batch}, but the model's input {spec.name!r} has a batch of "
                f"{spec.shape[0]}; leave it out, or build the model with an open batch"
            )
    return None if batch is None else int(batch)
