"""Any layer or operation under the rounding of an int8 file, by the operations that it runs."""

import contextlib
import weakref
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree
from keras.backend import standardize_dtype

from tfprune.deploy.qat.rounding.kept import Kept, Shared, padded
from tfprune.deploy.qat.rounding.layer_rounding import from_configs, own_config
from tfprune.deploy.qat.rounding.ranges import ActivationRange, traced
from tfprune.deploy.qat.step_rounding import (
    StepRounding,
    as_weight,
    in_own_range,
    never_trivial,
    scaled_axes,
)
from tfprune.deploy.qat.stored_steps import EXACT, PRODUCTS, TABLES, StepGraph, Stored
from tfprune.deploy.qat.watched_steps import Places, Recording, Step, run_watched
from tfprune.errors import ModelError
from tfprune.graph.rebuild import Edits
from tfprune.keras_support.internals import all_layers, mask_of, takes_training, with_mask

_GRAPHS: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


def packed(args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the tensors in the arguments of a call, and the rest of the arguments as a config."""
    tensors: list[Any] = []

    def take(leaf: Any) -> Any:
        if not _is_tensor(leaf):
            return leaf
        tensors.append(leaf)
        return {"tensor": len(tensors) - 1}

    rest = tree.map_structure(take, (list(args), dict(kwargs)))
    return tensors, keras.saving.serialize_keras_object({"args": rest[0], "kwargs": rest[1]})


def unpacked(tensors: Sequence[Any], rest: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call from what `packed` made of them."""

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"tensor"}:
                return tensors[value["tensor"]]
            return {key: put(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(put, value))
        return value

    found = keras.saving.deserialize_keras_object(rest)
    return put(found["args"]), put(found["kwargs"])


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, keras.KerasTensor) or tf.is_tensor(leaf)


@keras.saving.register_keras_serializable("tfprune")
class QuantisedCall(keras.layers.Layer):
    """Runs a layer or operation, with every weight and tensor inside rounded as the file does.

    The call is traced once. Each operation whose output the file stores then gets a range: also in
    the cell of a recurrent layer, where all steps of the loop have the same one.

    Args:
        inner: The layer or operation.
        clusters: The number of groups of equal weights in each of its weights, 0 for free ones.
        fixed: The numbers of the tensors it is called with that are kernels in the file.
        roundings: How each of its weights is rounded, None for as in every layer.
        ranges: How the ranges follow the batches, of `RANGES`.
        **kwargs: Arguments of every layer.
    """

    def __init__(
        self,
        inner: Any,
        clusters: Sequence[int] = (),
        fixed: Sequence[int] = (),
        roundings: Sequence[Any] = (),
        ranges: str = "widening",
        **kwargs: Any,
    ) -> None:
        # Numbers keep their type until the layer itself changes it.
        super().__init__(autocast=False, **kwargs)
        self.inner = inner
        self.clusters, self.roundings = tuple(clusters), from_configs(roundings)
        self.fixed = tuple(fixed)
        self.follows = ranges
        self.supports_jit = getattr(inner, "supports_jit", True)
        self.supports_masking = True
        if getattr(inner, "use_cudnn", None):
            inner.use_cudnn = False

    def prepare(self, tensors: Sequence[Any], rest: dict[str, Any]) -> None:
        """Trace a call, and create the ranges and the masks.

        Args:
            tensors: Tensors of the shapes and types of the call.
            rest: The other arguments, of `packed`.
        """
        masks = [mask_of(tensor) for tensor in tensors]
        self.given = [
            [
                list(tensor.shape),
                standardize_dtype(tensor.dtype),
                None if mask is None else list(mask.shape),
            ]
            for tensor, mask in zip(tensors, masks, strict=True)
        ]
        self.rest = rest
        layers = self._inner_layers()
        if layers and not self.inner.built:
            args, kwargs = unpacked(_symbolic(self.given), rest)
            self.inner(*args, **kwargs)
        with keras.StatelessScope() as scope:
            graph = StepGraph(self._recorded(scope.state_mapping))
        trained = [id(one) for one in getattr(self.inner, "trainable_variables", ())]
        self.assigns = any(key in scope.state_mapping for key in trained)
        self.covers_output = bool(graph.covers_output())
        self.stored = graph.stored(self.covers_output)
        self.ranges = [
            None if one.fixed or one.table or one.joins or one.weight else self._range(index, one)
            for index, one in enumerate(self.stored)
        ]
        uses: dict[int, set[str]] = {}
        for variable, value in graph.recording.reads:
            uses.setdefault(id(variable), set()).update(graph.uses(value))
        self.rounded = [
            variable for variable in self._inner_weights() if uses.get(id(variable), set()) - EXACT
        ]
        self.fixed_uses = [sorted(graph.uses(one) - EXACT) for one in graph.recording.fixed]
        self.uses = [sorted(uses[id(variable)]) for variable in self.rounded]
        counts = padded(self.clusters, 0)
        weights = getattr(self.inner, "weights", ())
        count = {id(variable): next(counts) for variable in weights}
        rounding = {id(w): one for w, one in zip(weights, self.roundings, strict=False)}
        self.kept = [
            Kept(
                self,
                variable.shape,
                scaled_axes(variable, kinds),
                count[id(variable)],
                rounding.get(id(variable)),
            )
            if {*PRODUCTS, *TABLES}.intersection(kinds)
            else None
            for variable, kinds in zip(self.rounded, self.uses, strict=True)
        ]
        self.built = True

    def kernels(self) -> tuple[int, ...]:
        """Return which of the fixed tensors products read."""
        read = zip(self.fixed, self.fixed_uses, strict=True)
        return tuple(index for index, uses in read if PRODUCTS.intersection(uses))

    def _range(self, index: int, stored: Stored) -> ActivationRange:
        made = ActivationRange(
            about_zero=stored.about_zero, kind=self.follows, name=f"step_{index}_range"
        )
        made.build(())
        return made

    def _inner_layers(self) -> list[Any]:
        return all_layers(self.inner) if isinstance(self.inner, keras.layers.Layer) else []

    def _inner_weights(self) -> list[Any]:
        weights = getattr(self.inner, "weights", [])
        return [variable for variable in weights if "float" in str(variable.dtype)]

    def _recorded(self, assigned: Container[int]) -> Recording:
        recording = Recording()

        def note(step: Step) -> None:
            recording.steps.append(step)

        def read(variable: Any, value: Any) -> Any:
            if "float" not in str(variable.dtype) or id(variable) in assigned:
                return value
            tensor = tf.convert_to_tensor(value)
            recording.reads.append((variable, tensor))
            return tensor

        def trace(tensors: Any, masks: Any) -> Any:
            for index, tensor in enumerate(tensors):
                (recording.fixed if index in self.fixed else recording.inputs).append(tensor)
            args, kwargs = unpacked(list(map(with_mask, tensors, masks)), self.rest)
            places = Places(self._inner_layers())
            outputs = run_watched(places, note, read, lambda: self.inner(*args, **kwargs))
            recording.outputs.extend(one for one in tree.flatten(outputs) if tf.is_tensor(one))
            return outputs

        specs = [tf.TensorSpec(shape, dtype) for shape, dtype, _ in self.given]
        masks = [None if mask is None else tf.TensorSpec(mask, "bool") for *_, mask in self.given]
        tf.function(trace, autograph=False).get_concrete_function(specs, masks)
        return recording

    def called(self, args: Any, kwargs: Any) -> Any:
        """Return the output for arguments as the layer or operation takes them.

        Raises:
            ModelError: The call has other arguments than the one that was traced.
        """
        tensors, rest = packed(args, kwargs)
        if rest != self.rest or len(tensors) != len(self.given):
            raise ModelError(
                f"layer {self.name!r} is called with different arguments in the model; use one "
                "layer for each kind of call"
            )
        return self(tensors)

    def call(self, tensors: Any, training: bool | None = None) -> Any:
        """Return the output of the layer or operation, rounded inside."""
        tensors = list(tensors)
        if not tf.executing_eagerly():
            return self._run(tensors, training)
        if self not in _GRAPHS:
            _GRAPHS[self] = _in_a_graph(weakref.ref(self))
        outputs, masks = _GRAPHS[self](tensors, [mask_of(one) for one in tensors], training)
        return tree.map_structure(with_mask, outputs, tree.pack_sequence_as(outputs, masks))

    def _run(self, tensors: Any, training: bool | None) -> Any:
        tensors = list(tensors)
        for index, uses in zip(self.fixed, self.fixed_uses, strict=True):
            tensors[index] = as_weight(tensors[index], uses)
        args, kwargs = unpacked(tensors, self.rest)
        rounding = StepRounding(self.stored, self.ranges, training)
        position = {id(variable): index for index, variable in enumerate(self.rounded)}
        exact = {id(one) for one in self._inner_weights()} - set(position)

        def read(variable: Any, value: Any) -> Any:
            if id(variable) in assigned:
                return value
            index = position.get(id(variable))
            if index is not None:
                return self._as_stored(index, tf.convert_to_tensor(value), training)
            if traced() and id(variable) in exact:
                return never_trivial(tf.convert_to_tensor(value))
            return value

        if takes_training(self.inner) and training is not None:
            kwargs = {**kwargs, "training": training}
        places = Places(self._inner_layers())
        with self._trained_weights_kept() as assigned:
            return run_watched(places, rounding.change, read, lambda: self.inner(*args, **kwargs))

    @contextlib.contextmanager
    def _trained_weights_kept(self) -> Iterator[Mapping[int, Any]]:
        """Keep what is assigned to trained weights in a `with` block inside it.

        A kernel that is assigned itself times a mask would otherwise become the rounded one, in
        which no small step of training is left.

        Yields:
            What is assigned while entered, by the identity of the variable.
        """
        if not self.assigns:
            yield {}
            return
        with keras.StatelessScope() as scope:
            yield scope.state_mapping
        for variable in self.inner.non_trainable_variables:
            if id(variable) in scope.state_mapping:
                variable.assign(scope.state_mapping[id(variable)])

    def _as_stored(self, index: int, value: Any, training: bool | None) -> Any:
        """Return a weight as the file stores it for the operations that read it."""
        uses, kept = set(self.uses[index]), self.kept[index]
        if kept is not None and uses - TABLES:
            return kept.rounded(value, self.rounded[index], training)
        if not uses - TABLES or traced():
            value = value if kept is None else kept.value(value)
            return never_trivial(value) if traced() else value
        return in_own_range(value)

    def compute_output_spec(self, tensors: Any, training: bool | None = None) -> Any:
        """Return the output of the layer or operation."""
        args, kwargs = unpacked(list(tensors), self.rest)
        return self.inner.compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Return None: the layer inside attaches its masks itself."""
        return

    def take(
        self, values: Sequence[np.ndarray], keep_zeros: bool, shared: Sequence[Shared | None] = ()
    ) -> None:
        """Set the weights from those of the plain layer."""
        values = list(values)
        for number, kept in self._kept_weights():
            group = shared[number] if shared else None
            values[number] = kept.take(values[number], keep_zeros, group)
        self.inner.set_weights(values)

    def plain(self) -> list[np.ndarray]:
        """Return the weights of the plain layer."""
        values = [np.array(variable) for variable in getattr(self.inner, "weights", ())]
        for number, kept in self._kept_weights():
            values[number] = np.array(kept.value(ops.convert_to_tensor(values[number])))
        return values

    def _kept_weights(self) -> Iterator[tuple[int, Kept]]:
        """Yield what is kept of each weight, with its number among those of the layer inside."""
        number = {id(variable): i for i, variable in enumerate(getattr(self.inner, "weights", ()))}
        for variable, kept in zip(self.rounded, self.kept, strict=True):
            if kept is not None:
                yield number[id(variable)], kept

    def get_config(self) -> dict[str, Any]:
        """Return the config of the layer."""
        inner = keras.saving.serialize_keras_object(self.inner)
        own = {"inner": inner, "given": self.given, "rest": self.rest}
        own |= {"fixed": list(self.fixed)} if self.fixed else {}
        own |= {} if self.follows == "widening" else {"ranges": self.follows}
        return {**super().get_config(), **own, **own_config(self.clusters, self.roundings)}

    def get_build_config(self) -> None:
        """Return None: the config is enough to create all weights."""
        return

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantisedCall":
        """Return a layer with this config."""
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        given, rest = config.pop("given"), config.pop("rest")
        made = cls(inner, **config)
        made.prepare(_symbolic(given), rest)
        return made


def _symbolic(given: Sequence[Any]) -> list[Any]:
    """Return symbolic tensors of these shapes and types, with masks of these shapes."""
    return [
        with_mask(
            keras.KerasTensor(tuple(shape), dtype),
            None if mask is None else keras.KerasTensor(tuple(mask), "bool"),
        )
        for shape, dtype, mask in given
    ]


def _in_a_graph(layer: Any) -> Any:
    """Return a function that runs a layer in a graph, where operations can be watched.

    Args:
        layer: A weak reference to the layer.
    """

    def run(tensors: Any, masks: Any, training: bool | None) -> tuple[Any, Any]:
        outputs = layer()._run(list(map(with_mask, tensors, masks)), training)
        return outputs, [mask_of(output) for output in tree.flatten(outputs)]

    return tf.function(run, autograph=False)


def activation_inside(activation: Any) -> QuantisedCall | None:
    """Return a function of one tensor that rounds inside; None if nothing inside is rounded."""
    made = QuantisedCall(keras.layers.Activation(activation), name="activation")
    tensors, rest = packed([keras.KerasTensor((None, None))], {})
    made.prepare(tensors, rest)
    return made if made.stored else None


def rounded_inside(
    operation: Any, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> QuantisedCall | None:
    """Return a copy of an operation that rounds inside; None if nothing inside is rounded.

    Args:
        operation: A layer or operation.
        args: The arguments that it is called with, with symbolic tensors.
        kwargs: Those given by name.
        options: Further arguments of `QuantisedCall`; `fixed`: the numbers of the tensors that
            depend on no input of the model.
    """
    inner = Edits().remake(operation, operation.name)
    made = QuantisedCall(inner, name=operation.name, **options)
    made.prepare(*packed(args, kwargs))
    kernels = made.kernels()
    if kernels != made.fixed:
        return rounded_inside(operation, args, kwargs, {**options, "fixed": kernels})
    return made if made.stored or made.rounded or made.fixed else None
