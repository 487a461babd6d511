"""Check of a model's config against the allowlist of what a model file may name.

The allowlist has the layers, models and functions of Keras that only compute, the layers of
tfprune, and what the caller has registered or imported. It is checked before any loader sees the
config.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from tfprune.bridge.function_pairs import SYMBOLS
from tfprune.keras_support.registration import LAYERS
from tfprune.loading.classes import CLASSES, FUNCTIONS, VALUES, is_function_home, is_listed, is_word

_PACKAGES = {2: "tf_keras", 3: "keras"}
# Never loaded from a file, nor are their subclasses.
_CARRY_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
# The classes of tf_keras that represent a call of a function, and the keys that name it.
_CALLS = {
    "TFOpLambda": ("function",),
    "SlicingOpLambda": ("function",),
    "ClassMethod": ("cls_symbol", "method_name"),
    "InstanceMethod": ("method_name",),
    "InstanceProperty": ("attr_name",),
    "TensorFlowOpLayer": ("name",),
}
# The layers of tfprune, by their names in files.
OWN = {f"tfprune>{name}": name for name in LAYERS}
_CALLS_BY_SYMBOL = {"TFOpLambda", "SlicingOpLambda"}
_WORDS = ("activation", "initializer", "regularizer", "constraint")
_CONSTANT = "_CONSTANT_VALUE"


def code_in(config: Any, generation: int = 3) -> Iterator[str]:
    """Yield the names of everything in a config that is not allowed."""
    yield from _ConfigReader(_registry(generation)).faults(config)


def _registry(generation: int) -> Callable[[Any], Any]:
    """Return a function that finds objects registered by the caller with a generation of Keras."""
    api = sys.modules.get(_PACKAGES[generation])

    def find(name: Any) -> Any:
        # A Keras that is not loaded has no registered objects.
        return api.saving.get_registered_object(name) if api and isinstance(name, str) else None

    return find


class _ConfigReader:
    def __init__(self, registered: Callable[[Any], Any]) -> None:
        self.registered = registered

    def faults(self, config: Any) -> Iterator[str]:
        if isinstance(config, list):
            for item in config:
                yield from self.faults(item)
        if not isinstance(config, dict):
            return
        if "class_name" in config and config["class_name"] not in (None, *VALUES):
            fault = self._fault(config)
            if fault:
                yield fault
                return
            yield from self._wrong_words(config)
        if isinstance(config.get("vocabulary"), str):
            yield f"a vocabulary file {config['vocabulary']!r}"
        if isinstance(config.get("layers"), list):
            yield from _calls_without_tensors(config["layers"])
        for value in config.values():
            yield from self.faults(value)

    def _fault(self, config: dict[str, Any]) -> str | None:
        kind, module, inner = config["class_name"], config.get("module"), config.get("config")
        if not isinstance(kind, str) or not isinstance(module, str | None):
            return f"the class {kind!r}"
        if kind == "__lambda__":
            return "a pickled function"
        if kind in _CARRY_CODE:
            name = inner.get("name") if isinstance(inner, dict) else None
            return f"the {kind} layer {name!r}"
        if kind == "function":
            return self._fault_of_function(config)
        if kind in _CALLS:
            return _fault_of_call(kind, inner)
        registered = config.get("registered_name", kind)
        if registered in OWN and kind in (registered, OWN[registered]):
            return None
        found = self.registered(registered)
        if found is not None:
            fits = isinstance(found, type) and kind in (found.__name__, registered)
            return None if fits and not _carries_code(found) else f"the class {registered}"
        shown = kind if module is None else f"{module}.{kind}"
        named_alike = registered in (None, kind)
        if named_alike and is_listed(kind, module):
            return None
        if named_alike and module is not None and _is_imported(module, kind):
            return None
        return f"the class {shown}"

    def _fault_of_function(self, config: dict[str, Any]) -> str | None:
        name, module = config.get("config"), config.get("module")
        if isinstance(name, str) and self.registered(name) is not None:
            return None
        if module is not None and not is_function_home(module):
            top = module.partition(".")[0]
            known = top in _PACKAGES.values()
            return f"the function {module}.{name}" if known else f"the class {module}.function"
        alike = config.get("registered_name") in (None, "function", name)
        if isinstance(name, str) and alike and name in FUNCTIONS:
            return None
        return f"the function {name!r}"

    def _wrong_words(self, config: dict[str, Any]) -> Iterator[str]:
        """Yield the functions that are not allowed in the options of a Keras class."""
        inner = config.get("config")
        if config["class_name"] not in CLASSES or not isinstance(inner, dict):
            return
        for key, value in inner.items():
            if not key.endswith(_WORDS) or not isinstance(value, str) or is_word(value):
                continue
            if self.registered(value) is None:
                yield f"the {key} {value!r}"


def _fault_of_call(kind: str, inner: Any) -> str | None:
    parts = [inner.get(key) for key in _CALLS[kind]] if isinstance(inner, dict) else [None]
    if kind in _CALLS_BY_SYMBOL and isinstance(parts[0], str) and parts[0] in SYMBOLS:
        return None
    return f"the function {'.'.join(map(str, parts))} ({kind})"


def _carries_code(found: type) -> bool:
    return any(
        parent.__name__ in (_CARRY_CODE | _CALLS.keys()) and _is_of_keras(parent)
        for parent in found.__mro__
    )


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _PACKAGES.values()


def _is_imported(module: str, kind: str) -> bool:
    """Return whether a Keras class of the caller is imported already, so that no new code runs."""
    top = module.partition(".")[0]
    found = getattr(sys.modules.get(module), kind, None)
    if top in (*_PACKAGES.values(), "tfprune") or not isinstance(found, type):
        return False
    own = not _is_of_keras(found) and found.__module__.partition(".")[0] != "tfprune"
    return own and any(map(_is_of_keras, found.__mro__)) and not _carries_code(found)


def _calls_without_tensors(layers: list[Any]) -> Iterator[str]:
    """Yield the calls in a graph without a tensor input: they would run while loading."""
    layers = [layer for layer in layers if isinstance(layer, dict)]
    names = {layer["name"] for layer in layers if isinstance(layer.get("name"), str)}
    for layer in layers:
        nodes = layer.get("inbound_nodes") or []
        if not isinstance(nodes, list) or not all(_has_tensor(node, names) for node in nodes):
            yield f"a call of {layer.get('name')!r} on constants alone"


def _has_tensor(value: Any, names: set[str]) -> bool:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return True
        return any(_has_tensor(item, names) for item in value.values())
    if not isinstance(value, list):
        return False
    if len(value) in (3, 4) and isinstance(value[0], str):
        if value[0] == _CONSTANT:  # it may look like a tensor; the other arguments may be one
            return _has_tensor(value[3:], names)
        if value[0] in names and all(map(_is_index, value[1:3])):
            return True
    return any(_has_tensor(item, names) for item in value)


def _is_index(value: Any) -> bool:
    return type(value) is int and value >= 0
