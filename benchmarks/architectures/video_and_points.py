"""Networks for scans, video and clouds of points."""

import keras
from keras import layers, ops

from architectures.registry import Floats, architecture


@architecture("3-D convnet, CT scans", Floats((32, 32, 16, 1)))
def ct_scan():
    inputs = keras.Input((32, 32, 16, 1))
    x = layers.Conv3D(filters=16, kernel_size=3, activation="relu")(inputs)
    x = layers.MaxPool3D(pool_size=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv3D(filters=32, kernel_size=3, activation="relu")(x)
    x = layers.MaxPool3D(pool_size=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Dense(units=64, activation="relu")(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(units=1, activation="sigmoid")(x))


@architecture("next frame, ConvLSTM", Floats((5, 16, 16, 1)))
def next_frame():
    inputs = layers.Input(shape=(5, 16, 16, 1))
    x = layers.ConvLSTM2D(16, (5, 5), padding="same", return_sequences=True, activation="relu")(
        inputs
    )
    x = layers.BatchNormalization()(x)
    x = layers.ConvLSTM2D(16, (3, 3), padding="same", return_sequences=True, activation="relu")(x)
    x = layers.Conv3D(filters=1, kernel_size=(3, 3, 3), activation="sigmoid", padding="same")(x)
    return keras.Model(inputs, x)


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features, self.l2reg = num_features, l2reg

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        product = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        return ops.sum(self.l2reg * ops.square(product - ops.eye(self.num_features)))


def _conv_bn(x, filters):
    x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
    return layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(x))


def _dense_bn(x, filters):
    x = layers.BatchNormalization(momentum=0.0)(layers.Dense(filters)(x))
    return layers.Activation("relu")(x)


def _t_net(inputs, num_features):
    x = _conv_bn(_conv_bn(inputs, 16), 32)
    x = _dense_bn(layers.GlobalMaxPooling1D()(x), 16)
    x = layers.Dense(
        num_features * num_features,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.5),
        activity_regularizer=OrthogonalRegularizer(num_features),
    )(x)
    feature_transform = layers.Reshape((num_features, num_features))(x)
    return layers.Dot(axes=(2, 1))([inputs, feature_transform])


@architecture("PointNet", Floats((64, 3)))
def point_net():
    inputs = keras.Input(shape=(64, 3))
    x = _conv_bn(_t_net(inputs, 3), 16)
    x = _conv_bn(_t_net(x, 16), 32)
    x = _dense_bn(layers.GlobalMaxPooling1D()(x), 32)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class TubeletEmbedding(layers.Layer):
    def __init__(self, embed_dim, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.projection = layers.Conv3D(embed_dim, patch_size, patch_size, padding="valid")
        self.flatten = layers.Reshape(target_shape=(-1, embed_dim))

    def call(self, videos):
        return self.flatten(self.projection(videos))


class TubeletPositions(layers.Layer):
    def __init__(self, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim

    def build(self, input_shape):
        count = input_shape[1]
        self.position_embedding = layers.Embedding(count, self.embed_dim)
        self.positions = ops.arange(start=0, stop=count, step=1)

    def call(self, encoded_tokens):
        return encoded_tokens + self.position_embedding(self.positions)


@architecture("video transformer, ViViT", Floats((8, 16, 16, 1)))
def video_vit():
    inputs = layers.Input(shape=(8, 16, 16, 1))
    x = TubeletPositions(32)(TubeletEmbedding(32, (4, 4, 4))(inputs))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(x)
        attention = layers.MultiHeadAttention(num_heads=4, key_dim=8, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention, x])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = keras.Sequential(
            [
                layers.Dense(units=64, activation=keras.activations.gelu),
                layers.Dense(units=32, activation=keras.activations.gelu),
            ]
        )(x3)
        x = layers.Add()([x3, x2])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAvgPool1D()(x)
    return keras.Model(inputs, layers.Dense(units=11, activation="softmax")(x))


class FramePositions(layers.Layer):
    def __init__(self, sequence_length, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.position_embeddings = layers.Embedding(sequence_length, output_dim)
        self.sequence_length = sequence_length

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        positions = ops.arange(start=0, stop=ops.shape(inputs)[1], step=1)
        return inputs + self.position_embeddings(positions)


@architecture("video classifier, frames by a shared convnet", Floats((6, 24, 24, 3)))
def video_frames():
    frame = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    inputs = keras.Input((6, 24, 24, 3))
    x = FramePositions(6, 32)(layers.TimeDistributed(frame)(inputs))
    attended = layers.MultiHeadAttention(num_heads=1, key_dim=32, dropout=0.3)(x, x)
    x = layers.LayerNormalization()(x + attended)
    x = layers.GRU(16, return_sequences=True)(x)
    x = layers.Dropout(0.4)(layers.GRU(8)(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))
