import numpy as np
import pytest

import tfprune
from tfprune.errors import ModelError


def test_the_rows_and_the_sum(model) -> None:
    model.get_layer("hidden").kernel.assign(np.eye(12, 20))
    tfprune.prune(model, 0.5, only="head")
    table = tfprune.sparsity_of(model)
    assert len(table) == 2
    assert [(row.path, row.shape, row.zeros, row.held) for row in table] == [
        ("hidden/kernel", (12, 20), 228, False),
        ("head/kernel", (20, 3), 30, True),
    ]
    assert table["head/kernel"].sparsity == 0.5
    assert (table.size, table.zeros) == (300, 258)
    assert table.sparsity == 258 / 300


def test_the_text_names_every_kernel_and_the_skipped_layers_with_reasons(model) -> None:
    tfprune.prune(model, 0.5, only="head")
    text = str(tfprune.sparsity_of(model))
    assert "head/kernel" in text
    assert "50.00%" in text
    assert "not pruned: norm (keras.BatchNormalization): no kernel" in text
    assert "not pruned: hidden/kernel (keras.Dense): left out by only= or skip=" in text


@pytest.mark.parametrize("wrong", [None, "model.keras", 3])
def test_other_objects_than_models_are_refused(wrong) -> None:
    with pytest.raises(ModelError, match="sparsity_of: expected a Keras 3 model"):
        tfprune.sparsity_of(wrong)
