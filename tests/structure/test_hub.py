"""Backbones of KerasHub, from small configs: heads and hidden units go, at any length."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import tree

import tfprune
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.structure.ids.ids import HEADS

pytestmark = pytest.mark.slow

TEXT = {"vocabulary_size": 50, "num_layers": 2, "num_heads": 4, "hidden_dim": 32,
        "intermediate_dim": 48, "max_sequence_length": 16}  # fmt: skip
GROUPED = {"vocabulary_size": 50, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2,
           "hidden_dim": 32, "intermediate_dim": 48}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "BertBackbone": TEXT,
    "DistilBertBackbone": TEXT,
    "GPT2Backbone": TEXT,
    "OPTBackbone": TEXT,
    "LlamaBackbone": GROUPED,
    "ViTBackbone": {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 4,
                    "hidden_dim": 32, "mlp_dim": 48},
}  # fmt: skip


def backbone(name: str) -> Any:
    import keras_hub

    keras.utils.set_random_seed(0)
    return getattr(keras_hub.models, name)(**CONFIGS[name])


def shapes(model: Any, length: int = 12) -> Any:
    """The shapes of a model's inputs, without the batch."""
    return tree.map_structure(
        lambda tensor: tuple(length if size is None else size for size in tensor.shape[1:]),
        model._inputs_struct,
    )


def sample(model: Any, length: int = 12) -> Any:
    rng = np.random.default_rng(0)

    def one(tensor: Any) -> np.ndarray:
        shape = (2, *(length if size is None else size for size in tensor.shape[1:]))
        if "int" in keras.backend.standardize_dtype(tensor.dtype):
            return np.ones(shape, "int32") if "mask" in tensor.name else rng.integers(0, 2, shape)
        return rng.normal(size=shape).astype("float32")

    return tree.map_structure(one, model._inputs_struct)


@pytest.mark.parametrize("name", CONFIGS)
def test_heads_and_hidden_units_go(name: str, tmp_path: Path) -> None:
    model = backbone(name)
    found = tfprune.units(model, input_shape=shapes(model))
    heads = [group for group in found if group.kind == HEADS]
    assert len(heads) == 2
    assert not [note for note in found.graph.notes if "kept whole" in note]
    whole = np.asarray(tree.flatten(model(sample(model), training=False))[0])
    same, _ = tfprune.shrink(model, {"channels": 1.0}, input_shape=shapes(model))
    again = np.asarray(tree.flatten(same(sample(model), training=False))[0])
    np.testing.assert_allclose(again, whole, atol=1e-5)
    for share in (0.75, 0.5, 0.25):
        small, report = tfprune.shrink(
            model, {"channels": share}, ranking="uniform", round_to=1, input_shape=shapes(model)
        )
        assert report.error <= 1e-4
        assert report.exact
        kept = {change.after for change in report.groups if change.kind == HEADS}
        assert kept == {max(1, round(len(heads[0].units) * share))}
        small.save(tmp_path / "small.keras")
        loaded = keras.models.load_model(tmp_path / "small.keras")
        for one, other in zip(
            tree.flatten(small(sample(small), training=False)),
            tree.flatten(loaded(sample(small), training=False)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_only_heads_when_only_heads_are_asked_for() -> None:
    model = backbone("BertBackbone")
    small, report = tfprune.shrink(
        model, {"channels": 0.5}, ranking="uniform", only=r".*num_heads", input_shape=shapes(model)
    )
    attention = [layer for layer in small.layers if isinstance(layer, kl.MultiHeadAttention)]
    assert [(layer.num_heads, layer.key_dim) for layer in attention] == [(2, 8)] * 2
    assert report.exact


def test_a_decoder_keeps_to_what_came_before_at_any_length() -> None:
    model = backbone("GPT2Backbone")
    small, _ = tfprune.shrink(
        model, {"channels": 0.5}, ranking="uniform", round_to=1, input_shape=shapes(model)
    )
    data = sample(small, 14)
    part = {key: array[:, :6] for key, array in data.items()}
    np.testing.assert_allclose(small(data)[:, :6], small(part), atol=1e-5)


def test_a_vision_transformer_is_plain_keras_afterwards() -> None:
    model = backbone("ViTBackbone")
    small, report = tfprune.shrink(model, {"macs": 0.6}, round_to=1)
    assert 0.4 < report.achieved <= 0.6
    others = {
        type(layer) for layer in small.layers if not type(layer).__module__.startswith("keras.")
    }
    assert others <= {Weight, Constant}, "its class token and its table of positions"
