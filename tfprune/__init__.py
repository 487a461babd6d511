"""Smaller, faster, still accurate Keras models, as `.tflite` files with the proof beside them.

Every public name lives in the module named here and is imported when it is first used, so that
`import tfprune` costs nothing and loads neither TensorFlow nor tf_keras.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    # sparsity: zeros that hold while the model trains
    "ConstantSparsity": "sparsity.choices.schedules",
    "Geometric": "sparsity.choices.schedules",
    "OneShot": "sparsity.choices.schedules",
    "PolynomialDecay": "sparsity.choices.schedules",
    "PrunableLayer": "tfmot_compat.policies",
    "PruneForLatencyOnXNNPack": "tfmot_compat.policies",
    "PruningPolicy": "tfmot_compat.policies",
    "PruningSchedule": "sparsity.choices.schedules",
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
    "add_gates": "structure.gates.add_gates",
    "layers": "structure",
    "recalibrate": "structure.rebuild.recalibrate",
    "rules": "structure",
    "shrink": "structure.shrink",
    "units": "structure.groups.units",
    # deploy: the file a phone runs
    "Artefact": "runtime.artifact",
    "Runner": "runtime.litert",
    "compare_layers": "deploy.verify.layer_parity",
    "inspect": "runtime.inspect",
    "make_sparse_ready": "deploy.make_sparse_ready",
    "quantize_aware": "deploy.qat.quantize_aware",
    "sparse_ready": "runtime.sparse_ready",
    "strip_quantization": "deploy.qat.quantize_aware",
    "to_onnx": "deploy.onnx.to_onnx",
    "to_tflite": "deploy.tflite",
    # measure: the truth about it
    "Gate": "report.gates",
    "Report": "report.report",
    "benchmark": "measure.latency",
    "compare": "measure.comparison",
    "macs": "graph.macs",
    "profile": "measure.profile",
    # legacy: the other generation of Keras
    "load_model": "bridge.load",
    "prune_scope": "tfmot_compat.adapter",
    "to_keras3": "bridge.bridge",
    "to_tf_keras": "bridge.bridge",
    # the whole of it, as one run
    "check": "pipeline",
    "compress": "pipeline",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfprune.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
