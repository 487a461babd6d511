import numpy as np

from tests.structure.rebuild.conftest import chain
from tfprune.graph.rebuild import read_weights
from tfprune.structure.groups.units import units
from tfprune.structure.ids.ids import Keep
from tfprune.structure.rebuild.weights import sliced, zeroed


def test_cutting_takes_the_positions_that_live() -> None:
    model = chain()
    found = units(model)
    weights = read_weights(found.graph)
    keep = Keep(found.kept_mask(found[0].units[[1]]))
    kept = sliced(found, weights, keep)
    np.testing.assert_array_equal(
        kept[id(model.get_layer("a"))][0], np.arange(12.0).reshape(4, 3)[:, [0, 2]]
    )
    np.testing.assert_array_equal(kept[id(model.get_layer("b"))][0], [[0, 1], [4, 5]])
    quiet = zeroed(found, weights, keep)
    np.testing.assert_array_equal(quiet[id(model.get_layer("b"))][0], [[0, 1], [0, 0], [4, 5]])
    np.testing.assert_array_equal(quiet[id(model.get_layer("a"))][0], np.arange(12.0).reshape(4, 3))
