"""Networks for sound."""

import keras
from keras import layers, ops

from architectures.registry import Floats, Whole, architecture


def _residual_block(x, filters, conv_num=3, activation="relu"):
    s = layers.Conv1D(filters, 1, padding="same")(x)
    for _ in range(conv_num - 1):
        x = layers.Conv1D(filters, 3, padding="same")(x)
        x = layers.Activation(activation)(x)
    x = layers.Conv1D(filters, 3, padding="same")(x)
    x = layers.Add()([x, s])
    x = layers.Activation(activation)(x)
    return layers.MaxPool1D(pool_size=2, strides=2)(x)


@architecture("speaker recognition, residual", Floats((256, 1)))
def speaker():
    inputs = layers.Input(shape=(256, 1), name="input")
    x = _residual_block(inputs, 8, 2)
    x = _residual_block(x, 16, 2)
    x = _residual_block(x, 32, 3)
    x = layers.AveragePooling1D(pool_size=3, strides=3)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="output")(x))


@architecture("spectrogram convnet", Floats((40, 32, 1)))
def spectrogram():
    inputs = keras.Input((40, 32, 1))
    x = layers.Resizing(32, 32)(inputs)
    x = layers.Normalization()(x)
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.Dropout(0.25)(layers.MaxPooling2D()(x))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(8)(layers.Dropout(0.5)(x)))


class SpeechEmbedding(layers.Layer):
    def __init__(self, num_hid=32):
        super().__init__()
        options = {"strides": 2, "padding": "same", "activation": "relu"}
        self.conv1 = layers.Conv1D(num_hid, 11, **options)
        self.conv2 = layers.Conv1D(num_hid, 11, **options)

    def call(self, x):
        return self.conv2(self.conv1(x))


class TokenEmbedding(layers.Layer):
    def __init__(self, num_vocab, maxlen, num_hid):
        super().__init__()
        self.emb = layers.Embedding(num_vocab, num_hid)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=num_hid)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        return self.emb(x) + self.pos_emb(ops.arange(start=0, stop=maxlen, step=1))


class SpeechEncoder(layers.Layer):
    def __init__(self, embed_dim, num_heads, feed_forward_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(feed_forward_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs, training=False):
        attention = self.dropout1(self.att(inputs, inputs), training=training)
        out1 = self.layernorm1(inputs + attention)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1), training=training))


class SpeechDecoder(layers.Layer):
    def __init__(self, embed_dim, num_heads, feed_forward_dim):
        super().__init__()
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm3 = layers.LayerNormalization(epsilon=1e-6)
        self.self_att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.enc_att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.self_dropout = layers.Dropout(0.5)
        self.ffn = keras.Sequential(
            [layers.Dense(feed_forward_dim, activation="relu"), layers.Dense(embed_dim)]
        )

    def call(self, enc_out, target):
        attended = self.self_att(target, target, use_causal_mask=True)
        target_norm = self.layernorm1(target + self.self_dropout(attended))
        enc_out = self.enc_att(target_norm, enc_out)
        enc_out_norm = self.layernorm2(enc_out + target_norm)
        return self.layernorm3(enc_out_norm + self.ffn(enc_out_norm))


class SpeechTransformer(keras.Model):
    def __init__(self, num_hid=32, num_head=2, num_feed_forward=48, num_layers=2, classes=30):
        super().__init__()
        self.num_layers = num_layers
        self.enc_input = SpeechEmbedding(num_hid=num_hid)
        self.dec_input = TokenEmbedding(num_vocab=classes, maxlen=12, num_hid=num_hid)
        self.encoder = keras.Sequential(
            [
                self.enc_input,
                *(SpeechEncoder(num_hid, num_head, num_feed_forward) for _ in range(num_layers)),
            ]
        )
        for i in range(num_layers):
            setattr(self, f"dec_layer_{i}", SpeechDecoder(num_hid, num_head, num_feed_forward))
        self.classifier = layers.Dense(classes)

    def decode(self, enc_out, target):
        y = self.dec_input(target)
        for i in range(self.num_layers):
            y = getattr(self, f"dec_layer_{i}")(enc_out, y)
        return y

    def call(self, inputs):
        source, target = inputs
        return self.classifier(self.decode(self.encoder(source), target))


@architecture("speech recognition, transformer", [Floats((48, 20)), Whole((12,), 30)])
def speech():
    return SpeechTransformer()


@architecture("speech recognition, convolutions and GRU", Floats((32, 24)))
def deep_speech():
    inputs = layers.Input((32, 24), name="input")
    x = layers.Reshape((-1, 24, 1), name="expand_dim")(inputs)
    for number, (kernel, strides) in enumerate((([5, 7], [2, 2]), ([5, 5], [1, 2]))):
        x = layers.Conv2D(
            8, kernel, strides=strides, padding="same", use_bias=False, name=f"conv_{number}"
        )(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    for number in range(2):
        recurrent = layers.GRU(
            units=16, return_sequences=True, reset_after=True, name=f"gru_{number}"
        )
        x = layers.Bidirectional(recurrent, merge_mode="concat")(x)
        if number < 1:
            x = layers.Dropout(rate=0.5)(x)
    x = layers.Dropout(0.5)(layers.ReLU()(layers.Dense(32)(x)))
    return keras.Model(inputs, layers.Dense(units=30, activation="softmax")(x))


class WeightNormalized(layers.Layer):
    """A convolution whose kernel is a direction and a length."""

    def __init__(self, filters, kernel_size, dilation=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.dilation = filters, kernel_size, dilation

    def build(self, shape):
        self.v = self.add_weight(
            shape=(self.kernel_size, shape[-1], self.filters), initializer="glorot_uniform"
        )
        self.g = self.add_weight(shape=(self.filters,), initializer="ones")
        self.b = self.add_weight(shape=(self.filters,), initializer="zeros")

    def call(self, x):
        kernel = self.g * self.v / ops.sqrt(ops.sum(ops.square(self.v), axis=(0, 1)) + 1e-6)
        return ops.conv(x, kernel, padding="same", dilation_rate=self.dilation) + self.b


def _melgan_stack(x, filters):
    for dilation in (1, 3):
        y = layers.LeakyReLU()(WeightNormalized(filters, 3, dilation)(x))
        x = layers.Add()([WeightNormalized(filters, 3)(y), x])
    return layers.LeakyReLU()(x)


@architecture("sound from a spectrogram, MelGAN", Floats((16, 20)))
def melgan():
    inputs = keras.Input((16, 20))
    x = layers.LeakyReLU()(layers.Conv1D(32, 7, padding="same")(inputs))
    for filters, factor in ((24, 4), (16, 4)):
        x = layers.Conv1DTranspose(filters, 2 * factor, strides=factor, padding="same")(x)
        x = _melgan_stack(layers.LeakyReLU()(x), filters)
    return keras.Model(inputs, layers.Conv1D(1, 7, padding="same", activation="tanh")(x))
