"""A user's script: every verb, called as it is meant to be. `reveal:` is what the checker sees."""

from typing import reveal_type

import keras
import numpy as np

import tfprune

x = np.zeros((8, 4), np.float32)
y = np.zeros(8, np.int64)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

# Zeros that hold while the model trains.
schedule = tfprune.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100)
tfprune.prune(model, 0.5, score="magnitude", pattern="2:4", allocation={"dense": 0.5})
tfprune.prune(model, schedule=schedule, only="dense", skip=[lambda kernel: kernel.path == "head"])
tfprune.prune([keras.layers.Dense(2)], score=lambda weights, evidence: np.abs(weights))
tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0), block_pooling_type="MAX")
tfprune.prune_oneshot(model, x, 0.5, method="wanda", only=["dense"])
tfprune.prune_oneshot(model, x, 0.5, bits=4)
model = tfprune.round_weights(model, x, bits=8, skip="dense")
model.fit(x, y, callbacks=[tfprune.UpdatePruningStep(), tfprune.PruningSummaries("logs")])
reveal_type(tfprune.sparsity_of(model).sparsity)  # reveal: float
reveal_type(tfprune.oneshot_report(model))  # reveal: OneShotReport
reveal_type(tfprune.save_masks(model, "masks.npz"))  # reveal: Path
model = tfprune.strip_pruning(tfprune.load_masks(model, "masks.npz"))
reveal_type(tfprune.OneShot(0.5)(0))  # reveal: tuple[bool, float]
reveal_type(tfprune.Geometric(0.9, 3, 100).final())  # reveal: float


class Policy(tfprune.PruningPolicy):
    spared: tuple[keras.layers.Layer, ...] = ()

    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        return layer not in self.spared

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        pass


class Scale(keras.layers.Layer, tfprune.PrunableLayer):  # type: ignore[misc]  # Keras has no types
    def get_prunable_weights(self) -> list[keras.Variable]:
        return [self.table]


tfprune.prune_low_magnitude(model, pruning_policy=Policy())
tfprune.prune_low_magnitude(model, pruning_policy=tfprune.PruneForLatencyOnXNNPack())

# Units really removed.
small, report = tfprune.shrink(
    model, {"macs": 0.5}, importance="l1", only="dense", ratios={"conv": 0.5}, input_shape=(4,)
)
reveal_type(report)  # reveal: ShrinkReport
reveal_type(report.target)  # reveal: dict[str, float] | str | None
reveal_type(report.after.macs)  # reveal: int | None
small, report = tfprune.shrink(tfprune.add_gates(model, kind="l1", penalty=0.1), "gates")
small, report = tfprune.shrink(model, tfprune.Plan.load("plan.json"), data=(x, y), loss="mse")
small, report = tfprune.shrink(model, {"tflite_bytes": 200_000}, skip=(lambda g: g.exact, "head"))
reveal_type(report.plan)  # reveal: Plan
reveal_type([group.name for group in tfprune.units(model)])  # reveal: list[str]
small = tfprune.recalibrate(small, x)
reveal_type(tfprune.layers.ChannelGate(kind="hard"))  # reveal: ChannelGate
reveal_type(tfprune.rules.find(model.layers[0]))  # reveal: Rule | None

# The file a phone runs.
aware = tfprune.quantize_aware(model, skip="head", only=["d"], bits={"d": 4}, ranges="last_value")
artifact = tfprune.to_tflite(
    aware, "model.tflite", scheme="int8", calibration=x, io="float32", allow_float=["SOFTMAX"]
)
tfprune.to_tflite(model, scheme="auto", calibration=x, data=(x, y), prefer="size", max_drop=0.01)
reveal_type(artifact)  # reveal: Artifact
older: tfprune.Artefact = artifact
reveal_type(artifact.report.gzip_bytes)  # reveal: int
reveal_type(tfprune.to_onnx(tfprune.strip_quantization(aware), opset=15))  # reveal: Artifact
reveal_type(tfprune.Runner("model.tflite").invoke_ms())  # reveal: float
reveal_type(tfprune.inspect(artifact))  # reveal: Inspection
reveal_type(tfprune.sparse_ready("model.tflite"))  # reveal: Readiness
reveal_type(tfprune.make_sparse_ready(model)[1])  # reveal: SparseRewrite
reveal_type(tfprune.compare_layers(model, artifact, x))  # reveal: LayerTable

# Measured.
gate = tfprune.Gate(min_accuracy=0.9)
reveal_type(tfprune.benchmark(artifact, threads=2, runs=10))  # reveal: Latency
reveal_type(tfprune.compare("a.tflite", {"int8": artifact}, (x, y), gate=gate))  # reveal: Report
reveal_type(tfprune.Report.from_json("{}").passed)  # reveal: bool
reveal_type(tfprune.macs(model, (4,)).total)  # reveal: int
reveal_type(tfprune.profile("model.tflite").steps[0].median_us)  # reveal: float

# The other generation of Keras.
with tfprune.prune_scope():
    loaded = tfprune.load_model("old.h5")
tfprune.to_keras3(tfprune.to_tf_keras(loaded))


# Names to annotate with.
def constant(share: float) -> tfprune.PruningSchedule:
    return tfprune.ConstantSparsity(share, 0)


def shared(layer: tfprune.ClusterableLayer) -> object:
    return layer.get_clusterable_weights()


def shrunk(model: keras.Model) -> tuple[tfprune.Artifact, tfprune.ShrinkReport]:
    small, report = tfprune.shrink(model, {"macs": 0.5})
    return tfprune.to_tflite(small), report


# Rounding by the toolkit's names.


class Rounded(tfprune.QuantizeConfig):
    def get_weights_and_quantizers(
        self, layer: keras.layers.Layer
    ) -> list[tuple[keras.Variable, tfprune.quantizers.Quantizer]]:
        return [(layer.kernel, tfprune.quantizers.LastValueQuantizer(4, False, True, True))]

    def get_activations_and_quantizers(
        self, layer: keras.layers.Layer
    ) -> list[tuple[keras.layers.Layer, tfprune.quantizers.Quantizer]]:
        return []

    def set_quantize_weights(self, layer: object, quantize_weights: object) -> None:
        pass

    def set_quantize_activations(self, layer: object, quantize_activations: object) -> None:
        pass

    def get_output_quantizers(self, layer: object) -> list[tfprune.quantizers.Quantizer]:
        return [tfprune.quantizers.AllValuesQuantizer(8, False, False, False)]

    def get_config(self) -> dict[str, object]:
        return {}


@tfprune.rounding.register(Scale)
def scale_rounding(layer: keras.layers.Layer) -> tfprune.rounding.LayerRounding:
    weights = {"table": tfprune.rounding.WeightRounding(bits=4)}
    return tfprune.rounding.LayerRounding(weights=weights, ranges="all_values")


with tfprune.quantize_scope({"Rounded": Rounded}):
    tfprune.quantize_annotate_layer(keras.layers.Dense(2), Rounded())
    annotated = tfprune.quantize_annotate_model(model)
    tfprune.quantize_apply(annotated, tfprune.Default8BitPrunePreserveQuantizeScheme())
    tfprune.quantize_apply(annotated, tfprune.Default8BitClusterPreserveQuantizeScheme(False))
    tfprune.quantize_apply(annotated, tfprune.Default8BitQuantizeScheme())
    tfprune.quantize_model(model, quantized_layer_name_prefix="q_")

# Shared values.
clustered = tfprune.cluster(model, 16, only=["dense.*"])
tfprune.strip_clustering(clustered)
kind, sums = tfprune.CentroidInitialization.LINEAR, tfprune.GradientAggregation.SUM
with tfprune.cluster_scope():
    tfprune.cluster_weights(model, 8, kind, cluster_gradient_aggregation=sums)
summaries = tfprune.ClusteringSummaries("logs")

# One run.
reveal_type(tfprune.Task("regression", unit="kg").measures[0].title)  # reveal: str
reveal_type(tfprune.compress(model, {"prune": {"sparsity": 0.5}}, (x, y)).report)  # reveal: Report
reveal_type(tfprune.check("runs/one", limits=gate).passed)  # reveal: bool
reveal_type(tfprune.__version__)  # reveal: str
