"""Small Keras 3 models of many kinds, written by hand as people write them in tutorials."""

from architectures import (  # noqa: F401 - each registers its models
    applications,
    audio,
    custom,
    generative,
    image_to_image,
    structured,
    text,
    text_experts,
    timeseries,
    video_and_points,
    vision,
    vision_attention,
    vision_windows,
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
