"""All models of keras.applications, for a small image where they allow one, of random weights."""

from functools import partial

import keras

from architectures.registry import Floats, architecture

SIDE = 80
# The first Dense layer of VGG and the cropping of NASNet need the input they were made for.
OWN_SIDE = {"VGG16": 224, "VGG19": 224, "NASNetMobile": 224, "NASNetLarge": 331}


def application(name: str, side: int) -> keras.Model:
    """Return a model by its name."""
    return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3))


for name in sorted(name for name in dir(keras.applications) if name[0].isupper()):
    side = OWN_SIDE.get(name, SIDE)
    architecture(name, Floats((side, side, 3)), "applications")(partial(application, name, side))
