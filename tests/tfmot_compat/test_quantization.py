"""Quantization by the names of tensorflow-model-optimization."""

from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune
import tfprune as quantization
from tfprune.deploy.qat.layer_map import QUANTIZED
from tfprune.deploy.qat.quantize_aware import float_layers
from tfprune.deploy.verify.operations import float_operations
from tfprune.errors import ModelError, OptionError
from tfprune.runtime import flatbuffer

L = keras.layers
X = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")


def small(api=keras):
    layers = api.layers
    return api.Sequential([
        layers.InputLayer((8,)),
        layers.Dense(12, activation="relu", name="first"),
        layers.Dense(3, name="last"),
    ])  # fmt: skip


class DenseConfig(quantization.QuantizeConfig):
    """The kernel in 8 bits and the activation, as guides write it."""

    def get_weights_and_quantizers(self, layer):
        quantizer = quantization.quantizers.LastValueQuantizer(
            num_bits=8, symmetric=True, narrow_range=False, per_axis=False
        )
        return [(layer.kernel, quantizer)]

    def get_activations_and_quantizers(self, layer):
        quantizer = quantization.quantizers.MovingAverageQuantizer(
            num_bits=8, symmetric=False, narrow_range=False, per_axis=False
        )
        return [(layer.activation, quantizer)]

    def set_quantize_weights(self, layer, quantize_weights):
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


class FourBits(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        quantizer = quantization.quantizers.LastValueQuantizer(
            num_bits=4, symmetric=True, narrow_range=False, per_axis=False
        )
        return [(layer.kernel, quantizer)]


class NoConfig(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        return []

    def get_activations_and_quantizers(self, layer):
        return []


class Clipped(quantization.quantizers.Quantizer):
    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return keras.ops.clip(inputs, -0.1, 0.1)

    def get_config(self):
        return {}


class ClippedConfig(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, Clipped())]


class Own(L.Dense):
    pass


def fit(model):
    model.compile("adam", "mse")
    model.fit(X, np.zeros((40, 3)), batch_size=20, verbose=0)
    return model


def integers(data: bytes) -> dict[str, int]:
    """Return the integer operations of a file."""
    contents = flatbuffer.parse(data)
    found = Counter(op.name for op in contents.ops()) - Counter(float_operations(contents))
    return {name: n for name, n in found.items() if name not in ("QUANTIZE", "DEQUANTIZE")}


def agree(model) -> bytes:
    """Return the int8 file of a trained model, compared with it."""
    artifact = tfprune.to_tflite(model, scheme="int8", io="float32")
    got, trained = tfprune.Runner(artifact)(X), model.predict(X, verbose=0)
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.999
    return artifact.bytes


def test_a_whole_model_is_rounded_trained_saved_and_deployed(tmp_path: Path) -> None:
    base = small()
    model = quantization.quantize_model(base)
    names = [layer.name for layer in model.layers if "quant_" in layer.name]
    assert names == ["quant_first", "quant_last"]
    before = base.get_weights()
    fit(model)
    np.testing.assert_array_equal(base.get_weights()[0], before[0])
    model.save(tmp_path / "model.keras")
    with quantization.quantize_scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    assert integers(agree(loaded)) == {"FULLY_CONNECTED": 2}
    plain = tfprune.strip_quantization(loaded)
    assert [layer.name for layer in plain.layers if "input" not in layer.name] == ["first", "last"]
    other = quantization.quantize_model(base, quantized_layer_name_prefix=None)
    assert other.get_layer("last")


def test_annotated_layers_alone_are_rounded() -> None:
    def annotate(layer):
        return quantization.quantize_annotate_layer(layer) if layer.name == "last" else layer

    base = small()
    annotated = keras.models.clone_model(base, clone_function=annotate)
    np.testing.assert_allclose(annotated(X), base(X), rtol=1e-6)
    model = fit(quantization.quantize_apply(annotated))
    assert float_layers(model) == ("first",)
    assert integers(agree(model)) == {"FULLY_CONNECTED": 1}


@pytest.mark.slow
def test_a_layer_of_ones_own_is_rounded_as_its_config_says(tmp_path: Path) -> None:
    layers = [Own(6, activation="relu", name="own"), L.Dense(3, name="last")]
    annotated = keras.Sequential([
        keras.Input((8,)),
        quantization.quantize_annotate_layer(layers[0], FourBits()),
        layers[1],
    ])  # fmt: skip
    with quantization.quantize_scope({"Own": Own, "FourBits": FourBits}):
        model = quantization.quantize_apply(quantization.quantize_annotate_model(annotated))
        fit(model).save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    data = agree(loaded)
    assert integers(data) == {"FULLY_CONNECTED": 2}
    kinds = {tensor.dtype for tensor in flatbuffer.parse(data).subgraphs[0].tensors}
    assert "int4" in kinds


@pytest.mark.slow
def test_a_quantizer_of_ones_own_changes_the_weights(tmp_path: Path) -> None:
    base = small()
    annotated = keras.Sequential([
        keras.Input((8,)),
        base.layers[0],
        quantization.quantize_annotate_layer(base.layers[1], ClippedConfig()),
    ])  # fmt: skip
    model = fit(quantization.quantize_apply(annotated))
    model.save(tmp_path / "model.keras")
    with quantization.quantize_scope({"Clipped": Clipped}):
        model = keras.models.load_model(tmp_path / "model.keras")
    assert np.abs(model.get_layer("quant_last").kernel).max() <= 0.1001
    assert integers(agree(model)) == {"FULLY_CONNECTED": 1}


class WeightsAlone(DenseConfig):
    def get_activations_and_quantizers(self, layer):
        return []


@pytest.mark.slow
def test_an_output_that_no_quantizer_is_given_stays_float() -> None:
    base = small()
    annotated = keras.Sequential([
        keras.Input((8,)),
        base.layers[0],
        quantization.quantize_annotate_layer(base.layers[1], WeightsAlone()),
    ])  # fmt: skip
    model = fit(quantization.quantize_apply(annotated))
    assert float_layers(model) == ("first", "quant_last")
    assert type(model.layers[-1]) is QUANTIZED[L.Dense]
    agree(model)
    plain = tfprune.strip_quantization(model)
    assert [layer.name for layer in plain.layers[1:]] == ["first", "last"]


@pytest.mark.slow
def test_schemes_keep_zeros_and_equal_weights() -> None:
    base = small()
    kernel = base.get_layer("first").kernel
    kernel.assign(np.sign(kernel) * (np.abs(kernel) > 0.2))
    annotated = quantization.quantize_annotate_model(base)
    zeros = np.asarray(kernel) == 0
    for name, shared in (("Prune", False), ("Cluster", True)):
        scheme = getattr(quantization, f"Default8Bit{name}PreserveQuantizeScheme")()
        model = quantization.quantize_apply(annotated, scheme)
        stripped = np.asarray(tfprune.strip_quantization(fit(model)).get_layer("first").kernel)
        assert (stripped[zeros] == 0).all()
        assert (np.unique(stripped).size == 3) == shared
    free = tfprune.strip_quantization(fit(quantization.quantize_apply(annotated)))
    assert (np.asarray(free.get_layer("first").kernel)[zeros] != 0).any()


def test_wrong_arguments_are_one_line() -> None:
    with pytest.raises(ModelError, match="no layer of the model 'named' is annotated"):
        quantization.quantize_apply(keras.Sequential([keras.Input((8,)), L.Dense(3)], name="named"))
    for verb in (quantization.quantize_apply, quantization.quantize_model):
        with pytest.raises(ModelError, match=r"quantize_\w+: expected a keras.Model. Received Non"):
            verb(None)
    with pytest.raises(ModelError, match="expected a layer. Received keras.Sequential"):
        quantization.quantize_annotate_layer(small())
    with pytest.raises(OptionError, match="quantize_config: expected a tfprune.QuantizeConfig"):
        quantization.quantize_annotate_layer(L.Dense(3), "int8")
    nothing = [keras.Input((8,)), quantization.quantize_annotate_layer(L.Dense(3), NoConfig())]
    with pytest.raises(OptionError, match="no layer of the model is left to be rounded"):
        quantization.quantize_apply(keras.Sequential(nothing))
    with pytest.raises(OptionError, match="scheme: expected a tfprune.Default8Bit"):
        quantization.quantize_apply(quantization.quantize_annotate_model(small()), "int8")


def test_models_of_tf_keras_are_rounded_by_the_toolkit() -> None:
    import tf_keras

    base = small(tf_keras)
    assert type(quantization.quantize_model(base).layers[-1]).__name__ == "QuantizeWrapperV2"
    annotated = tf_keras.Sequential([
        base.layers[0],
        quantization.quantize_annotate_layer(base.layers[1], FourBits()),
    ])  # fmt: skip
    annotated.build((None, 8))
    for given in (
        None,
        quantization.Default8BitPrunePreserveQuantizeScheme(),
        quantization.Default8BitClusterPreserveQuantizeScheme(False),
    ):
        with quantization.quantize_scope({"FourBits": FourBits}):
            model = quantization.quantize_apply(annotated, given)
        fit(model)
        assert type(model.layers[-1].quantize_config) is FourBits
    with quantization.quantize_scope({"FourBits": FourBits}):
        copy = tf_keras.models.clone_model(model)
    assert copy.layers[-1].name == "quant_last"
