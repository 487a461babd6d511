"""How one layer is rounded: bits, channels and rules for layers of one's own."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy.qat.rounding.layer_rounding import LayerRounding, WeightRounding
from tfprune.errors import OptionError
from tfprune.runtime import flatbuffer

L = keras.layers


def kernels(artifact) -> list[tuple[str, str, int]]:
    """Return the operation, type and number of scales of each kernel of a file."""
    graph = flatbuffer.parse(artifact.bytes).subgraphs[0]
    found = [(op.name, graph.tensors[op.inputs[1]]) for op in graph.ops if len(op.inputs) == 3]
    return [(name, kernel.dtype, len(kernel.scales)) for name, kernel in found]


@pytest.mark.slow
def test_kernels_of_4_bits_are_in_the_file_what_training_rounded_to(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(6, 3, use_bias=False, name="conv"), L.BatchNormalization(), L.ReLU()]
    layers += [L.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"), L.Flatten()]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers, L.Dense(3, name="last")])
    x = np.random.default_rng(0).normal(size=(40, 6, 6, 2)).astype("float32")
    aware = tfprune.quantize_aware(model, bits={"conv": 4, "depthwise": 4})
    aware(x, training=True)
    assert len(np.unique(np.asarray(aware.get_layer("conv").kernel)[..., 0])) <= 15
    aware.save(tmp_path / "m.keras")
    aware = keras.models.load_model(tmp_path / "m.keras")
    artifact = tfprune.to_tflite(aware, scheme="int8", io="float32")
    assert kernels(artifact) == [
        ("CONV_2D", "int4", 6),
        ("DEPTHWISE_CONV_2D", "int4", 12),
        ("FULLY_CONNECTED", "int8", 1),
    ]
    got, trained = tfprune.Runner(artifact)(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.999
    plain = tfprune.strip_quantization(aware).get_layer("conv").kernel
    assert len(np.unique(plain)) > 15


@keras.saving.register_keras_serializable("tests")
class Scaled(L.Layer):
    """A product and a bias of its own."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 5), name="matrix")

    def call(self, x):
        return x @ self.table


def test_a_rule_says_how_layers_of_ones_own_are_rounded(tmp_path) -> None:
    @tfprune.rounding.register(Scaled)
    def scaled(layer):
        return LayerRounding(weights={"table": WeightRounding(bits=4)}, ranges="all_values")

    model = keras.Sequential([keras.Input((8,)), Scaled(name="own"), L.Dense(2, name="last")])
    x = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")
    aware = tfprune.quantize_aware(model)
    aware(x, training=True)
    aware.save(tmp_path / "m.keras")
    aware = keras.models.load_model(tmp_path / "m.keras")
    assert aware.get_layer("own_range").kind == "all_values"
    artifact = tfprune.to_tflite(aware, scheme="int8", io="float32")
    assert [kind for _, kind, _ in kernels(artifact)] == ["int4", "int8"]
    got, trained = tfprune.Runner(artifact)(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.999


def test_wrong_roundings_are_one_line() -> None:
    with pytest.raises(OptionError, match="bits: the runtime takes .* 4 or 8 bits. Received 5"):
        LayerRounding(bits=5)
    with pytest.raises(
        OptionError, match="ranges: unknown kind 'last'. Known: all_values, last_value"
    ):
        LayerRounding(ranges="last")
    dense = L.Dense(2, name="named")
    dense.build((None, 3))
    with pytest.raises(OptionError, match="layer 'named': no weight 'kernal'.*Did you mean kernel"):
        LayerRounding(weights={"kernal": WeightRounding(bits=4)}).of_weights(dense)
