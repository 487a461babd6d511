"""Prune, shrink and quantize Keras 3 models, and export verified `.tflite` files.

Every public name is imported from the module listed here when it is first used, so that
`import tfprune` is fast and loads neither TensorFlow nor tf_keras.
"""

import importlib
import sys

__version__ = "0.1.0"

_HOME = {
    # pruning: weights kept at zero while the model trains
    "ConstantSparsity": "sparsity.choices.schedules",
    "Geometric": "sparsity.choices.schedules",
    "OneShot": "sparsity.choices.schedules",
    "PolynomialDecay": "sparsity.choices.schedules",
    "PrunableLayer": "tfmot_compat.policies",
    "PruneForLatencyOnXNNPack": "tfmot_compat.policies",
    "PruningPolicy": "tfmot_compat.policies",
    "PruningSchedule": "sparsity.choices.schedules",
    "PruningSummaries": "tfmot_compat.callbacks",
    "UpdatePruningStep": "tfmot_compat.callbacks",
    "load_masks": "sparsity.mask_files",
    "oneshot_report": "sparsity.oneshot.report",
    "prune": "sparsity.pruning",
    "prune_low_magnitude": "tfmot_compat.low_magnitude",
    "prune_oneshot": "sparsity.oneshot.prune",
    "round_weights": "sparsity.oneshot.round",
    "save_masks": "sparsity.mask_files",
    "sparsity_of": "sparsity.summary",
    "strip_pruning": "tfmot_compat.low_magnitude",
    # clustering: weights that share values
    "CentroidInitialization": "tfmot_compat.clustering",
    "ClusterableLayer": "tfmot_compat.clustering",
    "ClusteringSummaries": "tfmot_compat.clustering",
    "GradientAggregation": "tfmot_compat.clustering",
    "cluster": "clustering.cluster",
    "cluster_scope": "tfmot_compat.clustering",
    "cluster_weights": "tfmot_compat.clustering",
    "strip_clustering": "tfmot_compat.clustering",
    # rounding while the model trains
    "Default8BitClusterPreserveQuantizeScheme": "tfmot_compat.quantization",
    "Default8BitPrunePreserveQuantizeScheme": "tfmot_compat.quantization",
    "Default8BitQuantizeScheme": "tfmot_compat.quantization",
    "QuantizeConfig": "tfmot_compat.quantize_config",
    "quantize_annotate_layer": "tfmot_compat.quantization",
    "quantize_annotate_model": "tfmot_compat.quantization",
    "quantize_apply": "tfmot_compat.quantization",
    "quantize_aware": "deploy.qat.quantize_aware",
    "quantize_model": "tfmot_compat.quantization",
    "quantize_scope": "tfmot_compat.quantization",
    "quantizers": "tfmot_compat",
    "rounding": "deploy.qat",
    "strip_quantization": "deploy.qat.quantize_aware",
    # shrinking: channels, heads and blocks removed
    "Plan": "structure.select.plan",
    "ShrinkReport": "structure.report",
    "add_gates": "structure.gates.add_gates",
    "layers": "structure.gates",
    "recalibrate": "structure.rebuild.recalibrate",
    "rules": "structure",
    "shrink": "structure.shrink",
    "units": "structure.groups.units",
    # files
    "Artefact": "runtime.artifact",  # the name of Artifact in 0.1.0
    "Artifact": "runtime.artifact",
    "Runner": "runtime.litert",
    "compare_layers": "deploy.verify.layer_parity",
    "inspect": "runtime.inspect",
    "make_sparse_ready": "deploy.make_sparse_ready",
    "sparse_ready": "runtime.sparse_ready",
    "to_onnx": "deploy.onnx.to_onnx",
    "to_tflite": "deploy.tflite",
    # measuring
    "Gate": "report.gates",
    "Report": "report.report",
    "Task": "task.task",
    "benchmark": "measure.latency",
    "compare": "measure.comparison",
    "macs": "graph.cost.macs",
    "profile": "measure.profile",
    # the other generation of Keras
    "load_model": "loading.load",
    "prune_scope": "tfmot_compat.files",
    "to_keras3": "bridge.bridge",
    "to_tf_keras": "bridge.bridge",
    # the pipeline
    "check": "pipeline.check",
    "compress": "pipeline.compress",
}

# Public names that are modules, not functions or classes.
_MODULES = ("layers", "quantizers", "rounding", "rules")

__all__ = ["__version__", *_HOME]

# For type checkers and editors, which recognize this variable by its name; importing `typing`
# for its own would take longer than importing this file.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from tfprune.bridge.bridge import to_keras3 as to_keras3
    from tfprune.bridge.bridge import to_tf_keras as to_tf_keras
    from tfprune.clustering.cluster import cluster as cluster
    from tfprune.deploy.make_sparse_ready import make_sparse_ready as make_sparse_ready
    from tfprune.deploy.onnx.to_onnx import to_onnx as to_onnx
    from tfprune.deploy.qat import rounding as rounding
    from tfprune.deploy.qat.quantize_aware import quantize_aware as quantize_aware
    from tfprune.deploy.qat.quantize_aware import strip_quantization as strip_quantization
    from tfprune.deploy.tflite import to_tflite as to_tflite
    from tfprune.deploy.verify.layer_parity import compare_layers as compare_layers
    from tfprune.graph.cost.macs import macs as macs
    from tfprune.loading.load import load_model as load_model
    from tfprune.measure.comparison import compare as compare
    from tfprune.measure.latency import benchmark as benchmark
    from tfprune.measure.profile import profile as profile
    from tfprune.pipeline.check import check as check
    from tfprune.pipeline.compress import compress as compress
    from tfprune.report.gates import Gate as Gate
    from tfprune.report.report import Report as Report
    from tfprune.runtime.artifact import Artefact as Artefact
    from tfprune.runtime.artifact import Artifact as Artifact
    from tfprune.runtime.inspect import inspect as inspect
    from tfprune.runtime.litert import Runner as Runner
    from tfprune.runtime.sparse_ready import sparse_ready as sparse_ready
    from tfprune.sparsity.choices.schedules import ConstantSparsity as ConstantSparsity
    from tfprune.sparsity.choices.schedules import Geometric as Geometric
    from tfprune.sparsity.choices.schedules import OneShot as OneShot
    from tfprune.sparsity.choices.schedules import PolynomialDecay as PolynomialDecay
    from tfprune.sparsity.choices.schedules import PruningSchedule as PruningSchedule
    from tfprune.sparsity.mask_files import load_masks as load_masks
    from tfprune.sparsity.mask_files import save_masks as save_masks
    from tfprune.sparsity.oneshot.prune import prune_oneshot as prune_oneshot
    from tfprune.sparsity.oneshot.report import oneshot_report as oneshot_report
    from tfprune.sparsity.oneshot.round import round_weights as round_weights
    from tfprune.sparsity.pruning import prune as prune
    from tfprune.sparsity.summary import sparsity_of as sparsity_of
    from tfprune.structure import rules as rules
    from tfprune.structure.gates import layers as layers
    from tfprune.structure.gates.add_gates import add_gates as add_gates
    from tfprune.structure.groups.units import units as units
    from tfprune.structure.rebuild.recalibrate import recalibrate as recalibrate
    from tfprune.structure.report import ShrinkReport as ShrinkReport
    from tfprune.structure.select.plan import Plan as Plan
    from tfprune.structure.shrink import shrink as shrink
    from tfprune.task.task import Task as Task
    from tfprune.tfmot_compat import quantizers as quantizers
    from tfprune.tfmot_compat.callbacks import PruningSummaries as PruningSummaries
    from tfprune.tfmot_compat.callbacks import UpdatePruningStep as UpdatePruningStep
    from tfprune.tfmot_compat.clustering import CentroidInitialization as CentroidInitialization
    from tfprune.tfmot_compat.clustering import ClusterableLayer as ClusterableLayer
    from tfprune.tfmot_compat.clustering import ClusteringSummaries as ClusteringSummaries
    from tfprune.tfmot_compat.clustering import GradientAggregation as GradientAggregation
    from tfprune.tfmot_compat.clustering import cluster_scope as cluster_scope
    from tfprune.tfmot_compat.clustering import cluster_weights as cluster_weights
    from tfprune.tfmot_compat.clustering import strip_clustering as strip_clustering
    from tfprune.tfmot_compat.files import prune_scope as prune_scope
    from tfprune.tfmot_compat.low_magnitude import prune_low_magnitude as prune_low_magnitude
    from tfprune.tfmot_compat.low_magnitude import strip_pruning as strip_pruning
    from tfprune.tfmot_compat.policies import PrunableLayer as PrunableLayer
    from tfprune.tfmot_compat.policies import PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack
    from tfprune.tfmot_compat.policies import PruningPolicy as PruningPolicy
    from tfprune.tfmot_compat.quantization import (
        Default8BitClusterPreserveQuantizeScheme as Default8BitClusterPreserveQuantizeScheme,
    )
    from tfprune.tfmot_compat.quantization import (
        Default8BitPrunePreserveQuantizeScheme as Default8BitPrunePreserveQuantizeScheme,
    )
    from tfprune.tfmot_compat.quantization import (
        Default8BitQuantizeScheme as Default8BitQuantizeScheme,
    )
    from tfprune.tfmot_compat.quantization import quantize_annotate_layer as quantize_annotate_layer
    from tfprune.tfmot_compat.quantization import quantize_annotate_model as quantize_annotate_model
    from tfprune.tfmot_compat.quantization import quantize_apply as quantize_apply
    from tfprune.tfmot_compat.quantization import quantize_model as quantize_model
    from tfprune.tfmot_compat.quantization import quantize_scope as quantize_scope
    from tfprune.tfmot_compat.quantize_config import QuantizeConfig as QuantizeConfig
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
        home = f"tfprune.{_HOME[name]}"
        if name in _MODULES:
            found = importlib.import_module(f"{home}.{name}")
        else:
            found = getattr(importlib.import_module(home), name)
        globals()[name] = found  # the next use does not come here
        return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _KerasWatcher:
    """An import finder that finds `keras` as usual, and registers our layers after its import."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> "ModuleSpec | None":
        """Return the spec of `keras` from the other finders, and None for other modules."""
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if not _is_watcher(finder))
        found = (finder.find_spec(name, None, None) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: "ModuleType") -> None:
            run(module)
            _register_layers()

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def _is_watcher(finder: object) -> bool:
    # By name: reloading this package creates another class of the same finder.
    return type(finder).__name__ == _KerasWatcher.__name__


def _register_layers() -> None:
    importlib.import_module("tfprune.keras_support.registration").register_layers()


# So that Keras loads files with layers of ours after nothing but `import tfprune`.
if "keras" in sys.modules:
    _register_layers()
elif not any(map(_is_watcher, sys.meta_path)):
    sys.meta_path.insert(0, _KerasWatcher())
