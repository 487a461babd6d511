"""Networks that make images, or a code of them."""

import math

import keras
import numpy as np
from keras import layers, ops

from architectures.registry import Floats, Whole, architecture


class Sampling(layers.Layer):
    """Draw a code from a normal distribution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        batch, dim = ops.shape(z_mean)[0], ops.shape(z_mean)[1]
        epsilon = keras.random.normal(shape=(batch, dim), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


def _vae_encoder(latent_dim=4):
    inputs = keras.Input(shape=(28, 28, 1))
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    z_mean = layers.Dense(latent_dim, name="z_mean")(x)
    z_log_var = layers.Dense(latent_dim, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    return keras.Model(inputs, [z_mean, z_log_var, z], name="encoder")


def _vae_decoder(latent_dim=4):
    inputs = keras.Input(shape=(latent_dim,))
    x = layers.Dense(7 * 7 * 32, activation="relu")(inputs)
    x = layers.Reshape((7, 7, 32))(x)
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    return keras.Model(inputs, x, name="decoder")


class VAE(keras.Model):
    """The code is drawn while training, and is its mean after."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def call(self, x, training=False):
        z_mean, z_log_var, z = self.encoder(x)
        if training:
            spread = ops.exp(z_log_var)
            self.add_loss(-0.5 * ops.mean(1 + z_log_var - ops.square(z_mean) - spread))
            return self.decoder(z)
        return self.decoder(z_mean)


@architecture("VAE", Floats((28, 28, 1)))
def vae():
    return VAE(_vae_encoder(), _vae_decoder())


@architecture("VAE, its encoder that draws", Floats((28, 28, 1)))
def vae_encoder():
    return _vae_encoder()


@architecture("VAE, its decoder", Floats((4,)))
def vae_decoder():
    return _vae_decoder()


class VectorQuantizer(layers.Layer):
    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.num_embeddings = num_embeddings
        self.beta = beta
        self.embeddings = self.add_weight(
            shape=(embedding_dim, num_embeddings),
            initializer=keras.initializers.RandomUniform(),
            trainable=True,
            name="embeddings_vqvae",
        )

    def call(self, x):
        input_shape = ops.shape(x)
        flattened = ops.reshape(x, [-1, self.embedding_dim])
        similarity = ops.matmul(flattened, self.embeddings)
        distances = (
            ops.sum(flattened**2, axis=1, keepdims=True)
            + ops.sum(self.embeddings**2, axis=0)
            - 2 * similarity
        )
        encodings = ops.one_hot(ops.argmin(distances, axis=1), self.num_embeddings)
        quantized = ops.matmul(encodings, ops.transpose(self.embeddings))
        quantized = ops.reshape(quantized, input_shape)
        return x + ops.stop_gradient(quantized - x)


@architecture("VQ-VAE", Floats((28, 28, 1)))
def vq_vae():
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(x)
    x = VectorQuantizer(24, 8, name="vector_quantizer")(layers.Conv2D(8, 1, padding="same")(x))
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(inputs, layers.Conv2DTranspose(1, 3, padding="same")(x), name="vq_vae")


@architecture("autoencoder", Floats((28, 28, 1)))
def autoencoder():
    inputs = layers.Input(shape=(28, 28, 1))
    x = layers.Conv2D(24, (3, 3), activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    x = layers.Conv2D(24, (3, 3), activation="relu", padding="same")(x)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    x = layers.Conv2DTranspose(24, (3, 3), strides=2, activation="relu", padding="same")(x)
    x = layers.Conv2DTranspose(24, (3, 3), strides=2, activation="relu", padding="same")(x)
    return keras.Model(inputs, layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(x))


@architecture("GAN, discriminator", Floats((32, 32, 3)))
def discriminator():
    model = keras.Sequential([keras.Input(shape=(32, 32, 3))], name="discriminator")
    for filters in (16, 32, 32):
        model.add(layers.Conv2D(filters, kernel_size=4, strides=2, padding="same"))
        model.add(layers.LeakyReLU(negative_slope=0.2))
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.2))
    model.add(layers.Dense(1, activation="sigmoid"))
    return model


@architecture("GAN, generator of a class", [Floats((16,)), Whole((1,), 10)])
def conditional_generator():
    noise, label = keras.Input((16,)), keras.Input((1,), dtype="int32")
    code = layers.Flatten()(layers.Embedding(10, 8)(label))
    x = layers.Concatenate()([noise, code])
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(7 * 7 * 24)(x))
    x = layers.Reshape((7, 7, 24))(x)
    for filters in (24, 16):
        x = layers.Conv2DTranspose(filters, (4, 4), strides=(2, 2), padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2D(1, (7, 7), padding="same", activation="sigmoid")(x)
    return keras.Model([noise, label], x, name="generator")


@architecture("Wasserstein GAN, generator", Floats((16,)))
def wgan_generator():
    noise = layers.Input(shape=(16,))
    x = layers.Dense(4 * 4 * 32, use_bias=False)(noise)
    x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    x = layers.Reshape((4, 4, 32))(x)
    for filters in (24, 16, 1):
        x = layers.UpSampling2D((2, 2))(x)
        x = layers.Conv2D(filters, (3, 3), padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("tanh")(x) if filters == 1 else layers.LeakyReLU(0.2)(x)
    return keras.Model(noise, layers.Cropping2D((2, 2))(x))


class ReflectionPadding2D(layers.Layer):
    def __init__(self, padding=(1, 1), **kwargs):
        self.padding = tuple(padding)
        super().__init__(**kwargs)

    def call(self, input_tensor):
        down, across = self.padding
        pads = [[0, 0], [down, down], [across, across], [0, 0]]
        return ops.pad(input_tensor, pads, mode="reflect")


@architecture("CycleGAN, generator", Floats((32, 32, 3)))
def cycle_generator():
    image = layers.Input(shape=(32, 32, 3))
    x = ReflectionPadding2D(padding=(3, 3))(image)
    x = layers.Conv2D(16, (7, 7), use_bias=False)(x)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=1)(x))
    x = layers.Conv2D(32, (3, 3), strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=1)(x))
    for _ in range(2):
        y = ReflectionPadding2D()(x)
        y = layers.Conv2D(32, (3, 3), padding="valid", use_bias=False)(y)
        y = layers.Activation("relu")(layers.GroupNormalization(groups=1)(y))
        x = layers.add([x, layers.Conv2D(32, (3, 3), padding="same")(y)])
    x = layers.Conv2DTranspose(16, (3, 3), strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=1)(x))
    x = layers.Conv2D(3, (7, 7), padding="valid")(ReflectionPadding2D(padding=(3, 3))(x))
    return keras.Model(image, layers.Activation("tanh")(x))


def sinusoidal_embedding(x, dims=16):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(1000.0), dims // 2))
    angular_speeds = ops.cast(2.0 * math.pi * frequencies, "float32")
    parts = [ops.sin(angular_speeds * x), ops.cos(angular_speeds * x)]
    return ops.concatenate(parts, axis=3)


def _diffusion_block(width):
    def apply(x):
        input_width = x.shape[3]
        residual = x if input_width == width else layers.Conv2D(width, kernel_size=1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same", activation="swish")(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
        return layers.Add()([x, residual])

    return apply


@architecture("diffusion, U-Net", [Floats((16, 16, 3)), Floats((1, 1, 1), positive=True)])
def diffusion():
    noisy_images = keras.Input(shape=(16, 16, 3))
    noise_variances = keras.Input(shape=(1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 16))(noise_variances)
    e = layers.UpSampling2D(size=16, interpolation="nearest")(e)
    x = layers.Conv2D(16, kernel_size=1)(noisy_images)
    x = layers.Concatenate()([x, e])
    skips = []
    for width in (16, 24):
        for _ in range(2):
            x = _diffusion_block(width)(x)
            skips.append(x)
        x = layers.AveragePooling2D(pool_size=2)(x)
    x = _diffusion_block(32)(x)
    for width in (24, 16):
        x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
        for _ in range(2):
            x = _diffusion_block(width)(layers.Concatenate()([x, skips.pop()]))
    x = layers.Conv2D(3, kernel_size=1, kernel_initializer="glorot_uniform")(x)
    return keras.Model([noisy_images, noise_variances], x, name="residual_unet")


class TimeBlock(layers.Layer):
    """A residual block of a diffusion model, told the step by a vector."""

    def __init__(self, width, groups=4, **kwargs):
        super().__init__(**kwargs)
        self.norm1 = layers.GroupNormalization(groups=groups)
        self.conv1 = layers.Conv2D(width, 3, padding="same")
        self.time = layers.Dense(width)
        self.norm2 = layers.GroupNormalization(groups=groups)
        self.conv2 = layers.Conv2D(width, 3, padding="same")
        self.skip = layers.Conv2D(width, 1)

    def call(self, inputs):
        x, t = inputs
        y = self.conv1(keras.activations.swish(self.norm1(x)))
        y = y + self.time(keras.activations.swish(t))[:, None, None, :]
        return self.skip(x) + self.conv2(keras.activations.swish(self.norm2(y)))


@architecture("diffusion, steps as a vector", [Floats((16, 16, 3)), Whole((), 100)])
def denoiser():
    image = layers.Input((16, 16, 3), name="image_input")
    step = keras.Input((), dtype="int32", name="time_input")
    frequencies = np.exp(np.arange(8) * -(math.log(10000) / 7)).astype("float32")
    angle = ops.expand_dims(ops.cast(step, "float32"), -1) * frequencies[None, :]
    t = ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)
    t = layers.Dense(32)(layers.Dense(32, activation="swish")(t))
    x = layers.Conv2D(16, 3, padding="same")(image)
    x = TimeBlock(16)([x, t])
    skip = x
    x = TimeBlock(24)([layers.Conv2D(24, 3, strides=2, padding="same")(x), t])
    x = layers.UpSampling2D(2, interpolation="nearest")(x)
    x = TimeBlock(16)([layers.Concatenate(axis=-1)([x, skip]), t])
    x = keras.activations.swish(layers.GroupNormalization(groups=4)(x))
    return keras.Model([image, step], layers.Conv2D(3, (3, 3), padding="same")(x))


class PixelConvLayer(layers.Layer):
    """A convolution that sees only what stands before."""

    def __init__(self, mask_type, **kwargs):
        super().__init__()
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**kwargs)

    def build(self, input_shape):
        self.conv.build(input_shape)
        shape = ops.shape(self.conv.kernel)
        mask = np.zeros(shape=shape, dtype="float32")
        mask[: shape[0] // 2, ...] = 1.0
        mask[shape[0] // 2, : shape[1] // 2, ...] = 1.0
        if self.mask_type == "B":
            mask[shape[0] // 2, shape[1] // 2, ...] = 1.0
        self.mask = mask

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


class PixelBlock(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = layers.Conv2D(filters=filters, kernel_size=1, activation="relu")
        self.pixel_conv = PixelConvLayer(
            mask_type="B", filters=filters // 2, kernel_size=3, activation="relu", padding="same"
        )
        self.conv2 = layers.Conv2D(filters=filters, kernel_size=1, activation="relu")

    def call(self, inputs):
        return layers.add([inputs, self.conv2(self.pixel_conv(self.conv1(inputs)))])


@architecture("PixelCNN", Floats((16, 16, 1)))
def pixel_cnn():
    inputs = keras.Input(shape=(16, 16, 1))
    x = PixelConvLayer(mask_type="A", filters=24, kernel_size=7, activation="relu", padding="same")(
        inputs
    )
    for _ in range(2):
        x = PixelBlock(filters=24)(x)
    x = layers.Conv2D(filters=1, kernel_size=1, activation="sigmoid")(x)
    return keras.Model(inputs, x)


@architecture("radiance field, NeRF", Floats((64, 24)))
def nerf():
    inputs = keras.Input(shape=(64, 24))
    x = inputs
    for i in range(5):
        x = layers.Dense(units=32, activation="relu")(x)
        if i % 4 == 0 and i > 0:
            x = layers.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs=inputs, outputs=layers.Dense(units=4)(x))
