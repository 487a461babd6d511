"""The quantization-aware Embedding layer."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfprune.deploy.qat.layers import Masked
from tfprune.keras_support.internals import stored_table


@keras.saving.register_keras_serializable("tfprune")
class QuantisedEmbedding(Masked, keras.layers.Embedding):
    """An Embedding layer that trains under an 8-bit table."""

    def _raws(self) -> list[Any]:
        return [stored_table(self)]

    @property
    def embeddings(self) -> Any:
        """Return the masked table."""
        return self._kept()

    def call(self, inputs: Any) -> Any:
        """Return rows of the table as the file stores it: 256 values of its range."""
        table = ops.cast(ops.stop_gradient(self._kept()), "float32")
        low, high = ops.minimum(ops.min(table), 0.0), ops.maximum(ops.max(table), 1e-6)
        rows = super().call(inputs)
        rounded = tf.quantization.fake_quant_with_min_max_vars(ops.cast(rows, "float32"), low, high)
        return ops.cast(rounded, rows.dtype)
