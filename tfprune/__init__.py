"""Smaller, faster, still accurate Keras models, as `.tflite` files with the proof beside them.

Every public name lives in the module named here and is imported when it is first used, so that
`import tfprune` costs nothing and loads neither TensorFlow nor tf_keras.
"""

import importlib

from tfprune.registration import register_layers

__version__ = "0.1.0"

_HOME = {
    # sparsity: zeros that hold while the model trains
    "ConstantSparsity": "sparsity.schedules",
    "Geometric": "sparsity.schedules",
    "OneShot": "sparsity.schedules",
    "PolynomialDecay": "sparsity.schedules",
    "PrunableLayer": "sparsity.policies",
    "PruneForLatencyOnXNNPack": "sparsity.policies",
    "PruningPolicy": "sparsity.policies",
    "PruningSchedule": "sparsity.schedules",
    "PruningSummaries": "sparsity.callbacks",
    "UpdatePruningStep": "sparsity.callbacks",
    "load_masks": "sparsity.mask_files",
    "oneshot_report": "sparsity.oneshot.report",
    "prune": "sparsity.pruning",
    "prune_low_magnitude": "sparsity.pruning",
    "prune_oneshot": "sparsity.oneshot.prune",
    "save_masks": "sparsity.mask_files",
    "sparsity_of": "sparsity.summary",
    "strip_pruning": "sparsity.pruning",
    # structure: units really removed
    "Plan": "structure.plan",
    "ShrinkReport": "structure.report",
    "add_gates": "structure.gates",
    "layers": "structure",
    "recalibrate": "structure.recalibrate",
    "rules": "structure",
    "shrink": "structure.shrink",
    "units": "structure.units",
    # deploy: the file a phone runs
    "Artefact": "deploy.artefact",
    "Runner": "deploy.runtime",
    "compare_layers": "deploy.layer_parity",
    "inspect": "deploy.inspect",
    "make_sparse_ready": "deploy.sparse_rewrite",
    "quantize_aware": "deploy.qat",
    "sparse_ready": "deploy.sparse_ready",
    "strip_quantization": "deploy.qat",
    "to_onnx": "deploy.onnx",
    "to_tflite": "deploy.tflite",
    # measure: the truth about it
    "Gate": "report.gates",
    "Report": "report.data",
    "benchmark": "measure.latency",
    "compare": "measure.comparison",
    "macs": "measure.macs",
    "profile": "measure.profile",
    # legacy: the other generation of Keras
    "load_model": "legacy.load",
    "prune_scope": "legacy.tfmot",
    "to_keras3": "legacy.bridge",
    "to_tf_keras": "legacy.bridge",
    # the whole of it, as one run
    "check": "pipeline",
    "compress": "pipeline",
}

__all__ = ["__version__", *_HOME]

register_layers()


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfprune.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
