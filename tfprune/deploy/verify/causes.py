"""Why a file may disagree with its model though every operation of it is right."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfprune.data.model_comparison import is_whole, rms_share
from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.verify.parity import agrees, parity
from tfprune.deploy.verify.reference import has_graph, model_outputs, run_calls
from tfprune.graph.call_kinds import kind_of
from tfprune.graph.graph import Call
from tfprune.graph.model_signature import Interface
from tfprune.graph.rebuild import perform
from tfprune.keras_support.internals import copy_mask

# What the sizes of batches change in the last digits.
_SAME = 1e-3
_STEPS = 255


def batch_matters(face: Interface, samples: Samples, expected: Mapping[str, np.ndarray]) -> str:
    """Return words on it if a model gives other outputs for single samples, else ""."""
    if face.inputs[0].shape[0] != -1:
        return ""
    alone = model_outputs(face, samples, 1)
    found = (
        parity(name, expected[name], alone[name], data="", fraction=_SAME) for name in expected
    )
    if all(map(agrees, found)):
        return ""
    return (
        "; the model itself gives a sample other outputs when it is alone in its batch: give the "
        "size of its batches with batch="
    )


def rounding_matters(face: Interface, samples: Samples, fraction: float) -> str:
    """Return words on it if noise as of rounding to 8 bits changes a model's outputs, else "".

    Args:
        face: The model.
        samples: Its inputs by name.
        fraction: The change that matters, as a fraction of `scale_of` an output.
    """
    if not has_graph(face.model):
        return ""
    inputs = keras.tree.flatten(face.arguments(samples))
    random = np.random.default_rng(0)

    def noisy(tensor: Any) -> Any:
        array = np.asarray(tensor)
        if not np.issubdtype(array.dtype, np.floating) or not array.size:
            return tensor
        half = (float(array.max()) - float(array.min())) / _STEPS / 2
        noise = random.uniform(-half, half, array.shape)
        return copy_mask(tensor, keras.ops.convert_to_tensor((array + noise).astype(array.dtype)))

    def plain(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return perform(call.op, args, kwargs)

    def rounded(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = perform(call.op, args, kwargs)
        return made if kind_of(call.op) == "movement" else keras.tree.map_structure(noisy, made)

    expected = keras.tree.flatten(run_calls(face, inputs, plain))
    changed = keras.tree.flatten(run_calls(face, [noisy(one) for one in inputs], rounded))
    pairs = [tuple(map(np.asarray, pair)) for pair in zip(expected, changed, strict=True)]
    worst = max((rms_share(*pair) for pair in pairs if not is_whole(pair[0])), default=0.0)
    if worst <= fraction / 2:  # the rounding of weights does the rest
        return ""
    return (
        "; noise of half a step of 8 bits on its own tensors changes the model's outputs by "
        f"{worst:.2g} of their scale, as where weights are still random, or ranges have outliers"
    )
