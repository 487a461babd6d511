"""Three small trained networks: depthwise convolutions, residual blocks, attention.

They are trained briefly, each with its own seed, on a fifth of Fashion-MNIST and on the TREC
questions; a trained one is stored and read the next time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from attention_networks import Positions
from cifar_networks import MOMENTUM, normed
from datasets import Data, data_dir, fashion_mnist

L = keras.layers

WORDS, LENGTH = 2500, 24
TRAINING_IMAGES = 12_000


def mobile() -> Any:
    """A MobileNet (Howard et al., 2017) for 28² images, with ReLU."""
    image = keras.Input((28, 28, 1))
    x = L.ReLU()(normed(image, "stem", 16, 3, 2))
    for block, (filters, strides) in enumerate([(32, 1), (64, 2), (64, 1), (128, 2), (128, 1)]):
        name = f"block{block}"
        x = L.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False, name=f"{name}.depthwise"
        )(x)
        x = L.ReLU()(L.BatchNormalization(momentum=MOMENTUM, name=f"{name}.depthwise.norm")(x))
        x = L.ReLU()(normed(x, f"{name}.point", filters, 1))
    return keras.Model(image, L.Dense(10, name="logits")(L.GlobalAveragePooling2D()(x)))


def resnet_8() -> Any:
    """The residual network of cifar_networks.py for 28² images of one channel."""
    image = keras.Input((28, 28, 1))
    x = L.ReLU()(normed(image, "stem", 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        name, strides = f"block{stage}", 2 if stage else 1
        shortcut = normed(x, f"{name}.shortcut", filters, 1, strides) if stage else x
        inner = L.ReLU()(normed(x, f"{name}.first", filters, 3, strides))
        x = L.ReLU()(L.Add()([shortcut, normed(inner, f"{name}.second", filters, 3)]))
    return keras.Model(image, L.Dense(10, name="logits")(L.GlobalAveragePooling2D()(x)))


def transformer() -> Any:
    """Two encoder blocks (Vaswani et al., 2017) that normalize before: 64 wide, 4 heads."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = Positions()(L.Embedding(WORDS, 64)(tokens))
    for block in range(2):
        normal = L.LayerNormalization(name=f"block{block}.first")(x)
        x = x + L.MultiHeadAttention(4, 16, name=f"block{block}.attention")(normal, normal)
        normal = L.LayerNormalization(name=f"block{block}.second")(x)
        wide = L.Dense(128, activation="relu", name=f"block{block}.wide")(normal)
        x = x + L.Dense(64, name=f"block{block}.narrow")(L.Dropout(0.2)(wide))
    x = L.GlobalAveragePooling1D()(L.LayerNormalization(name="last")(x))
    return keras.Model(tokens, L.Dense(6, name="logits")(L.Dropout(0.2)(x)))


def images() -> Data:
    """Fashion-MNIST from -1 to 1; the first of its training images."""
    (x, y), (x_test, y_test) = fashion_mnist()
    x, x_test = (pixels[..., None].astype(np.float32) / 127.5 - 1 for pixels in (x, x_test))
    return (x[:TRAINING_IMAGES], y[:TRAINING_IMAGES]), (x_test, y_test)


def questions() -> Data:
    """The TREC questions (Li and Roth, 2002) as numbers of words, 6 classes."""
    splits = []
    for split in "train", "test":
        raw = (data_dir() / "text" / f"TREC.{split}.all").read_text("latin-1")
        splits.append([line.split() for line in raw.splitlines() if line.strip()])
    counts = Counter(word for words in splits[0] for word in words[1:])
    # 0 pads, and 1 is any other word.
    number = {word: i for i, (word, _) in enumerate(counts.most_common(WORDS - 2), start=2)}

    def pair(lines: list[list[str]]) -> Any:
        x = np.zeros((len(lines), LENGTH), np.int32)
        for row, (_, *words) in zip(x, lines, strict=True):
            found = [number.get(word, 1) for word in words[:LENGTH]]
            row[: len(found)] = found
        return x, np.array([int(words[0]) for words in lines])

    return pair(splits[0]), pair(splits[1])


@dataclass(frozen=True)
class Network:
    """How a network is made and trained."""

    build: Callable[[], Any]
    data: Callable[[], Data]
    epochs: int
    batch: int = 128


NETWORKS = {
    "MobileNet, depthwise": Network(mobile, images, 4, 64),
    "ResNet-8": Network(resnet_8, images, 2, 64),
    "transformer": Network(transformer, questions, 8, 64),
}


def trained(name: str, seed: int, work: Path, data: Data) -> Any:
    """Return a network, trained now or before."""
    network = NETWORKS[name]
    path = work / f"{network.build.__name__}-{seed}.keras"
    if path.exists():
        return keras.models.load_model(path)
    keras.utils.set_random_seed(seed)
    model = network.build()
    (x, y), _ = data
    steps = network.epochs * -(-len(x) // network.batch)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=network.batch, epochs=network.epochs, verbose=0)
    model.save(path)
    return model
