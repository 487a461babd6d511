"""How numbers are rounded, and which of a model are.

Example:
    >>> import keras
    >>> import tfprune
    >>> class Own(keras.layers.Dense):
    ...     pass
    >>> @tfprune.rounding.register(Own)
    ... def own_rounding(layer):
    ...     return tfprune.rounding.LayerRounding(bits=4)
"""

from tfprune.deploy.qat.rounding.layer_rounding import (
    LayerRounding as LayerRounding,
)
from tfprune.deploy.qat.rounding.layer_rounding import (
    WeightRounding as WeightRounding,
)
from tfprune.deploy.qat.rounding.layer_rounding import (
    register as register,
)
