"""Rewrites that let XNNPACK run the sparse 1×1 convolutions of a mobile net."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError, type_name
from tfprune.graph.rebuild import flat_model
from tfprune.keras_support.internals import maker_of, readers_of
from tfprune.keras_support.models import carry_compile, refuse_quantized, settle, uncompiled


@dataclass(frozen=True)
class SparseRewrite:
    """What `make_sparse_ready` changed.

    Attributes:
        exact: Changes that keep every output the same.
        tune: Changes that shift the receptive field of a layer by one pixel: fine-tune after them.
    """

    exact: tuple[str, ...]
    tune: tuple[str, ...]


@dataclass
class _Edits:
    """Changes of configs, and layers to insert before or after a layer, by layer name."""

    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pad_before: dict[str, int] = field(default_factory=dict)
    flatten_after: set[str] = field(default_factory=set)
    grown: set[str] = field(default_factory=set)
    exact: list[str] = field(default_factory=list)
    tune: list[str] = field(default_factory=list)


def make_sparse_ready(model: keras.Model) -> tuple[keras.Model, SparseRewrite]:
    """Rewrite a model so that XNNPACK can run its sparse file with sparse kernels.

    A stride of 2 that pads one side only, which XNNPACK cannot do channels-first, is replaced:

    - a 3×3 depthwise kernel becomes 5×5 with zeros at its left and top, padded by 2 on all sides:
      the same numbers;
    - the first convolution and a 5×5 depthwise one are padded equally on all sides, which shifts
      them by one pixel to the left and up: nearly the same, so fine-tune after it.

    Global average pooling keeps its axes and is followed by a Flatten: the same numbers. The
    original model is not changed; masks are copied where the shape of the weight is the same.

    Args:
        model: A `keras.Model` of any kind; nested and subclassed ones are unrolled.

    Returns:
        The new model, and the changes. `sparse_ready` on its file shows whether they are enough.

    Raises:
        ModelError: It is no Keras 3 model, or it cannot be read.

    Example:
        model, changes = make_sparse_ready(keras.applications.MobileNetV2(weights=None))
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a Keras 3 model. Received {type_name(model)}")
    refuse_quantized(model)
    functional = flat_model(model)
    edits = _plan(functional)

    def clone(layer: Any) -> Any:
        return layer.__class__.from_config(
            {**layer.get_config(), **edits.configs.get(layer.name, {})}
        )

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in edits.pad_before:
            padding = keras.layers.ZeroPadding2D(
                edits.pad_before[layer.name], name=f"{layer.name}_padding"
            )
            args = (padding(args[0]), *args[1:])
        outputs = layer(*args, **kwargs)
        if layer.name in edits.flatten_after:
            outputs = keras.layers.Flatten(name=f"{layer.name}_flatten")(outputs)
        return outputs

    with uncompiled(functional):
        rewritten = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    for layer in (layer for layer in functional.layers if layer.variables):
        _copy_weights(layer, rewritten.get_layer(layer.name), layer.name in edits.grown)
    carry_compile(model, rewritten)
    return rewritten, SparseRewrite(tuple(edits.exact), tuple(edits.tune))


def _plan(model: keras.Model) -> _Edits:
    edits = _Edits()
    for layer in model.layers:
        if type(layer) is keras.layers.GlobalAveragePooling2D and not layer.keepdims:
            edits.configs[layer.name] = {"keepdims": True}
            edits.flatten_after.add(layer.name)
            edits.exact.append(f"{layer.name}: keepdims, followed by a Flatten")
        elif type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
            _plan_convolution(layer, edits)
    return edits


def _plan_convolution(layer: Any, edits: _Edits) -> None:
    depthwise = type(layer) is keras.layers.DepthwiseConv2D
    size = layer.kernel_size[0]
    if tuple(layer.strides) != (2, 2) or tuple(layer.dilation_rate) != (1, 1):
        return
    if tuple(layer.kernel_size) not in ((3, 3), *(((5, 5),) if depthwise else ())):
        return
    before = maker_of(layer.input)
    padded = type(before) is keras.layers.ZeroPadding2D and len(readers_of(before)) == 1
    height, width = (before.input if padded else layer.input).shape[1:3]
    if layer.padding == "same":
        # TensorFlow pads even sizes by one less before than after, odd sizes equally.
        if None in (height, width):
            return
        behind = {size // 2 if n % 2 else size // 2 - 1 for n in (height, width)}
        start = behind.pop() if len(behind) == 1 else None
        sides = None if start is None else (start, size // 2)
    elif padded:
        found = {tuple(pair) for pair in before.padding}
        sides = found.pop() if len(found) == 1 else None
        if None in (height, width) or height % 2 or width % 2:
            return
    else:
        return
    half = size // 2
    if sides == (half, half):
        if layer.padding == "same":
            _pad(layer, None, half, edits)
            edits.exact.append(f"{layer.name}: its padding of {half} is a separate layer")
    elif sides == (half - 1, half):
        grow = depthwise and size == 3
        _pad(layer, before if padded else None, 2 if grow else half, edits)
        if grow:
            edits.configs[layer.name]["kernel_size"] = (5, 5)
            edits.grown.add(layer.name)
            edits.exact.append(f"{layer.name}: kernel 5×5 with the old one at the bottom right")
        else:
            edits.tune.append(
                f"{layer.name}: padded by {half} on all sides, shifted by one pixel to the left "
                "and up"
            )


def _pad(layer: Any, before: Any, amount: int, edits: _Edits) -> None:
    edits.configs[layer.name] = {"padding": "valid"}
    if before is None:
        edits.pad_before[layer.name] = amount
    else:
        edits.configs[before.name] = {"padding": ((amount, amount), (amount, amount))}


def _copy_weights(old: Any, new: Any, grown: bool) -> None:
    values = old.get_weights()
    if grown:
        kernel = np.zeros((5, 5, *values[0].shape[2:]), values[0].dtype)
        kernel[2:, 2:] = values[0]
        values[0] = kernel
    new.set_weights(values)
    settle(new, old)
    for mine, theirs in zip(new.variables, old.variables, strict=True):
        constraint = getattr(theirs, "constraint", None)
        if constraint is not None and mine.shape == theirs.shape:
            mine.constraint = constraint
