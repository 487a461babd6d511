"""Registering the layers of tfprune with Keras, without importing them until a file has one."""

import importlib
import sys
from typing import Any

LAYERS = {
    "ActivationRange": "tfprune.deploy.qat.ranges",
    "ChannelGate": "tfprune.structure.gates.layers",
    "HeadGate": "tfprune.structure.gates.layers",
    "QuantisedBatchNormalization": "tfprune.deploy.qat.normalization",
    "QuantisedCall": "tfprune.deploy.qat.rounded_call",
    "QuantisedConv1D": "tfprune.deploy.qat.layers",
    "QuantisedConv1DTranspose": "tfprune.deploy.qat.layers",
    "QuantisedConv2D": "tfprune.deploy.qat.layers",
    "QuantisedConv2DTranspose": "tfprune.deploy.qat.layers",
    "QuantisedDense": "tfprune.deploy.qat.layers",
    "QuantisedDepthwiseConv1D": "tfprune.deploy.qat.layers",
    "QuantisedDepthwiseConv2D": "tfprune.deploy.qat.layers",
    "QuantisedEinsumDense": "tfprune.deploy.qat.layers",
    "QuantisedEmbedding": "tfprune.deploy.qat.layers",
    "QuantisedLayerNormalization": "tfprune.deploy.qat.attention",
    "QuantisedMultiHeadAttention": "tfprune.deploy.qat.attention",
    "QuantisedPReLU": "tfprune.deploy.qat.layers",
    "QuantisedSeparableConv1D": "tfprune.deploy.qat.layers",
    "QuantisedSeparableConv2D": "tfprune.deploy.qat.layers",
}
"""The module of each layer that can be in a file, by its name there.

The names are part of the files, including the paths of the weights, and must not change.
"""


class _LaterLayer:
    """An entry in Keras's registry for a layer whose module is imported when a file has one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def from_config(self, config: dict[str, Any]) -> Any:
        """Return the layer; importing its module replaces this entry in the registry."""
        kind = getattr(importlib.import_module(LAYERS[self.name]), self.name)
        return kind.from_config(config)


def register_layers() -> None:
    """Add every layer to Keras's registry: now, or as soon as Keras is imported.

    For safety, Keras does not import modules named in a file; it only knows registered classes.
    """
    if "keras" in sys.modules:
        known = sys.modules["keras"].saving.get_custom_objects()
        for name in LAYERS:
            known.setdefault(f"tfprune>{name}", _LaterLayer(name))
    elif not any(map(_is_watcher, sys.meta_path)):
        sys.meta_path.insert(0, _KerasWatcher())


def _is_watcher(finder: Any) -> bool:
    # By name: reloading this package creates another class of the same finder.
    return type(finder).__name__ == _KerasWatcher.__name__


class _KerasWatcher:
    """An import finder that finds `keras` as usual, and registers the layers after its import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of `keras` from the other finders, and None for other modules."""
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if not _is_watcher(finder))
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: Any) -> None:
            run(module)
            register_layers()

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
