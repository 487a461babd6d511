"""The names that a file may have: everything in Keras without code, and nothing else."""

import inspect
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

import keras
import pytest
import tf_keras

from tfprune.loading.classes import (
    CLASSES,
    FUNCTIONS,
    LAYERS,
    OPERATIONS,
    PARTS,
    is_function_home,
    is_listed,
    is_word,
)

# Read by hand: these hold Python code or a foreign model, or are given one.
CODE_LAYERS = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
NO_LAYERS = {"InputSpec", "DenseFeatures"}
CODE_OPERATIONS = {"AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "SegmentReduction",
                   "Switch", "VectorizedMap", "WhileLoop"}  # fmt: skip
BASES = {"Initializer", "Regularizer", "Constraint", "Quantizer", "QuantizationConfig"}


def classes_of(module: Any) -> set[str]:
    return {name for name, value in vars(module).items() if inspect.isclass(value)}


@pytest.mark.parametrize("api", [keras, tf_keras])
def test_every_layer_of_keras_is_on_the_list_or_known_to_carry_code(api: Any) -> None:
    missing = classes_of(api.layers) - LAYERS - CODE_LAYERS - NO_LAYERS
    assert not missing, "read what they do, and put them on the list or here"
    assert not LAYERS & CODE_LAYERS


@pytest.mark.parametrize("api", [keras, tf_keras])
@pytest.mark.parametrize("part", ["initializers", "regularizers", "constraints"])
def test_every_part_of_a_layer_is_on_the_list(api: Any, part: str) -> None:
    names = {name for name in classes_of(getattr(api, part)) if name[0].isupper()}
    assert names - PARTS - BASES == set()
    assert all(map(is_word, classes_of(getattr(api, part)) - BASES))


def test_every_operation_of_keras_is_on_the_list_or_takes_functions() -> None:
    found = {
        name
        for module in pkgutil.iter_modules(keras.src.ops.__path__, "keras.src.ops.")
        if "test" not in module.name and module.name not in ("keras.src.ops.function",)
        for name, value in vars(sys.modules.get(module.name, inspect)).items()
        if inspect.isclass(value) and issubclass(value, keras.Operation)
    }
    found -= {"Operation", "KerasTensor"}
    # Operations of Keras 3.10 that make a tensor of none: no model has one, and none is let in.
    found -= {
        "Bartlett", "Blackman", "Empty", "Eye", "Hamming", "Identity", "Ones", "Tri", "Zeros"
    }  # fmt: skip
    assert found - OPERATIONS == {name for name in CODE_OPERATIONS if name in found}
    assert found & OPERATIONS


def loaded() -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        if name.startswith(("keras.", "tf_keras.")) or name in ("keras", "tf_keras"):
            yield name, vars(module)


def test_every_allowed_name_is_a_harmless_class_in_every_module() -> None:
    harmless = {
        "Operation", "Layer", "Loss", "Metric", "Optimizer", "OptimizerV2", "LearningRateSchedule",
        "Initializer", "Regularizer", "Constraint", "DTypePolicy", "DTypePolicyMap", "Policy",
        "PolicyV1", "Quantizer", "QuantizationConfig", "SeedGenerator", "OptimizerMap",
        "GPTQConfig", "LegacyOptimizerWarning", "BaseLossScaleOptimizer",
    }  # fmt: skip
    seen = 0
    for module, content in loaded():
        for name in CLASSES & content.keys():
            found = content[name]
            if not is_listed(name, module):
                continue
            seen += 1
            assert inspect.isclass(found), (module, name)
            assert harmless & {parent.__name__ for parent in found.__mro__}, (module, name)
            assert found.__name__ not in CODE_LAYERS, (module, name)
    assert seen > 500


def test_every_allowed_function_only_computes_in_every_module() -> None:
    for module, content in loaded():
        for name in FUNCTIONS & content.keys():
            found = content[name]
            if not is_function_home(module) or not callable(found):
                continue
            top = found.__module__.partition(".")[0]
            assert top in ("keras", "tf_keras", "tensorflow"), (module, name)
    assert not FUNCTIONS & vars(sys.modules["builtins"]).keys()


@pytest.mark.parametrize(
    ("module", "home"),
    [
        ("keras", True), ("keras.layers", True), ("keras.src.models.functional", True),
        ("keras.engine.functional", True), ("tf_keras.src.engine.sequential", True),
        ("keras.src.ops.numpy", False), ("keras.saving", False), ("keras.utils", False),
        ("keras.src.saving.saving_lib", False), ("keras.config", False), ("os", False),
        ("keras_layers", False), ("keras.layers;os", False), ("tfprune", False),
        ("keras.layers\n", False),
    ],
)  # fmt: skip
def test_only_modules_of_layers_and_models_are_listed(module: str, home: bool) -> None:
    assert is_listed("Dense", module) is home
