"""Smaller, faster, still accurate Keras models, as `.tflite` files with the proof beside them.

Every public name lives in the module named here and is imported when it is first used, so that
`import tfprune` costs nothing and loads neither TensorFlow nor tf_keras.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    # sparsity: zeros that hold while the model trains
    "ConstantSparsity": "sparsity.schedules",
    "PolynomialDecay": "sparsity.schedules",
    "PruningSchedule": "sparsity.schedules",
    # structure: units really removed
    # deploy: the file a phone runs
    # measure: the truth about it
    # legacy: the other generation of Keras
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfprune.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
