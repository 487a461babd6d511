"""Registering the layers of tfprune with Keras, without importing them until a file has one."""

import importlib
import sys
from typing import Any

LAYERS = {
    "ActivationRange": "tfprune.deploy.qat.rounding.ranges",
    "ChannelGate": "tfprune.structure.gates.layers",
    "Constant": "tfprune.graph.tracing.weight",
    "HeadGate": "tfprune.structure.gates.layers",
    "MaskOf": "tfprune.graph.tracing.masks",
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
    "QuantisedEmbedding": "tfprune.deploy.qat.embedding",
    "QuantisedLayerNormalization": "tfprune.deploy.qat.attention",
    "QuantisedMultiHeadAttention": "tfprune.deploy.qat.attention",
    "QuantisedPReLU": "tfprune.deploy.qat.layers",
    "QuantisedSeparableConv1D": "tfprune.deploy.qat.layers",
    "QuantisedSeparableConv2D": "tfprune.deploy.qat.layers",
    "QuantizeAnnotate": "tfprune.tfmot_compat.quantize_annotate",
    "Weight": "tfprune.graph.tracing.weight",
    "WithMask": "tfprune.graph.tracing.masks",
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
    """Add every layer to the registry of Keras, which is imported.

    For safety, Keras does not import modules named in a file; it only knows registered classes.
    """
    known = sys.modules["keras"].saving.get_custom_objects()
    for name in LAYERS:
        known.setdefault(f"tfprune>{name}", _LaterLayer(name))
