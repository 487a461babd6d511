"""Networks for series of measurements."""

import keras
import numpy as np
from keras import layers, ops

from architectures.registry import Floats, architecture


def _encoder(inputs, head_size, num_heads, ff_dim, dropout=0.0):
    x = layers.MultiHeadAttention(key_dim=head_size, num_heads=num_heads, dropout=dropout)(
        inputs, inputs
    )
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(dropout)(x))
    res = x + inputs
    x = layers.Conv1D(filters=ff_dim, kernel_size=1, activation="relu")(res)
    x = layers.Conv1D(filters=inputs.shape[-1], kernel_size=1)(layers.Dropout(dropout)(x))
    return layers.LayerNormalization(epsilon=1e-6)(x) + res


@architecture("series, transformer", Floats((64, 1)))
def series_transformer():
    inputs = keras.Input(shape=(64, 1))
    x = inputs
    for _ in range(2):
        x = _encoder(x, 16, 2, 4, 0.25)
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dropout(0.4)(layers.Dense(32, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


@architecture("series, convolutions", Floats((64, 1)))
def series_convolutions():
    inputs = x = keras.layers.Input((64, 1))
    for _ in range(3):
        x = layers.Conv1D(filters=32, kernel_size=3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    gap = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(gap))


@architecture("weather, LSTM", Floats((24, 7)))
def weather():
    inputs = layers.Input(shape=(24, 7))
    return keras.Model(inputs, layers.Dense(1)(layers.LSTM(32)(inputs)))


@architecture("anomalies, convolutional autoencoder", Floats((48, 1)))
def anomalies():
    options = {"padding": "same", "strides": 2, "activation": "relu"}
    return keras.Sequential(
        [
            layers.Input(shape=(48, 1)),
            layers.Conv1D(filters=32, kernel_size=7, **options),
            layers.Dropout(rate=0.2),
            layers.Conv1D(filters=16, kernel_size=7, **options),
            layers.Conv1DTranspose(filters=16, kernel_size=7, **options),
            layers.Dropout(rate=0.2),
            layers.Conv1DTranspose(filters=32, kernel_size=7, **options),
            layers.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
        ]
    )


@architecture("WaveNet", Floats((64, 4)))
def wavenet():
    inputs = keras.Input((64, 4))
    x = layers.Conv1D(24, 1)(inputs)
    skips = []
    for dilation in (1, 2, 4, 8):
        options = {"padding": "causal", "dilation_rate": dilation}
        signal = layers.Conv1D(24, 2, activation="tanh", **options)(x)
        gate = layers.Conv1D(24, 2, activation="sigmoid", **options)(x)
        z = layers.Multiply()([signal, gate])
        skips.append(layers.Conv1D(24, 1)(z))
        x = layers.Add()([layers.Conv1D(24, 1)(z), x])
    x = layers.Activation("relu")(layers.Add()(skips))
    x = layers.Conv1D(24, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Conv1D(1, 1)(x))


class Decay(layers.Layer):
    """GRU-D: what was not measured falls from the last value to the mean of the feature."""

    def build(self, input_shape):
        width = input_shape[0][-1]
        self.rate = self.add_weight(shape=(width,), initializer="ones", name="rate")
        self.mean = self.add_weight(shape=(width,), initializer="zeros", name="mean")

    def call(self, inputs):
        values, mask = inputs
        gamma = ops.exp(-ops.relu(self.rate * (1.0 - mask)))
        imputed = gamma * values + (1.0 - gamma) * self.mean
        return ops.where(mask > 0.5, values, imputed)


@architecture(
    "gaps in measurements, GRU-D",
    {"values": Floats((20, 6)), "measured": Floats((20, 6), positive=True)},
)
def gru_d():
    values = keras.Input((20, 6), name="values")
    mask = keras.Input((20, 6), name="measured")
    x = Decay()([values, mask])
    x = layers.GRU(32)(layers.Concatenate()([x, mask]))
    return keras.Model({"values": values, "measured": mask}, layers.Dense(2)(x))


class GraphConv(layers.Layer):
    """Mix what the neighbors have, by raw weights."""

    def __init__(self, in_feat, out_feat, adjacency, combination_type="concat", **kwargs):
        super().__init__(**kwargs)
        self.out_feat = out_feat
        self.adjacency = adjacency
        self.combination_type = combination_type
        self.weight = self.add_weight(
            shape=(in_feat, out_feat), initializer="glorot_uniform", trainable=True
        )
        self.activation = layers.Activation("relu")

    def call(self, features):
        nodes_representation = ops.matmul(features, self.weight)
        neighbors = ops.einsum("nm,mbtf->nbtf", self.adjacency, features)
        aggregated_messages = ops.matmul(neighbors, self.weight)
        if self.combination_type == "concat":
            h = ops.concatenate([nodes_representation, aggregated_messages], axis=-1)
        else:
            h = nodes_representation + aggregated_messages
        return self.activation(h)


class LSTMGC(layers.Layer):
    """A graph convolution before an LSTM that all nodes share."""

    def __init__(self, in_feat, out_feat, lstm_units, input_seq_len, output_seq_len, adjacency):
        super().__init__()
        self.graph_conv = GraphConv(in_feat, out_feat, adjacency)
        self.lstm = layers.LSTM(lstm_units, activation="relu")
        self.dense = layers.Dense(output_seq_len)
        self.input_seq_len, self.output_seq_len = input_seq_len, output_seq_len

    def call(self, inputs):
        inputs = ops.transpose(inputs, [2, 0, 1, 3])
        gcn_out = self.graph_conv(inputs)
        num_nodes, batch_size, input_seq_len, out_feat = ops.shape(gcn_out)
        gcn_out = ops.reshape(gcn_out, (batch_size * num_nodes, input_seq_len, out_feat))
        lstm_out = self.lstm(gcn_out)
        output = ops.reshape(self.dense(lstm_out), (num_nodes, batch_size, self.output_seq_len))
        return ops.transpose(output, [1, 2, 0])


@architecture("traffic, graph convolution and LSTM", Floats((12, 9, 1)))
def traffic():
    near = np.abs(np.subtract.outer(np.arange(9), np.arange(9))) <= 1
    adjacency = (near / near.sum(1, keepdims=True)).astype("float32")
    inputs = layers.Input((12, 9, 1))
    return keras.Model(inputs, LSTMGC(1, 10, 32, 12, 3, adjacency)(inputs))


@architecture("EEG, squeeze and excite", Floats((64, 1)))
def eeg():
    inputs = keras.Input((64, 1))
    x = inputs
    for filters in (16, 32):
        x = layers.Conv1D(filters, 5, strides=2, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
        s = layers.Dense(filters // 4, activation="relu")(layers.GlobalAveragePooling1D()(x))
        s = layers.Reshape((1, filters))(layers.Dense(filters, activation="sigmoid")(s))
        x = layers.Multiply()([x, s])
    x = layers.Flatten()(x)
    for units in (64, 32):
        x = layers.Dense(units, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01))(
            x
        )
        x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


class SeriesForecaster(keras.Model):
    """A decomposition of the series, each part with a small network of its own."""

    def __init__(self, horizon, **kwargs):
        super().__init__(**kwargs)
        self.average = layers.AveragePooling1D(5, strides=1, padding="same")
        self.parts = {
            "trend": keras.Sequential([layers.Flatten(), layers.Dense(horizon)]),
            "rest": keras.Sequential(
                [layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(horizon)]
            ),
        }

    def call(self, x):
        trend = self.average(x)
        return self.parts["trend"](trend) + self.parts["rest"](x - trend)


@architecture("forecast, parts in a dict", Floats((32, 2)))
def decomposition():
    return SeriesForecaster(6)
