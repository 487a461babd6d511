"""The quantization-aware Embedding layer."""

import numpy as np

from tfprune.deploy.qat.embedding import QuantisedEmbedding


def test_tables_are_rounded_in_their_range():
    table = np.array([[-0.5, 0.0], [2.05, 0.304]], "float32")
    layer = QuantisedEmbedding(2, 2)
    layer.build()
    layer.take([table], keep_zeros=True)
    # Steps of 2.55 / 255.
    np.testing.assert_allclose(layer(np.array([1, 0])), [[2.05, 0.3], [-0.5, 0.0]], atol=1e-6)
    np.testing.assert_array_equal(layer.plain()[0], table)
