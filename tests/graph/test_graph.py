import keras
from keras import layers as kl

from tfprune.graph.graph import Ref, needed
from tfprune.graph.read import read, read_function


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


def test_readers_calls_and_starts() -> None:
    found = graph()
    first, relu, add, last = found.calls
    assert found.readers(first.outputs[0]) == [relu, add]
    assert found.readers(last.outputs[0]) == []
    assert found.calls_of(first.op) == [first]
    assert found.starts() == {0: found.input_layers[0]}
    assert found.dtype(last.outputs[0]) == "float32"


def test_what_a_tensor_depends_on_comes_in_order() -> None:
    found = graph()
    first, relu, add, _ = found.calls
    assert needed(found.calls, relu.outputs) == [first, relu]
    assert needed(found.calls, add.outputs) == [first, relu, add]
    assert needed(found.calls, []) == []


def test_masks_of_tensors_are_known_with_their_shapes() -> None:
    tokens = keras.Input((4,), dtype="int32")
    x = kl.Embedding(5, 3, mask_zero=True)(tokens)
    found = read_function(keras.Model(tokens, kl.LSTM(2)(x)))
    embedding = next(call for call in found.calls if isinstance(call.op, kl.Embedding))
    memory = next(call for call in found.calls if isinstance(call.op, kl.LSTM))
    (rows,) = embedding.outputs
    assert found.values[rows.index].mask == (None, 4)
    assert found.values[found.inputs.index].mask is None
    assert found.masks[rows] == memory.kwargs["mask"]


def test_a_graph_is_moved_behind_another() -> None:
    found = graph()
    before = [call.outputs[0].index for call in found.calls]
    found.move(10)
    assert [call.outputs[0].index for call in found.calls] == [index + 10 for index in before]
    assert found.inputs == Ref(10)
    assert found.outputs == found.calls[-1].outputs[0]
