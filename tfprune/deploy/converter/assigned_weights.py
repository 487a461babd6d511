"""Weights that a model assigns when it is called, such as a kernel times a mask."""

import keras
import numpy as np

from tfprune.deploy.converter.calibrate import random_samples
from tfprune.errors import ConversionError
from tfprune.graph.model_signature import Assigned, Interface


def check_assigned(interface: Interface, samples: int) -> None:
    """Check that a second call, on other inputs, assigns what a first one does.

    A file does not keep from call to call what is assigned.

    Raises:
        ConversionError: It assigns something else: outputs depend on earlier calls.
    """
    assigned: Assigned = {}
    calls = []
    for seed in (0, 1):
        arrays = random_samples(interface.inputs, samples, interface.vocabulary, seed=seed)
        interface.call({key: keras.ops.convert_to_tensor(x) for key, x in arrays.items()}, assigned)
        calls.append(dict(assigned))
    first, second = calls
    model = interface.model
    for key, value in second.items():
        if key not in first or not np.array_equal(first[key], value):
            paths = {id(variable): variable.path for variable in model.variables}
            raise ConversionError(
                f"model {model.name!r} keeps a state: {paths.get(key, 'a variable')!r} is assigned "
                "another value in each call; build recurrent layers with stateful=False, and give "
                "the model what it has to remember as an input"
            )
