import keras
import pytest

import tfprune
from tfprune.errors import ModelError
from tfprune.sparsity.masks import holds_of

L = keras.layers


def test_the_xnnpack_policy_prunes_pointwise_convolutions_only() -> None:
    x = keras.Input((8, 8, 3))
    h = L.Conv2D(8, 3, strides=2, name="stem")(x)
    h = L.Conv2D(8, 1, name="taken")(h)
    h = L.Conv2D(8, 1, strides=2, name="strided")(h)
    h = L.Conv2D(8, 1, groups=2, name="grouped")(h)
    model = keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(h)))
    policy = tfprune.PruneForLatencyOnXNNPack()
    tfprune.prune_low_magnitude(model, pruning_policy=policy)
    assert [hold.kernel.path for hold in holds_of(model)] == ["taken/kernel"]
    reasons = {e.layer: e.reason for e in tfprune.sparsity_of(model).skipped}
    assert reasons["stem/kernel"] == "left out by the pruning policy"


def test_a_model_without_such_layers_is_refused(model) -> None:
    with pytest.raises(ModelError, match="'small' has no 1×1 Conv2D"):
        tfprune.prune_low_magnitude(model, pruning_policy=tfprune.PruneForLatencyOnXNNPack())
    assert holds_of(model) == []


def test_a_custom_policy_is_used(model) -> None:
    class HeadOnly(tfprune.PruningPolicy):
        def allow_pruning(self, layer) -> bool:
            return layer.name == "head"

        def ensure_model_supports_pruning(self, model) -> None:
            assert model.get_layer("head")

    tfprune.prune_low_magnitude(model, pruning_policy=HeadOnly())
    assert [hold.kernel.path for hold in holds_of(model)] == ["head/kernel"]
