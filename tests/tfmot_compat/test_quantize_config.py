"""What a QuantizeConfig says, and what of it the runtime cannot run."""

import keras
import pytest

from tests.tfmot_compat.test_quantization import DenseConfig
from tfprune import quantizers as q
from tfprune.errors import OptionError
from tfprune.tfmot_compat.quantize_config import rounding_of


def layer(kind=keras.layers.Dense, **options):
    made = kind(3, name="named", **options)
    made.build((None, 8) if kind is keras.layers.Dense else (None, 8, 8, 2))
    return made


class Given(DenseConfig):
    """A config with these quantizers."""

    def __init__(self, weight=None, activation=None, output=None):
        self.given = weight, activation, output

    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, self.given[0])] if self.given[0] else []

    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, self.given[1])] if self.given[1] else []

    def get_output_quantizers(self, layer):
        return [self.given[2]] if self.given[2] else []


def of(kind, bits=8, per_axis=False, symmetric=True, narrow_range=True):
    return kind(bits, per_axis, symmetric, narrow_range)


def test_weights_ranges_and_limits_are_taken_over() -> None:
    four = rounding_of(Given(of(q.LastValueQuantizer, 4), of(q.AllValuesQuantizer)), layer())
    assert four.weights["kernel"].bits == 4
    assert (four.ranges, four.symmetric, four.output) == ("all_values", True, True)
    fixed = rounding_of(Given(output=q.FixedQuantizer(8, -1.0, 1.0, False)), layer())
    assert fixed.limits == (-1.0, 1.0)
    bare = rounding_of(Given(of(q.LastValueQuantizer)), layer())
    assert not bare.output
    assert rounding_of(Given(), layer()) is None
    one = rounding_of(Given(of(q.LastValueQuantizer)), layer(keras.layers.Conv2D, kernel_size=3))
    assert one.weights["kernel"].per_channel is False
    each = of(q.LastValueQuantizer, per_axis=True)
    each = rounding_of(Given(each), layer(keras.layers.Conv2D, kernel_size=3))
    assert each.weights["kernel"].per_channel is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Given(of(q.MovingAverageQuantizer)), "weights: expected one of LastValueQuantizer"),
        (Given(of(q.LastValueQuantizer, 3)), r"4 or 8 bits. Received num_bits=3"),
        (Given(of(q.LastValueQuantizer, symmetric=False)), "use symmetric=True"),
        (Given(None, of(q.LastValueQuantizer, 16)), r"takes 8 bits. Received num_bits=16"),
        (Given(None, of(q.LastValueQuantizer, per_axis=True)), "use per_axis=False"),
        (Given(None, of(q.LastValueQuantizer, symmetric=False)), "narrow_range=False"),
        (Given(None, "int8"), "activations: expected one of .* Received str"),
    ],
)
def test_what_the_runtime_cannot_run_is_one_line(config, message) -> None:
    with pytest.raises(OptionError, match=f"quantize_config of layer 'named'.*{message}"):
        rounding_of(config, layer())
