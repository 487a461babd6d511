"""The release of the installed Keras, for tests of what only a newer one can do."""

import keras

KERAS = tuple(map(int, keras.__version__.split(".")[:2]))
