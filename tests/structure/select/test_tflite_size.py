import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import OptionError
from tfprune.structure.select.tflite_size import file_bytes


def net():
    inputs = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(64, 3, name="conv")(inputs)))
    x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(64, 3, name="two")(x)))
    return keras.Model(inputs, kl.Dense(10)(kl.GlobalAveragePooling2D()(x)))


def test_a_size_is_met_by_the_file_itself() -> None:
    model = net()
    small, report = tfprune.shrink(model, {"tflite_bytes": 60_000})
    assert 30_000 < file_bytes(small) <= 60_000
    assert any("bytes (target 60,000)" in note for note in report.notes)


def test_the_size_of_a_recurrent_model_is_that_of_its_file() -> None:
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, kl.Dense(4)(kl.LSTM(32, name="lstm")(inputs)))
    small, _ = tfprune.shrink(model, {"tflite_bytes": 0.6}, round_to=1)
    assert len(tfprune.to_tflite(small).bytes) <= 0.6 * len(tfprune.to_tflite(model).bytes)


def test_a_size_that_cannot_be_reached_is_an_error() -> None:
    with pytest.raises(
        OptionError,
        match=r"tflite_bytes 4,000: .* file of [\d,]+ bytes keeps at least about 5,\d+\.",
    ):
        tfprune.shrink(net(), {"tflite_bytes": 4_000})
    with pytest.raises(OptionError, match=r"bytes, [\d,]+ of them not weights, and cannot be"):
        tfprune.shrink(net(), {"tflite_bytes": 500})
    with pytest.raises(OptionError, match=r"at most 9,000 bytes .* at least about 13,\d{3}\."):
        tfprune.shrink(net(), {"tflite_bytes": 9_000}, cap=0.8)


def test_a_file_that_is_small_enough_is_not_cut() -> None:
    small, report = tfprune.shrink(net(), {"tflite_bytes": 1_000_000})
    assert small.count_params() == net().count_params()
    (note,) = report.notes
    assert note.endswith("bytes (target 1,000,000)")
