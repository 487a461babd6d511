"""What `scheme="auto"` takes for two convnets and a transformer, and what it measured to do so.

    python benchmarks/scheme_choice.py [--runs 30]

Weights are random, with BatchNormalization settled on the samples: what is asked is which file is
the fastest of those that agree with their model, so the gate of `auto` is left open.
"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from harness import publish
from latency import attention

from tfprune.deploy.auto import choose
from tfprune.deploy.converter.options import Options

SEED = 0


def mobile_net() -> keras.Model:
    """Return MobileNetV2 for images of 224x224."""
    return keras.applications.MobileNetV2(weights=None)


def resnet_50() -> keras.Model:
    """Return ResNet50 for images of 224x224."""
    return keras.applications.ResNet50(weights=None)


def settled(model: keras.Model, samples: np.ndarray) -> keras.Model:
    """Give BatchNormalization the statistics that the samples have, so that nothing explodes."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(samples, training=True)
    return model


def main() -> None:
    """Choose for each network and publish all candidates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    rows, numbers, measured = [], {}, ""
    for build in (mobile_net, attention, resnet_50):
        keras.utils.set_random_seed(SEED)
        model = build()
        shape = model.inputs[0].shape[1:]
        samples = np.random.default_rng(SEED).normal(size=(32, *shape)).astype("float32")
        file = choose(settled(model, samples), Options(calibration=samples, batch=1),
                      max_drop=1.0, runs=options.runs)  # fmt: skip
        choice = file.report.choice
        assert choice is not None
        measured = choice.measured_on
        rows += [[model.name, *cells] for cells in choice.cells]
        numbers[model.name] = dataclasses.asdict(choice)
        print(choice.to_text())
    publish(
        "scheme_choice",
        title='What scheme="auto" takes',
        columns=("network", "scheme", "file", "gzip", "median", "ratio [quartiles]", "agreement",
                 "verdict"),
        rows=rows,
        numbers=numbers,
        seeds=[SEED],
        remarks=[
            "Random weights, so classes lie near each other and agreement says little; the gate is "
            f"left open and the fastest is taken. Batch 1, {measured}."
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
