"""Why a file may disagree with its model though every operation of it is right."""

from collections.abc import Mapping

import numpy as np

from tfprune.data.model_comparison import is_whole, rms_share
from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.verify.parity import agrees, parity
from tfprune.deploy.verify.reference import model_outputs
from tfprune.graph.model_signature import Interface

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


def noise_matters(face: Interface, samples: Samples, fraction: float) -> str:
    """Return words on it if noise as small as 8 bits round changes a model's outputs, else "".

    Args:
        face: The model.
        samples: Its inputs by name.
        fraction: The change that matters, as a fraction of `scale_of` an output.
    """
    random = np.random.default_rng(0)
    noisy = dict(samples)
    for name, array in samples.items():
        if np.issubdtype(array.dtype, np.floating):
            step = (float(array.max()) - float(array.min())) / _STEPS
            noise = random.uniform(-step / 2, step / 2, array.shape)
            noisy[name] = (array + noise).astype(array.dtype)
    expected, changed = model_outputs(face, samples), model_outputs(face, noisy)
    shares = [
        rms_share(array, changed[name]) for name, array in expected.items() if not is_whole(array)
    ]
    worst = max(shares, default=0.0)
    if worst <= fraction:
        return ""
    return (
        "; noise of half a step of 8 bits on its inputs changes the model's own outputs by "
        f"{worst:.2g} of their scale, as in a deep network of random weights: train it first"
    )
