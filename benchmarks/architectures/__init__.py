"""Small Keras 3 models of many kinds, written by hand as people write them in tutorials."""

from architectures import (  # noqa: F401 - each registers its models
    audio,
    custom,
    generative,
    structured,
    text,
    timeseries,
    vision,
    vision_attention,
)
from architectures.registry import ARCHITECTURES, Architecture, Floats, Whole
from architectures.samples import build, random_targets, samples

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Floats",
    "Whole",
    "build",
    "random_targets",
    "samples",
]
