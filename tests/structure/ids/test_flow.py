import keras
import numpy as np

from tfprune.graph.graph import Call, Graph, Ref, Value
from tfprune.structure.groups.grouping import components
from tfprune.structure.ids.flow import Flow


def flow_of(*shapes):
    graph = Graph(None, None, None, [], [Value(shape, "float32") for shape in shapes])
    return Flow(graph)


def test_joining_pairs_positions_and_freezes_the_others() -> None:
    flow = flow_of()
    a, b = flow.fresh(3, None), flow.fresh(3, None)
    flow.join(a, b, "sum")
    assert components(6, flow.edges).tolist() == [0, 1, 2, 0, 1, 2]
    assert flow.join(a, None, "the input") is None
    assert flow.frozen[-1][1] == "the input"
    assert flow.join(a, flow.fresh(2, None), "odd") is None
    assert [why for _, why in flow.frozen[-2:]] == ["odd", "odd"]


def test_merging_broadcasts_axes_of_one() -> None:
    flow = flow_of((None, 4, 3), (None, 1, 3), (None, 3))
    a, b = flow.fresh(3, None), flow.fresh(3, None)
    flow.axes_of = {0: (None, None, a), 1: (None, None, b), 2: (None, None)}
    assert flow.merge([Ref(0), Ref(1)], "why")[-1] is a
    assert flow.frozen == []
    assert flow.merge([Ref(0), Ref(2)], "why") == (None, None, None)
    assert flow.frozen[0][1] == "why"


def test_costs_of_sizes_that_are_not_known_are_not_numbers() -> None:
    flow = flow_of()
    call = Call(keras.layers.Identity(), (), {}, (), "here")
    flow.cost(call, 2, 3, flow.fresh(4, None))
    flow.cost(call, 2, None)
    assert flow.costs[0].factor == 6
    assert np.isnan(flow.costs[1].factor)
    flow.repeat_costs(0, call, 5)
    assert flow.costs[0].factor == 30
