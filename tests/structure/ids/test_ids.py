"""Which ids are kept, and what an operation records of them."""

import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Graph
from tfprune.structure.groups.grouping import components
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import MAKE, Keep, Site


def test_keep_counts_and_masks() -> None:
    keep = Keep(np.array([True, False, True]))
    assert keep.count(np.array([0, 1, 2, 2])) == 3
    assert keep.mask(np.array([1, 2])).tolist() == [False, True]
    assert keep.all(None)
    assert not keep.all(np.array([0, 1]))


def flow() -> Flow:
    return Flow(Graph(None, None, None, []))


def test_a_shared_layer_is_bound_once_and_joined_after() -> None:
    ids = flow()
    layer = kl.Dense(2)
    layer.build((None, 3))
    site = ids.site(layer)
    first, second = ids.fresh(3, layer), ids.fresh(3, layer)
    site.bind(layer.kernel, 0, first, "use")
    site.bind(layer.kernel, 0, second, "use")
    assert len(site.bindings) == 1
    assert components(6, ids.edges).tolist() == [0, 1, 2, 0, 1, 2]
    out = site.make("units", 2)
    assert site.make("units", 2) is out
    site.bind(layer.kernel, 1, out, MAKE)
    assert site.edits["units",](Keep(np.arange(8) != 6)) == 1


def test_an_inner_layer_is_found_by_its_path_in_the_config() -> None:
    ids, outer, inner = flow(), kl.Bidirectional(kl.LSTM(3)), kl.LSTM(3)
    site = Site(outer, ids)
    assert not site.makes
    held = site.inside(inner, "layer")
    held.make("units", 3)
    assert site.inside(inner, "layer") is held
    assert site.makes
    deeper = held.inside(kl.Dense(2), "config", "layers", 1, label="body/last")
    deeper.make("units", 2)
    assert list(site.edits) == [
        ("layer", "config", "units"),
        ("layer", "config", "config", "layers", 1, "config", "units"),
    ]
    keys = [producer.key for producer in ids.producers]
    assert keys == ["layer.units", "layer.body/last.units"]
    assert {id(producer.op) for producer in ids.producers} == {id(outer)}


def test_a_weight_is_multiplied_once_for_several_calls() -> None:
    layer = kl.Dense(2)
    layer.build((None, 3))
    site = Site(layer, flow())
    site.factor(layer.kernel, lambda keep: 2.0)
    site.factor(layer.kernel, lambda keep: 3.0)
    ((weight, change),) = site.factors
    assert weight is layer.kernel
    assert change(Keep(np.ones(0, bool))) == 2.0
