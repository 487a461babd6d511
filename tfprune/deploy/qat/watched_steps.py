"""The operations that a call runs in TensorFlow, watched while they run."""

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

import tfprune
from tfprune.keras_support.file_forms import file_forms
from tfprune.keras_support.internals import KerasVariable, runs_layers
from tfprune.keras_support.thread_replacements import replaced

Place = tuple[Any, ...]
"""Where an operation is run: the layer, the lines of its code, and how many ran there before."""

_OWN = str(Path(tfprune.__file__).parent)


@dataclass
class Step:
    """An operation that ran in a call."""

    place: Place
    kind: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class Places:
    """Numbers the places at which operations run, for a layer and all layers in it.

    The same operation has the same place in a loop, unrolled, and in training: a place is the
    innermost layer with the lines of its code that led to the operation.

    Args:
        layers: A layer and all layers in it.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._index = {id(layer): index for index, layer in enumerate(layers)}
        self._running: list[tuple[int, Counter[Place]]] = [(-1, Counter())]
        self._ends: tuple[Any, ...] = ()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Follow which layer runs while entered."""

        def make(plain: Callable[..., Any]) -> Callable[..., Any]:
            def run(layer: Any, *args: Any, **kwargs: Any) -> Any:
                if id(layer) not in self._index:
                    return plain(layer, *args, **kwargs)
                self._running.append((self._index[id(layer)], Counter()))
                try:
                    return plain(layer, *args, **kwargs)
                finally:
                    self._running.pop()

            self._ends = (run.__code__, run_watched.__code__)
            return run

        with replaced(keras.Layer, "__call__", make):
            yield

    def place(self, kind: str) -> Place:
        """Return the place of an operation that is running now."""
        layer, counts = self._running[-1]
        lines: list[Any] = []
        frame: Any = inspect.currentframe()
        while frame is not None and frame.f_code not in self._ends:
            name = frame.f_code.co_filename
            if not name.startswith(_OWN) and not runs_layers(name):
                lines.append((name, frame.f_lineno))
            frame = frame.f_back
        place = (layer, kind, *lines)
        counts[place] += 1
        return (*place, counts[place])


def apart_place(place: Place) -> Place:
    """Return the place of the difference in a squared difference that is computed in two steps."""
    return (*place, "difference")


Changed = Callable[[Step], Sequence[Any] | None]


def run_watched(
    places: Places,
    change: Changed,
    value: Callable[[Any, Any], Any],
    function: Callable[[], Any],
) -> Any:
    """Run a function in a graph, and return its result.

    Args:
        places: Finds the places.
        change: Takes each operation when it has run; returns tensors in place of its outputs, or
            None.
        value: Takes each Keras variable that is read, and its value; returns the value to use.
        function: The function.
    """

    # Not empty while operations run that the call itself does not have.
    own: list[bool] = []

    def callback(
        kind: str, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None
    ) -> Any:
        if own:
            return None
        return change(Step(places.place(kind), kind, tuple(inputs), tuple(outputs)))

    def make(plain: Callable[..., Any]) -> Callable[..., Any]:
        def read(variable: Any) -> Any:
            if own:  # `value` itself reads
                return plain(variable)
            own.append(True)
            try:
                return value(variable, plain(variable))
            finally:
                own.pop()

        return read

    with contextlib.ExitStack() as stack:
        stack.enter_context(places.entered())
        stack.enter_context(replaced(KerasVariable, "value", make))
        stack.enter_context(file_forms())
        for owner, name, step_by_step in _IN_STEPS:
            stack.enter_context(replaced(owner, name, _always(step_by_step)))
        op_callbacks.add_op_callback(callback)
        try:
            return function()
        finally:
            op_callbacks.remove_op_callback(callback)


def _always(function: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    return lambda plain: function


# Functions that are one operation for TensorFlow and several for the file. Written so that no
# tensor between them has a wider range than input and output.


def _bias_add(value: Any, bias: Any, data_format: Any = None, name: Any = None) -> Any:
    # Keras adds a batch of one like a bias.
    if data_format is not None and data_format.startswith("NC"):
        bias = tf.reshape(bias, (-1, *[1] * (value.shape.rank - 2)))
    return value + bias


def _maximum(x: Any, y: Any, name: Any = None) -> Any:
    # The file has a ReLU for it, whose output has a range of its own.
    zero = tf.get_static_value(y)
    if tf.is_tensor(x) and np.ndim(zero) == 0 and zero == 0 and tf.as_dtype(x.dtype).is_floating:
        return tf.nn.relu(x)
    return tf.math.maximum(x, y)


def _softplus(features: Any, name: Any = None) -> Any:
    return tf.nn.relu(features) + tf.math.log(tf.exp(-tf.abs(features)) + 1.0)


def _softsign(features: Any, name: Any = None) -> Any:
    return features / (tf.abs(features) + 1.0)


def _log_sigmoid(x: Any, name: Any = None) -> Any:
    return -_softplus(-x)


def _expm1(x: Any, name: Any = None) -> Any:
    return tf.exp(x) - 1.0


def _elu(features: Any, name: Any = None) -> Any:
    return tf.nn.relu(features) + (tf.exp(-tf.nn.relu(-features)) - 1.0)


def _silu(features: Any, beta: Any = 1.0) -> Any:
    return features * tf.sigmoid(features * beta if beta != 1.0 else features)


def _selu(features: Any, name: Any = None) -> Any:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    below = (tf.exp(-tf.nn.relu(-features)) - 1.0) * (scale * alpha)
    return tf.nn.relu(features) * scale + below


_IN_STEPS: tuple[tuple[Any, str, Any], ...] = (
    (tf, "maximum", _maximum),
    (tf.nn, "bias_add", _bias_add),
    (tf.nn, "softplus", _softplus),
    (tf.math, "softplus", _softplus),
    (tf.math, "log_sigmoid", _log_sigmoid),
    (tf.math, "expm1", _expm1),
    (tf.nn, "softsign", _softsign),
    (tf.math, "softsign", _softsign),
    (tf.nn, "elu", _elu),
    (tf.nn, "selu", _selu),
    # Their own gradients would not let ranges stand inside.
    (tf.nn, "silu", _silu),
    (tf.nn, "swish", _silu),
)


@dataclass
class Recording:
    """What ran in one call.

    Attributes:
        steps: The operations, in order.
        reads: The variables that were read, each with the tensor of its value.
        inputs: The tensors that the call was given.
        fixed: Those given that are the same in every call, apart.
        outputs: The tensors that it returned.
    """

    steps: list[Step] = field(default_factory=list)
    reads: list[tuple[Any, Any]] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    fixed: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def key(tensor: Any) -> tuple[int, int]:
    # A resource from outside all graphs is an eager tensor.
    eager = isinstance(tensor, tf.__internal__.EagerTensor)
    return (id(tensor), 0) if eager else (id(tensor.op), tensor.value_index)
