"""Networks that make an image of an image: segmentation, super-resolution, light."""

import keras
from keras import layers, ops

from architectures.registry import Floats, architecture

IMAGE = (32, 32, 3)


@architecture("U-Net, residual", Floats(IMAGE))
def u_net():
    inputs = keras.Input(shape=IMAGE)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    previous = x
    for filters in [24, 32]:
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(filters, 1, strides=2, padding="same")(previous)
        x = layers.add([x, residual])
        previous = x
    for filters in [32, 24, 16]:
        x = layers.Activation("relu")(x)
        x = layers.Conv2DTranspose(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.Conv2DTranspose(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        residual = layers.UpSampling2D(2)(previous)
        residual = layers.Conv2D(filters, 1, padding="same")(residual)
        x = layers.add([x, residual])
        previous = x
    outputs = layers.Conv2D(3, 3, activation="softmax", padding="same")(x)
    return keras.Model(inputs, outputs)


def _convolution_block(x, filters=24, kernel_size=3, dilation_rate=1):
    x = layers.Conv2D(
        filters,
        kernel_size,
        dilation_rate=dilation_rate,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(),
    )(x)
    return ops.nn.relu(layers.BatchNormalization()(x))


def _spatial_pyramid(inputs):
    size = inputs.shape[1]
    x = layers.AveragePooling2D(pool_size=(size, size))(inputs)
    x = _convolution_block(x, kernel_size=1)
    pooled = layers.UpSampling2D(size=(size, size), interpolation="bilinear")(x)
    rates = [
        _convolution_block(inputs, kernel_size=1 if rate == 1 else 3, dilation_rate=rate)
        for rate in (1, 2, 4)
    ]
    return _convolution_block(layers.Concatenate(axis=-1)([pooled, *rates]), kernel_size=1)


@architecture("DeepLabV3+", Floats(IMAGE))
def deeplab():
    inputs = keras.Input(IMAGE)
    low = _convolution_block(inputs, 16)
    x = layers.MaxPooling2D(2)(low)
    x = layers.MaxPooling2D(2)(_convolution_block(x, 32))
    x = _spatial_pyramid(x)
    x = layers.UpSampling2D(size=(4, 4), interpolation="bilinear")(x)
    x = layers.Concatenate(axis=-1)([x, _convolution_block(low, 12, kernel_size=1)])
    x = _convolution_block(x)
    return keras.Model(inputs, layers.Conv2D(5, kernel_size=(1, 1), padding="same")(x))


class DepthToSpace(layers.Layer):
    def __init__(self, block_size):
        super().__init__()
        self.block_size = block_size

    def call(self, x):
        _, height, width, depth = x.shape
        size, depth = self.block_size, depth // self.block_size**2
        x = ops.reshape(x, (-1, height, width, size, size, depth))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * size, width * size, depth))


@architecture("super-resolution, ESPCN", Floats((24, 24, 1)))
def espcn(upscale_factor=3, channels=1):
    options = {
        "activation": "relu",
        "kernel_initializer": "orthogonal",
        "padding": "same",
    }
    inputs = keras.Input(shape=(24, 24, channels))
    x = layers.Conv2D(32, 5, **options)(inputs)
    x = layers.Conv2D(32, 3, **options)(x)
    x = layers.Conv2D(16, 3, **options)(x)
    x = layers.Conv2D(channels * upscale_factor**2, 3, **options)(x)
    return keras.Model(inputs, DepthToSpace(upscale_factor)(x))


@architecture("super-resolution, EDSR", Floats((16, 16, 3)))
def edsr():
    inputs = keras.Input((16, 16, 3))
    x = x_new = layers.Conv2D(16, 3, padding="same")(layers.Rescaling(scale=1 / 255)(inputs))
    for _ in range(3):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(x_new)
        x_new = layers.Add()([x_new, layers.Conv2D(16, 3, padding="same")(y)])
    x = layers.Add()([x, layers.Conv2D(16, 3, padding="same")(x_new)])
    x = DepthToSpace(2)(layers.Conv2D(16 * 4, 3, padding="same")(x))
    x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(inputs, layers.Rescaling(scale=255.0)(x))


def _curve_network():
    image = keras.Input(shape=(None, None, 3))
    options = {"strides": (1, 1), "activation": "relu", "padding": "same"}
    conv1 = layers.Conv2D(16, (3, 3), **options)(image)
    conv2 = layers.Conv2D(16, (3, 3), **options)(conv1)
    conv3 = layers.Conv2D(16, (3, 3), **options)(conv2)
    merged = layers.Concatenate(axis=-1)([conv2, conv3])
    conv4 = layers.Conv2D(16, (3, 3), **options)(merged)
    merged = layers.Concatenate(axis=-1)([conv1, conv4])
    curves = layers.Conv2D(12, (3, 3), strides=(1, 1), activation="tanh", padding="same")(merged)
    return keras.Model(inputs=image, outputs=curves)


class LowLight(keras.Model):
    """Zero-DCE: a network gives curves that are applied one after the other."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dce_model = _curve_network()

    def call(self, data):
        curves = self.dce_model(data)
        x = data
        for i in range(0, 12, 3):
            x = x + curves[:, :, :, i : i + 3] * (ops.square(x) - x)
        return x


@architecture("low light, zero-DCE", Floats(IMAGE, positive=True))
def low_light():
    return LowLight()
