"""Attention over windows, folded patches, and a few latent rows."""

import keras
from keras import layers, ops

from architectures.registry import Floats, architecture
from architectures.vision_attention import IMAGE, PATCH, PATCHES, WIDTH, PatchEncoder, Patches


def window_partition(x, size):
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, size, size, channels))


def window_reverse(windows, size, height, width, channels):
    x = ops.reshape(windows, (-1, height // size, width // size, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


class WindowAttention(layers.Layer):
    def __init__(self, dim, window, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.window, self.num_heads = dim, window, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = layers.Dense(dim * 3)
        self.proj = layers.Dense(dim)

    def build(self, input_shape):
        side = 2 * self.window - 1
        self.bias_table = self.add_weight(
            shape=(side * side, self.num_heads), initializer="random_normal", name="bias_table"
        )
        places = [(i, j) for i in range(self.window) for j in range(self.window)]
        index = [
            [(a - c + self.window - 1) * side + b - d + self.window - 1 for c, d in places]
            for a, b in places
        ]
        self.index = self.add_weight(
            shape=(len(places), len(places)), dtype="int32", trainable=False, initializer="zeros"
        )
        self.index.assign(index)

    def call(self, x, mask=None):
        _, size, channels = x.shape
        qkv = ops.reshape(self.qkv(x), (-1, size, 3, self.num_heads, channels // self.num_heads))
        qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * self.scale) @ ops.transpose(k, (0, 1, 3, 2))
        bias = ops.take(self.bias_table, ops.reshape(self.index, (-1,)), axis=0)
        bias = ops.transpose(ops.reshape(bias, (size, size, -1)), (2, 0, 1))
        scores = scores + ops.expand_dims(bias, axis=0)
        x = ops.transpose(keras.activations.softmax(scores, axis=-1) @ v, (0, 2, 1, 3))
        return self.proj(ops.reshape(x, (-1, size, channels)))


class SwinBlock(layers.Layer):
    def __init__(self, dim, patches, heads, window, shift, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.patches, self.window, self.shift = dim, patches, window, shift
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = keras.Sequential(
            [
                layers.Dense(2 * dim),
                layers.Activation("gelu"),
                layers.Dropout(0.1),
                layers.Dense(dim),
            ]
        )

    def call(self, x, training=False):
        height, width = self.patches
        skip = x
        x = ops.reshape(self.norm1(x), (-1, height, width, self.dim))
        if self.shift > 0:
            x = ops.roll(x, shift=[-self.shift, -self.shift], axis=[1, 2])
        windows = ops.reshape(window_partition(x, self.window), (-1, self.window**2, self.dim))
        windows = ops.reshape(self.attn(windows), (-1, self.window, self.window, self.dim))
        x = window_reverse(windows, self.window, height, width, self.dim)
        if self.shift > 0:
            x = ops.roll(x, shift=[self.shift, self.shift], axis=[1, 2])
        x = skip + ops.reshape(x, (-1, height * width, self.dim))
        return x + self.mlp(self.norm2(x), training=training)


class PatchMerging(layers.Layer):
    def __init__(self, patches, dim):
        super().__init__()
        self.patches, self.dim = patches, dim
        self.linear = layers.Dense(2 * dim, use_bias=False)

    def call(self, x):
        height, width = self.patches
        x = ops.reshape(x, (-1, height, width, self.dim))
        parts = [x[:, i::2, j::2, :] for i in (0, 1) for j in (0, 1)]
        x = ops.concatenate((parts[0], parts[2], parts[1], parts[3]), axis=-1)
        return self.linear(ops.reshape(x, (-1, height // 2 * width // 2, 4 * self.dim)))


@architecture("Swin", Floats(IMAGE))
def swin():
    inputs = keras.Input(IMAGE)
    x = PatchEncoder(64, 32)(Patches(4)(inputs))
    x = SwinBlock(32, (8, 8), 4, 4, 0)(x)
    x = SwinBlock(32, (8, 8), 4, 4, 2)(x)
    x = PatchMerging((8, 8), 32)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class MobileBlock(layers.Layer):
    """MobileViT: attention between the places of patches, beside convolutions."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.local = layers.Conv2D(width, 3, padding="same", activation="swish")
        self.norm = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.fold = layers.Conv2D(16, 1, activation="swish")
        self.mix = layers.Conv2D(16, 3, padding="same", activation="swish")

    def call(self, x):
        local = self.local(x)
        _, height, width, channels = local.shape
        patches = ops.reshape(local, (-1, 4, height * width // 4, channels))
        y = self.norm(patches)
        patches = self.attention(y, y) + patches
        folded = self.fold(ops.reshape(patches, (-1, height, width, channels)))
        return self.mix(ops.concatenate([x, folded], axis=-1))


@architecture("MobileViT", Floats(IMAGE))
def mobile_vit():
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(16, 3, strides=4, padding="same", activation="swish")(inputs)
    x = layers.GlobalAvgPool2D()(MobileBlock(32)(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


class Latents(layers.Layer):
    """Perceiver: a few latent rows of its own that read the input by cross-attention."""

    def __init__(self, latent_dim, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim, self.projection_dim = latent_dim, projection_dim
        self.cross = layers.MultiHeadAttention(1, projection_dim)
        self.itself = layers.MultiHeadAttention(2, projection_dim // 2)
        self.norm = layers.LayerNormalization()
        self.ffn = keras.Sequential(
            [layers.Dense(64, activation="gelu"), layers.Dense(projection_dim)]
        )

    def build(self, input_shape):
        self.latent_array = self.add_weight(
            shape=(self.latent_dim, self.projection_dim), initializer="random_normal"
        )

    def call(self, data):
        latents = ops.expand_dims(self.latent_array, 0)
        latents = ops.repeat(latents, ops.shape(data)[0], axis=0)
        x = latents + self.cross(latents, data)
        x = x + self.itself(x, x)
        return x + self.ffn(self.norm(x))


@architecture("Perceiver", Floats(IMAGE))
def perceiver():
    inputs = keras.Input(IMAGE)
    x = PatchEncoder(PATCHES, WIDTH)(Patches(PATCH)(inputs))
    x = layers.GlobalAveragePooling1D()(Latents(8, WIDTH)(x))
    return keras.Model(inputs, layers.Dense(10)(x))
