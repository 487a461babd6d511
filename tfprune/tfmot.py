"""The names of tensorflow-model-optimization where it has them.

`from tfprune import tfmot` replaces `import tensorflow_model_optimization as tfmot` in a script.
"""

from typing import Any

import tfprune


class _Names:
    """Names of tfprune, and further ones.

    Args:
        place: What this object stands for.
        names: The names of tfprune that it has.
        **more: Further ones.
    """

    def __init__(self, place: str, names: tuple[str, ...] = (), **more: Any) -> None:
        self._place = place
        self._names = names
        vars(self).update(more)

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            return getattr(tfprune, name)
        there = ", ".join(self.__dir__())
        raise AttributeError(
            f"{self._place} has no {name!r} here; docs/coming-from-tfmot.md says what to use "
            f"instead. There is: {there}"
        )

    def __dir__(self) -> list[str]:
        return sorted({*self._names, *(name for name in vars(self) if name[0] != "_")})


_SCHEMES = (
    "Default8BitClusterPreserveQuantizeScheme",
    "Default8BitPrunePreserveQuantizeScheme",
)

sparsity = _Names(
    "tfmot.sparsity",
    keras=_Names(
        "tfmot.sparsity.keras",
        (
            "ConstantSparsity",
            "PolynomialDecay",
            "PrunableLayer",
            "PruneForLatencyOnXNNPack",
            "PruningPolicy",
            "PruningSchedule",
            "PruningSummaries",
            "UpdatePruningStep",
            "prune_low_magnitude",
            "prune_scope",
            "strip_pruning",
        ),
    ),
)
clustering = _Names(
    "tfmot.clustering",
    keras=_Names(
        "tfmot.clustering.keras",
        (
            "CentroidInitialization",
            "ClusterableLayer",
            "ClusteringSummaries",
            "cluster_scope",
            "cluster_weights",
            "strip_clustering",
        ),
        experimental=_Names(
            "tfmot.clustering.keras.experimental",
            cluster=_Names("tfmot.clustering.keras.experimental.cluster", ("cluster_weights",)),
        ),
    ),
)
quantization = _Names(
    "tfmot.quantization",
    keras=_Names(
        "tfmot.quantization.keras",
        (
            "QuantizeConfig",
            "quantize_annotate_layer",
            "quantize_annotate_model",
            "quantize_apply",
            "quantize_model",
            "quantize_scope",
            "quantizers",
        ),
        collab_opts=_Names(
            "tfmot.quantization.keras.collab_opts", ("Default8BitPrunePreserveQuantizeScheme",)
        ),
        default_8bit=_Names(
            "tfmot.quantization.keras.default_8bit", ("Default8BitQuantizeScheme",)
        ),
    ),
)
experimental = _Names("tfmot.experimental", combine=_Names("tfmot.experimental.combine", _SCHEMES))
