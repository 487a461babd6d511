"""Networks of patches: attention between them, and what stands in for it."""

import keras
from keras import layers, ops

from architectures.registry import Floats, architecture

IMAGE = (32, 32, 3)
PATCH, PATCHES, WIDTH = 8, 16, 32


def mlp(x, hidden_units, dropout_rate):
    for units in hidden_units:
        x = layers.Dense(units, activation=keras.activations.gelu)(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


class Patches(layers.Layer):
    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        shape = ops.shape(images)
        patches = ops.image.extract_patches(images, size=self.patch_size)
        down, across = shape[1] // self.patch_size, shape[2] // self.patch_size
        return ops.reshape(patches, (shape[0], down * across, self.patch_size**2 * shape[3]))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(num_patches, projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


@architecture("ViT", Floats(IMAGE))
def vit():
    inputs = keras.Input(shape=IMAGE)
    augmented = keras.Sequential([layers.Normalization(), layers.RandomFlip("horizontal")])(inputs)
    encoded = PatchEncoder(PATCHES, WIDTH)(Patches(PATCH)(augmented))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
        attention = layers.MultiHeadAttention(num_heads=4, key_dim=WIDTH, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention, encoded])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        encoded = layers.Add()([mlp(x3, (64, WIDTH), 0.1), x2])
    x = layers.LayerNormalization(epsilon=1e-6)(encoded)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(mlp(x, (64, 32), 0.5)))


class ClassToken(layers.Layer):
    def build(self, input_shape):
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="zeros")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)


class PositionTable(layers.Layer):
    def build(self, input_shape):
        self.table = self.add_weight(
            shape=(1, input_shape[1], input_shape[2]), initializer="random_normal", name="table"
        )

    def call(self, x):
        return x + self.table


class LayerScale(layers.Layer):
    def __init__(self, init_values, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.gamma = self.add_weight(
            shape=(projection_dim,), initializer=keras.initializers.Constant(init_values)
        )

    def call(self, x):
        return x * self.gamma


@architecture("ViT, class token and layer scale", Floats(IMAGE))
def vit_token():
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(WIDTH, PATCH, strides=PATCH)(inputs)
    x = PositionTable()(ClassToken()(layers.Reshape((PATCHES, WIDTH))(x)))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + LayerScale(0.1, WIDTH)(layers.MultiHeadAttention(2, 16)(y, y))
        y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(x))
        x = x + LayerScale(0.1, WIDTH)(layers.Dense(WIDTH)(y))
    token = layers.LayerNormalization()(x)[:, 0]
    return keras.Model(inputs, layers.Dense(10)(token))


def _activation_block(x):
    return layers.BatchNormalization()(layers.Activation("gelu")(x))


@architecture("ConvMixer", Floats(IMAGE))
def conv_mixer():
    inputs = keras.Input(IMAGE)
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = _activation_block(layers.Conv2D(32, kernel_size=4, strides=4)(x))
    for _ in range(3):
        x0 = x
        x = layers.DepthwiseConv2D(kernel_size=5, padding="same")(x)
        x = layers.Add()([_activation_block(x), x0])
        x = _activation_block(layers.Conv2D(32, kernel_size=1)(x))
    x = layers.GlobalAvgPool2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class MixerLayer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.mlp1 = keras.Sequential(
            [
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=num_patches),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.mlp2 = keras.Sequential(
            [
                layers.Dense(units=hidden_units, activation="gelu"),
                layers.Dense(units=hidden_units),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        channels = ops.transpose(x, axes=(0, 2, 1))
        mixed = ops.transpose(self.mlp1(channels), axes=(0, 2, 1))
        x = mixed + inputs
        return x + self.mlp2(self.normalize(x))


class FourierLayer(layers.Layer):
    def __init__(self, embedding_dim, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.ffn = keras.Sequential(
            [
                layers.Dense(units=embedding_dim, activation="gelu"),
                layers.Dropout(rate=dropout_rate),
                layers.Dense(units=embedding_dim),
            ]
        )
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real, _ = ops.fft2((inputs, ops.zeros_like(inputs)))
        x = self.normalize1(real + inputs)
        return self.normalize2(x + self.ffn(x))


class SpatialGatingLayer(layers.Layer):
    def __init__(self, num_patches, embedding_dim, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.channel_projection1 = keras.Sequential(
            [layers.Dense(units=embedding_dim * 2, activation="gelu"), layers.Dropout(dropout_rate)]
        )
        self.channel_projection2 = layers.Dense(units=embedding_dim)
        self.spatial_projection = layers.Dense(units=num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = ops.split(x, indices_or_sections=2, axis=2)
        v = ops.transpose(self.normalize2(v), axes=(0, 2, 1))
        return u * ops.transpose(self.spatial_projection(v), axes=(0, 2, 1))

    def call(self, inputs):
        x = self.channel_projection1(self.normalize1(inputs))
        return inputs + self.channel_projection2(self.spatial_gating_unit(x))


def _of_blocks(blocks):
    """Return a classifier of patches around blocks."""
    inputs = keras.Input(shape=IMAGE)
    x = layers.Dense(units=WIDTH)(Patches(PATCH)(inputs))
    x = keras.Sequential(blocks)(PositionTable()(x))
    x = layers.Dropout(rate=0.2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs=inputs, outputs=layers.Dense(10)(x))


@architecture("MLP-Mixer", Floats(IMAGE))
def mlp_mixer():
    return _of_blocks([MixerLayer(PATCHES, WIDTH, 0.1) for _ in range(2)])


@architecture("FNet, images", Floats(IMAGE))
def fnet():
    return _of_blocks([FourierLayer(WIDTH, 0.1) for _ in range(2)])


@architecture("gMLP", Floats(IMAGE))
def gmlp():
    return _of_blocks([SpatialGatingLayer(PATCHES, WIDTH, 0.1) for _ in range(2)])


def _external_attention(x, dim=WIDTH, num_heads=4, dim_coefficient=4):
    _, num_patch, channel = x.shape
    num_heads = num_heads * dim_coefficient
    x = layers.Dense(dim * dim_coefficient)(x)
    x = ops.reshape(x, (-1, num_patch, num_heads, dim * dim_coefficient // num_heads))
    x = ops.transpose(x, axes=[0, 2, 1, 3])
    attention = layers.Dense(dim // dim_coefficient)(x)
    attention = layers.Softmax(axis=2)(attention)
    attention = layers.Lambda(
        lambda a: ops.divide(a, ops.convert_to_tensor(1e-9) + ops.sum(a, axis=-1, keepdims=True))
    )(attention)
    x = layers.Dense(dim * dim_coefficient // num_heads)(layers.Dropout(0.1)(attention))
    x = ops.transpose(x, axes=[0, 2, 1, 3])
    x = ops.reshape(x, [-1, num_patch, dim * dim_coefficient])
    return layers.Dropout(0.1)(layers.Dense(channel)(x))


@architecture("EANet, external attention", Floats(IMAGE))
def ea_net():
    inputs = keras.Input(IMAGE)
    x = PatchEncoder(PATCHES, WIDTH)(Patches(PATCH)(inputs))
    for _ in range(2):
        residual = x
        x = layers.add([_external_attention(layers.LayerNormalization()(x)), residual])
        residual = x
        x = layers.add([mlp(layers.LayerNormalization()(x), (64, WIDTH), 0.1), residual])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class Tokenizer(layers.Layer):
    def __init__(self, filters=(16, 32), **kwargs):
        super().__init__(**kwargs)
        self.conv_model = keras.Sequential()
        for number in filters:
            self.conv_model.add(
                layers.Conv2D(number, 3, 1, padding="valid", use_bias=False, activation="relu")
            )
            self.conv_model.add(layers.ZeroPadding2D(1))
            self.conv_model.add(layers.MaxPooling2D(3, 2, "same"))

    def call(self, images):
        outputs = self.conv_model(images)
        return ops.reshape(outputs, (-1, outputs.shape[1] * outputs.shape[2], outputs.shape[-1]))


class PositionEmbedding(layers.Layer):
    def __init__(self, sequence_length, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.sequence_length = int(sequence_length)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.position_embeddings = self.add_weight(
            name="embeddings",
            shape=[self.sequence_length, input_shape[-1]],
            initializer=self.initializer,
            trainable=True,
        )
        super().build(input_shape)

    def call(self, inputs, start_index=0):
        shape = ops.shape(inputs)
        table = ops.convert_to_tensor(self.position_embeddings)
        table = ops.slice(table, (start_index, 0), (shape[-2], shape[-1]))
        return ops.broadcast_to(table, shape)


class SequencePooling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.softmax(self.attention(x), axis=1)
        pooled = ops.matmul(ops.transpose(weights, axes=(0, 2, 1)), x)
        return ops.squeeze(pooled, -2)


class StochasticDepth(layers.Layer):
    def __init__(self, drop_prob, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prob
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            kept = keep_prob + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
            return (x / keep_prob) * ops.floor(kept)
        return x


@architecture("CCT", Floats(IMAGE))
def compact_transformer():
    inputs = keras.Input(IMAGE)
    encoded = Tokenizer()(inputs)
    encoded += PositionEmbedding(sequence_length=encoded.shape[1])(encoded)
    for i in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-5)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=32, dropout=0.1)(x1, x1)
        x2 = layers.Add()([StochasticDepth(0.05 * i)(attention), encoded])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-5)(x2), (32, 32), 0.1)
        encoded = layers.Add()([StochasticDepth(0.05 * i)(x3), x2])
    representation = layers.LayerNormalization(epsilon=1e-5)(encoded)
    return keras.Model(inputs, layers.Dense(10)(SequencePooling()(representation)))
