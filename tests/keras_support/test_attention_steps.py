import inspect

import keras
import numpy as np
import pytest
from keras import layers as kl

from tfprune.keras_support.attention_steps import StepwiseAttention, projections_of

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
GATES = "use_gate" in inspect.signature(kl.MultiHeadAttention).parameters


def attentions():
    gate = {"use_gate": True} if GATES else {}
    yield kl.MultiHeadAttention(2, 3)
    yield kl.MultiHeadAttention(2, 3, value_dim=4, **gate)
    yield kl.GroupQueryAttention(3, 4, 2)
    yield kl.GroupQueryAttention(3, 4, 2, **gate)


@pytest.mark.parametrize("number", range(4))
def test_projections_have_all_weights_in_their_order(number) -> None:
    layer = list(attentions())[number]
    layer(X, X)
    found = projections_of(layer)
    held = [weight for dense in found for weight in dense.weights]
    assert [id(weight) for weight in held] == [id(weight) for weight in layer.weights]
    assert (found.gate is not None) == (GATES and number % 2 == 1)
    assert found.output.kernel.shape[-1] == 8


class Plain(StepwiseAttention):
    """The steps in the order in which Keras takes them."""

    def attend(self, query, key, value, mask, training):
        scores = self.scaled(self.dot_products(query, key))
        if mask is not None:
            scores = keras.ops.where(self.shaped_mask(mask, scores), scores, -1e9)
        scores = self.normalized(scores)
        return self.combined(self.dropped(scores, training), value), scores


@pytest.mark.parametrize("causal", [False, True])
def test_the_steps_one_after_another_compute_the_attention(causal) -> None:
    ours, theirs = Plain(2, 3, dropout=0.5), kl.MultiHeadAttention(2, 3, dropout=0.5)
    options = {"use_causal_mask": causal, "return_attention_scores": True}
    theirs(X, X)
    ours(X, X)
    ours.set_weights(theirs.get_weights())
    for one, two in zip(ours(X, X, **options), theirs(X, X, **options), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    trained = ours(X, X, training=True)
    assert not np.allclose(trained, ours(X, X)), "dropout is one of the steps"


def test_attention_without_these_steps_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="has no attend"):
        StepwiseAttention(2, 3)(X, X)
