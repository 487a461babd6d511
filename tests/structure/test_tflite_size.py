import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import OptionError
from tfprune.structure.tflite_size import file_bytes


def net():
    inputs = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(64, 3, name="conv")(inputs)))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(64, 3, name="two")(x)))
    return keras.Model(inputs, kl.Dense(10)(kl.GlobalAveragePooling2D()(x)))


def test_a_size_is_met_by_the_file_itself() -> None:
    model = net()
    small, report = tfprune.shrink(model, {"tflite_bytes": 60_000})
    assert 30_000 < file_bytes(small) <= 60_000
    assert any("bytes (60,000 asked for)" in note for note in report.notes)


def test_a_recurrent_model_is_weighed_as_it_ships() -> None:
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, kl.Dense(4)(kl.LSTM(32, name="lstm")(inputs)))
    small, _ = tfprune.shrink(model, {"tflite_bytes": 0.6}, round_to=1)
    assert len(tfprune.to_tflite(small).bytes) <= 0.6 * len(tfprune.to_tflite(model).bytes)


def test_a_size_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(OptionError, match=r"tflite_bytes|cannot be brought"):
        tfprune.shrink(net(), {"tflite_bytes": 2_000})
