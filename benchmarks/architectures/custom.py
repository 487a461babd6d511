"""Layers with raw weights, functional operations, and models made of models."""

import keras
import numpy as np
from keras import layers, ops

from architectures.registry import Floats, Whole, architecture


class Linear(layers.Layer):
    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True
        )
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal", trainable=True)

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b


class MLPBlock(layers.Layer):
    def __init__(self):
        super().__init__()
        self.linear_1 = Linear(32)
        self.linear_2 = Linear(32)
        self.linear_3 = Linear(4)

    def call(self, inputs):
        x = keras.activations.relu(self.linear_1(inputs))
        x = keras.activations.relu(self.linear_2(x))
        return self.linear_3(x)


@architecture("own Dense layers", Floats((20,)))
def own_dense():
    return keras.Sequential([keras.Input((20,)), MLPBlock()])


class OwnModel(keras.Model):
    """Nothing but raw weights, in a model of its own."""

    def __init__(self, hidden, classes):
        super().__init__()
        self.hidden, self.classes = hidden, classes

    def build(self, shape):
        self.w1 = self.add_weight(shape=(shape[-1], self.hidden), name="w1")
        self.b1 = self.add_weight(shape=(self.hidden,), initializer="zeros", name="b1")
        self.scale = self.add_weight(shape=(self.hidden,), initializer="ones", name="scale")
        self.w2 = self.add_weight(shape=(self.hidden, self.classes), name="w2")

    def call(self, x):
        x = ops.relu(x @ self.w1 + self.b1) * self.scale
        return ops.softmax(x @ self.w2)


@architecture("own weights in a model", Floats((20,)))
def own_model():
    return OwnModel(48, 5)


class OwnConv(layers.Layer):
    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides = filters, strides

    def build(self, shape):
        self.kernel = self.add_weight(
            shape=(3, 3, shape[-1], self.filters), initializer="he_normal", name="kernel"
        )
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x):
        x = ops.conv(x, self.kernel, strides=self.strides, padding="same") + self.bias
        return ops.leaky_relu(x, negative_slope=0.1)


@architecture("own convolutions", Floats((16, 16, 3)))
def own_convolutions():
    inputs = keras.Input((16, 16, 3))
    x = OwnConv(24, 2)(OwnConv(16)(inputs))
    x = ops.mean(x, axis=(1, 2))
    return keras.Model(inputs, Linear(4)(x))


class OwnAttention(layers.Layer):
    """Attention of einsums over raw weights, with a bias for each distance."""

    def __init__(self, heads, size, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.size = heads, size

    def build(self, shape):
        length, width = shape[1], shape[2]
        into = (width, self.heads, self.size)
        self.q = self.add_weight(shape=into, initializer="glorot_uniform", name="q")
        self.k = self.add_weight(shape=into, initializer="glorot_uniform", name="k")
        self.v = self.add_weight(shape=into, initializer="glorot_uniform", name="v")
        self.o = self.add_weight(
            shape=(self.heads, self.size, width), initializer="glorot_uniform", name="o"
        )
        self.table = self.add_weight(
            shape=(2 * length - 1, self.heads), initializer="random_normal", name="table"
        )
        self.distance = np.subtract.outer(np.arange(length), np.arange(length)) + length - 1

    def call(self, x):
        q = ops.einsum("btd,dhk->bhtk", x, self.q)
        k = ops.einsum("btd,dhk->bhtk", x, self.k)
        v = ops.einsum("btd,dhk->bhtk", x, self.v)
        bias = ops.transpose(ops.take(self.table, self.distance, axis=0), (2, 0, 1))
        scores = ops.einsum("bhtk,bhsk->bhts", q, k) / self.size**0.5 + bias
        mixed = ops.einsum("bhts,bhsk->bhtk", ops.softmax(scores), v)
        return ops.einsum("bhtk,hkd->btd", mixed, self.o)


class RMSNorm(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6) * self.scale


class SwiGLU(layers.Layer):
    def __init__(self, hidden, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, shape):
        width = shape[-1]
        self.gate = self.add_weight(shape=(width, self.hidden), initializer="glorot_uniform")
        self.up = self.add_weight(shape=(width, self.hidden), initializer="glorot_uniform")
        self.down = self.add_weight(shape=(self.hidden, width), initializer="glorot_uniform")

    def call(self, x):
        return ops.matmul(ops.silu(x @ self.gate) * (x @ self.up), self.down)


@architecture("own attention, relative positions", Whole((16,), 40))
def own_attention():
    inputs = keras.Input((16,), dtype="int32")
    x = layers.Embedding(40, 32)(inputs)
    for _ in range(2):
        x = x + OwnAttention(2, 16)(RMSNorm()(x))
        x = x + SwiGLU(48)(RMSNorm()(x))
    return keras.Model(inputs, Linear(6)(ops.mean(RMSNorm()(x), axis=1)))


class Bottleneck(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.down = layers.Conv2D(width // 2, 1, activation="relu")
        self.middle = layers.DepthwiseConv2D(3, padding="same")
        self.norm = layers.BatchNormalization()
        self.up = layers.Conv2D(width, 1)

    def call(self, x, training=False):
        y = ops.relu(self.norm(self.middle(self.down(x)), training=training))
        return ops.relu(x + self.up(y))


class Stage(keras.Model):
    def __init__(self, width, depth):
        super().__init__()
        self.widen = layers.Conv2D(width, 3, strides=2, padding="same")
        self.blocks = [Bottleneck(width) for _ in range(depth)]

    def call(self, x, training=False):
        x = self.widen(x)
        for block in self.blocks:
            x = block(x, training=training)
        return x


class Nested(keras.Model):
    """Models in models in a model: two inputs by name, two outputs by name."""

    def __init__(self):
        super().__init__()
        self.stages = keras.Sequential([Stage(16, 1), Stage(32, 2)])
        self.meta = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(32)])
        self.heads = {"kind": layers.Dense(5, activation="softmax"), "size": layers.Dense(1)}

    def call(self, inputs, training=False):
        x = ops.mean(self.stages(inputs["image"], training=training), axis=(1, 2))
        x = x * ops.sigmoid(self.meta(inputs["meta"]))
        if training:
            x = keras.random.dropout(x, 0.1)
        return {name: head(x) for name, head in self.heads.items()}


@architecture(
    "models in models, named inputs and outputs",
    {
        "image": Floats((16, 16, 3)),
        "meta": Floats((6,)),
    },
)
def nested():
    return Nested()


class DownscaleBlock(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.convA = layers.Conv2D(filters, 3, 1, "same")
        self.convB = layers.Conv2D(filters, 3, 1, "same")
        self.reluA = layers.LeakyReLU(negative_slope=0.2)
        self.reluB = layers.LeakyReLU(negative_slope=0.2)
        self.bn2a = layers.BatchNormalization()
        self.bn2b = layers.BatchNormalization()
        self.pool = layers.MaxPool2D((2, 2), (2, 2))

    def call(self, input_tensor):
        d = self.convA(input_tensor)
        x = self.reluA(self.bn2a(d))
        x = self.reluB(self.bn2b(self.convB(x)))
        x += d
        return x, self.pool(x)


class UpscaleBlock(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.us = layers.UpSampling2D((2, 2))
        self.convA = layers.Conv2D(filters, 3, 1, "same")
        self.reluA = layers.LeakyReLU(negative_slope=0.2)
        self.bn2a = layers.BatchNormalization()
        self.conc = layers.Concatenate()

    def call(self, x, skip):
        x = self.conc([self.us(x), skip])
        return self.reluA(self.bn2a(self.convA(x)))


class DepthEstimation(keras.Model):
    def __init__(self):
        super().__init__()
        widths = [16, 24, 32]
        self.downscale_blocks = [DownscaleBlock(width) for width in widths]
        self.bottle_neck_block = layers.Conv2D(48, 3, padding="same", activation="relu")
        self.upscale_blocks = [UpscaleBlock(width) for width in reversed(widths)]
        self.conv_layer = layers.Conv2D(1, (1, 1), padding="same", activation="tanh")

    def call(self, x):
        skips = []
        for block in self.downscale_blocks:
            c, x = block(x)
            skips.append(c)
        x = self.bottle_neck_block(x)
        for block in self.upscale_blocks:
            x = block(x, skips.pop())
        return self.conv_layer(x)


@architecture("depth of a scene, blocks of two outputs", Floats((32, 32, 3)))
def depth_estimation():
    return DepthEstimation()


class Mil(layers.Layer):
    """The attention of several instances in a bag, by raw weights."""

    def __init__(self, weight_params_dim, **kwargs):
        super().__init__(**kwargs)
        self.weight_params_dim = weight_params_dim

    def build(self, input_shape):
        dim = input_shape[0][1]
        self.v_weight_params = self.add_weight(
            shape=(dim, self.weight_params_dim), initializer="glorot_uniform", name="v"
        )
        self.w_weight_params = self.add_weight(
            shape=(self.weight_params_dim, 1), initializer="glorot_uniform", name="w"
        )
        self.u_weight_params = self.add_weight(
            shape=(dim, self.weight_params_dim), initializer="glorot_uniform", name="u"
        )

    def call(self, inputs):
        instances = [self.compute_attention_scores(instance) for instance in inputs]
        alpha = ops.softmax(ops.stack(instances), axis=0)
        return [alpha[i] for i in range(alpha.shape[0])]

    def compute_attention_scores(self, instance):
        original = instance
        instance = ops.tanh(ops.tensordot(instance, self.v_weight_params, axes=1))
        gate = ops.sigmoid(ops.tensordot(original, self.u_weight_params, axes=1))
        return ops.tensordot(instance * gate, self.w_weight_params, axes=1)


@architecture("bags of instances, attention", [Floats((14, 14))] * 3)
def bags():
    inputs, embeddings = [], []
    shared_1 = layers.Dense(32, activation="relu")
    shared_2 = layers.Dense(16, activation="relu")
    for _ in range(3):
        inp = layers.Input((14, 14))
        inputs.append(inp)
        embeddings.append(shared_2(shared_1(layers.Flatten()(inp))))
    alpha = Mil(weight_params_dim=24, name="alpha")(embeddings)
    products = [layers.multiply([alpha[i], embeddings[i]]) for i in range(len(alpha))]
    merged = layers.concatenate(products, axis=1)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(merged))


class Maxout(layers.Layer):
    def __init__(self, units, pieces, **kwargs):
        super().__init__(**kwargs)
        self.units, self.pieces = units, pieces
        self.dense = layers.Dense(units * pieces)

    def call(self, x):
        return ops.max(ops.reshape(self.dense(x), (-1, self.units, self.pieces)), axis=-1)


@architecture("functional operations", Floats((12, 20)))
def functional_operations():
    inputs = keras.Input((12, 20))
    x = ops.concatenate([inputs, ops.flip(inputs, axis=1)], axis=-1)
    x = keras.activations.gelu(layers.Dense(32)(x))
    a, b = ops.split(x, 2, axis=-1)
    x = ops.where(a > 0, a, 0.1 * b) + ops.clip(b, -1.0, 1.0)
    x = x / (1e-3 + ops.norm(x, axis=-1, keepdims=True))
    x = ops.mean(x, axis=1) + ops.max(x, axis=1)
    x = Maxout(24, 2)(x)
    low, high = x[:, ::2], x[:, 1::2]
    x = ops.stack([low, high, low * high], axis=1)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@architecture("actor and critic", Floats((8,)))
def actor_critic():
    inputs = layers.Input(shape=(8,))
    common = layers.Dense(48, activation="relu")(inputs)
    action = layers.Dense(4, activation="softmax")(common)
    return keras.Model(inputs=inputs, outputs=[action, layers.Dense(1)(common)])


class HyperLinear(layers.Layer):
    """A layer whose kernel another layer makes from the input."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.width = shape[0][-1]
        self.make = layers.Dense(self.width * self.units)
        self.make.build(shape[1])

    def call(self, inputs):
        x, context = inputs
        kernel = ops.reshape(self.make(context), (-1, self.width, self.units))
        return ops.squeeze(ops.matmul(ops.expand_dims(x, 1), kernel), 1)


@architecture("kernel made from the input", [Floats((12,)), Floats((6,))])
def hyper_network():
    x, context = keras.Input((12,)), keras.Input((6,))
    code = layers.Dense(16, activation="tanh")(context)
    hidden = ops.relu(HyperLinear(16)([layers.Dense(12)(x), code]))
    return keras.Model([x, context], layers.Dense(3)(hidden))
