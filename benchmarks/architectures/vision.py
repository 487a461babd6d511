"""Convolutional networks for images and video."""

import keras
from keras import layers, ops

from architectures.registry import Floats, architecture, settle

IMAGE = (32, 32, 3)


class ResidualBlock(layers.Layer):
    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)
        self.bn1 = layers.BatchNormalization()
        self.conv2 = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.bn2 = layers.BatchNormalization()
        self.shortcut = None
        if strides != 1:
            self.shortcut = keras.Sequential(
                [
                    layers.Conv2D(filters, 1, strides=strides, use_bias=False),
                    layers.BatchNormalization(),
                ]
            )

    def call(self, x, training=False):
        residual = x if self.shortcut is None else self.shortcut(x, training=training)
        x = keras.activations.relu(self.bn1(self.conv1(x), training=training))
        x = self.bn2(self.conv2(x), training=training)
        return keras.activations.relu(x + residual)


class ResNet(keras.Model):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = layers.Conv2D(16, 3, padding="same", activation="relu")
        self.blocks = [ResidualBlock(16), ResidualBlock(32, 2), ResidualBlock(32)]
        self.pool = layers.GlobalAveragePooling2D()
        self.dropout = layers.Dropout(0.3)
        self.head = layers.Dense(classes, activation="softmax")

    def call(self, x, training=False):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.pool(x)
        if training:
            x = self.dropout(x, training=training)
        return self.head(x)


@architecture("ResNet, subclassed", Floats(IMAGE))
def resnet():
    return ResNet()


@architecture("convnet", Floats((28, 28, 1)))
def convnet():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


@architecture("small Xception", Floats(IMAGE))
def small_xception():
    inputs = keras.Input(IMAGE)
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    previous = x
    for size in (32, 48):
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(size, 1, strides=2, padding="same")(previous)
        x = layers.add([x, residual])
        previous = x
    x = layers.SeparableConv2D(64, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.25)(x)
    return keras.Model(inputs, layers.Dense(1, activation=None)(x))


class Involution(layers.Layer):
    """A kernel for each place, made of what is there."""

    def __init__(self, channel, group_number, kernel_size, stride, reduction_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channel = channel
        self.group_number = group_number
        self.kernel_size = kernel_size
        self.stride = stride
        self.reduction_ratio = reduction_ratio

    def build(self, input_shape):
        _, height, width, channels = input_shape
        height, width = height // self.stride, width // self.stride
        area = self.kernel_size * self.kernel_size
        self.stride_layer = (
            layers.AveragePooling2D(self.stride, self.stride, padding="same")
            if self.stride > 1
            else layers.Identity()
        )
        self.kernel_gen = keras.Sequential(
            [
                layers.Conv2D(self.channel // self.reduction_ratio, 1),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(area * self.group_number, 1),
            ]
        )
        self.kernel_reshape = layers.Reshape((height, width, area, 1, self.group_number))
        self.input_patches_reshape = layers.Reshape(
            (height, width, area, channels // self.group_number, self.group_number)
        )
        self.output_reshape = layers.Reshape((height, width, channels))

    def call(self, x):
        kernel = self.kernel_reshape(self.kernel_gen(self.stride_layer(x)))
        patches = ops.image.extract_patches(
            x, size=self.kernel_size, strides=self.stride, padding="same"
        )
        output = ops.multiply(kernel, self.input_patches_reshape(patches))
        return self.output_reshape(ops.sum(output, axis=3))


@architecture("involution", Floats(IMAGE))
def involution():
    inputs = keras.Input(shape=IMAGE)
    x = Involution(channel=3, group_number=1, kernel_size=3, stride=1, reduction_ratio=2)(inputs)
    x = layers.MaxPooling2D((2, 2))(layers.ReLU()(x))
    x = layers.Conv2D(16, 1)(x)
    x = Involution(channel=16, group_number=2, kernel_size=3, stride=1, reduction_ratio=2)(x)
    x = layers.MaxPooling2D((2, 2))(layers.ReLU()(x))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


class Distance(layers.Layer):
    """The distance of two embeddings."""

    def call(self, vectors):
        x, y = vectors
        squares = ops.sum(ops.square(x - y), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, keras.backend.epsilon()))


@architecture("siamese", [Floats((28, 28, 1)), Floats((28, 28, 1))])
def siamese():
    inputs = keras.Input((28, 28, 1))
    x = layers.BatchNormalization()(inputs)
    x = layers.Conv2D(8, (5, 5), activation="tanh")(x)
    x = layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = layers.Conv2D(16, (5, 5), activation="tanh")(x)
    x = layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = layers.BatchNormalization()(layers.Flatten()(x))
    shared = keras.Model(inputs, layers.Dense(16, activation="tanh")(x))
    one, other = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    merged = Distance()([shared(one), shared(other)])
    normal = layers.BatchNormalization()(merged)
    return keras.Model(inputs=[one, other], outputs=layers.Dense(1, activation="sigmoid")(normal))


class TripletDistance(layers.Layer):
    def call(self, anchor, positive, negative):
        near = ops.sum(ops.square(anchor - positive), -1)
        return near, ops.sum(ops.square(anchor - negative), -1)


@architecture("triplet", [Floats(IMAGE), Floats(IMAGE), Floats(IMAGE)])
def triplet():
    base = keras.applications.MobileNetV2(
        weights=None, input_shape=IMAGE, include_top=False, alpha=0.35
    )
    x = layers.Flatten()(base.output)
    x = layers.BatchNormalization()(layers.Dense(64, activation="relu")(x))
    embedding = keras.Model(base.input, layers.Dense(16)(x), name="Embedding")
    names = ("anchor", "positive", "negative")
    inputs = [keras.Input(name=name, shape=IMAGE) for name in names]
    return keras.Model(inputs, TripletDistance()(*[embedding(x) for x in inputs]))


@architecture("transfer, MobileNet in a Sequential", Floats(IMAGE))
def transfer():
    return keras.Sequential(
        [
            keras.applications.MobileNet(
                include_top=False, weights=None, input_shape=IMAGE, alpha=0.25
            ),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


@architecture("transfer, frozen base with augmentation", Floats(IMAGE))
def frozen_transfer():
    base = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=IMAGE, alpha=0.35
    )
    settle(base, keras.random.normal((8, *IMAGE)))  # instead of ImageNet's
    base.trainable = False
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augmentation"
    )
    inputs = keras.Input(shape=IMAGE)
    x = base(augmentation(inputs), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(1)(x))


@architecture("captcha", Floats((48, 16, 1)))
def captcha():
    image = layers.Input(shape=(48, 16, 1), name="image")
    options = {"activation": "relu", "kernel_initializer": "he_normal", "padding": "same"}
    x = layers.Conv2D(16, (3, 3), **options, name="Conv1")(image)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = layers.Conv2D(32, (3, 3), **options, name="Conv2")(x)
    x = layers.MaxPooling2D((2, 2), name="pool2")(x)
    x = layers.Reshape(target_shape=(12, 4 * 32), name="reshape")(x)
    x = layers.Dropout(0.2)(layers.Dense(32, activation="relu", name="dense1")(x))
    x = layers.Bidirectional(layers.LSTM(32, return_sequences=True, dropout=0.25))(x)
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True, dropout=0.25))(x)
    return keras.Model(image, layers.Dense(21, activation="softmax", name="dense2")(x))


def _lateral(filters, name):
    return layers.Conv2D(filters, 1, 1, "same", name=name)


class FeaturePyramid(layers.Layer):
    def __init__(self, backbone, **kwargs):
        super().__init__(name="FeaturePyramid", **kwargs)
        self.backbone = backbone
        self.conv_c3, self.conv_c4 = _lateral(24, "c3"), _lateral(24, "c4")
        self.smooth_p3 = layers.Conv2D(24, 3, 1, "same")
        self.smooth_p4 = layers.Conv2D(24, 3, 1, "same")
        self.conv_p5 = layers.Conv2D(24, 3, 2, "same")
        self.upsample_2x = layers.UpSampling2D(2)

    def call(self, images, training=False):
        c3, c4 = self.backbone(images, training=training)
        p3, p4 = self.conv_c3(c3), self.conv_c4(c4)
        p3 = self.smooth_p3(p3 + self.upsample_2x(p4))
        return p3, self.smooth_p4(p4), self.conv_p5(keras.activations.relu(p4))


class Detector(keras.Model):
    """RetinaNet: one head for boxes and one for classes, shared by all levels."""

    def __init__(self, classes=4, **kwargs):
        super().__init__(**kwargs)
        inputs = keras.Input(IMAGE)
        x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
        c3 = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(x)
        c4 = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(c3)
        self.fpn = FeaturePyramid(keras.Model(inputs, [c3, c4]))
        self.classes = classes
        self.cls_head = self._head(9 * classes)
        self.box_head = self._head(9 * 4)

    def _head(self, filters):
        head = keras.Sequential([keras.Input(shape=[None, None, 24])])
        for _ in range(2):
            head.add(layers.Conv2D(24, 3, padding="same"))
            head.add(layers.ReLU())
        head.add(layers.Conv2D(filters, 3, 1, padding="same"))
        return head

    def call(self, image, training=False):
        boxes, kinds = [], []
        for feature in self.fpn(image, training=training):
            count = feature.shape[1] * feature.shape[2] * 9
            boxes.append(ops.reshape(self.box_head(feature), (-1, count, 4)))
            kinds.append(ops.reshape(self.cls_head(feature), (-1, count, self.classes)))
        return ops.concatenate([ops.concatenate(boxes, 1), ops.concatenate(kinds, 1)], axis=-1)


@architecture("detector, RetinaNet", Floats(IMAGE))
def detector():
    return Detector()
