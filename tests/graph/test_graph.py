import keras
from keras import layers as kl

from tfprune.graph.graph import Ref
from tfprune.graph.read import read


def graph():
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="first")(inputs)
    return read(keras.Model(inputs, kl.Dense(2, name="last")(x + kl.ReLU()(x))), lambda op: True)


def test_calls_know_their_tensors() -> None:
    found = graph()
    first, relu, add, _ = found.calls
    assert add.inputs == (first.outputs[0], relu.outputs[0])
    assert found.shape(add.outputs[0]) == (None, 3)
    assert found.producers()[add.outputs[0].index] is add


def test_the_only_reader_of_a_tensor() -> None:
    found = graph()
    first, relu, add, last = found.calls
    assert found.only_reader(first.outputs[0]) is None
    assert found.only_reader(relu.outputs[0]) is add
    assert found.only_reader(last.outputs[0]) is None, "it is an output of the model"


def test_a_graph_is_moved_behind_another() -> None:
    found = graph()
    before = [call.outputs[0].index for call in found.calls]
    found.move(10)
    assert [call.outputs[0].index for call in found.calls] == [index + 10 for index in before]
    assert found.inputs == Ref(10)
    assert found.outputs == found.calls[-1].outputs[0]
