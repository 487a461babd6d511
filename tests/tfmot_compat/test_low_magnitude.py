"""tensorflow-model-optimization's `prune_low_magnitude` on Keras 3 models."""

import numpy as np

import tfprune
from tfprune.sparsity.masks import holds_of, prunings_of


def test_kernels_with_a_mask_are_not_changed(model) -> None:
    tfprune.prune_low_magnitude(model.get_layer("head"), tfprune.ConstantSparsity(0.9, 0))
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0))
    assert [h.pruning.choices.schedule.final() for h in holds_of(model)] == [0.5, 0.9]
    reasons = {e.layer: e.reason for e in tfprune.sparsity_of(model).skipped}
    assert reasons["head/kernel"] == "already held by an earlier call"


def test_sparsity_m_by_n_counts_zeros(model) -> None:
    tfprune.prune_low_magnitude(model, sparsity_m_by_n=(3, 4))
    prunings_of(model)[0].advance(0)
    assert (np.count_nonzero(model.get_layer("hidden").kernel.numpy(), axis=0) == 3).all()
