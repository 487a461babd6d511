"""Smaller, faster, still accurate Keras models, as `.tflite` files with the proof beside them.

Every public name lives in the module named here and is imported when it is first used, so that
`import tfprune` costs nothing and loads neither TensorFlow nor tf_keras.
"""

import importlib

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
    "check": "pipeline.check",
    "compress": "pipeline.compress",
}

__all__ = ["__version__", *_HOME]


# What type checkers and editors read; a name that is not there is an error to them. They know this
# variable by its name, and `typing`, which has one, takes longer to import than this file.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tfprune.deploy.artefact import Artefact as Artefact
    from tfprune.deploy.inspect import inspect as inspect
    from tfprune.deploy.layer_parity import compare_layers as compare_layers
    from tfprune.deploy.onnx import to_onnx as to_onnx
    from tfprune.deploy.qat import quantize_aware as quantize_aware
    from tfprune.deploy.qat import strip_quantization as strip_quantization
    from tfprune.deploy.runtime import Runner as Runner
    from tfprune.deploy.sparse_ready import sparse_ready as sparse_ready
    from tfprune.deploy.sparse_rewrite import make_sparse_ready as make_sparse_ready
    from tfprune.deploy.tflite import to_tflite as to_tflite
    from tfprune.legacy.bridge import to_keras3 as to_keras3
    from tfprune.legacy.bridge import to_tf_keras as to_tf_keras
    from tfprune.legacy.load import load_model as load_model
    from tfprune.legacy.tfmot import prune_scope as prune_scope
    from tfprune.measure.comparison import compare as compare
    from tfprune.measure.latency import benchmark as benchmark
    from tfprune.measure.macs import macs as macs
    from tfprune.measure.profile import profile as profile
    from tfprune.pipeline.check import check as check
    from tfprune.pipeline.compress import compress as compress
    from tfprune.report.data import Report as Report
    from tfprune.report.gates import Gate as Gate
    from tfprune.sparsity.callbacks import PruningSummaries as PruningSummaries
    from tfprune.sparsity.callbacks import UpdatePruningStep as UpdatePruningStep
    from tfprune.sparsity.mask_files import load_masks as load_masks
    from tfprune.sparsity.mask_files import save_masks as save_masks
    from tfprune.sparsity.oneshot.prune import prune_oneshot as prune_oneshot
    from tfprune.sparsity.oneshot.report import oneshot_report as oneshot_report
    from tfprune.sparsity.policies import PrunableLayer as PrunableLayer
    from tfprune.sparsity.policies import PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack
    from tfprune.sparsity.policies import PruningPolicy as PruningPolicy
    from tfprune.sparsity.pruning import prune as prune
    from tfprune.sparsity.pruning import prune_low_magnitude as prune_low_magnitude
    from tfprune.sparsity.pruning import strip_pruning as strip_pruning
    from tfprune.sparsity.schedules import ConstantSparsity as ConstantSparsity
    from tfprune.sparsity.schedules import Geometric as Geometric
    from tfprune.sparsity.schedules import OneShot as OneShot
    from tfprune.sparsity.schedules import PolynomialDecay as PolynomialDecay
    from tfprune.sparsity.schedules import PruningSchedule as PruningSchedule
    from tfprune.sparsity.summary import sparsity_of as sparsity_of
    from tfprune.structure import layers as layers
    from tfprune.structure import rules as rules
    from tfprune.structure.gates import add_gates as add_gates
    from tfprune.structure.plan import Plan as Plan
    from tfprune.structure.recalibrate import recalibrate as recalibrate
    from tfprune.structure.report import ShrinkReport as ShrinkReport
    from tfprune.structure.shrink import shrink as shrink
    from tfprune.structure.units import units as units
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
        return getattr(importlib.import_module(f"tfprune.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
