"""Values that are taken for constants are constant for every input."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.graph.rebuild import read_weights
from tfprune.structure.gates.closed_values import record_consumers
from tfprune.structure.groups.units import units


def close(layer, bias: float | None = None) -> None:
    """Close units 1 and 2 of a layer where they are made, in each gate that it has."""
    size = getattr(layer, "units", None) or layer.filters
    for variable in layer.weights:
        array = np.array(variable)
        if variable.name.endswith("kernel"):
            array.reshape(-1, array.shape[-1] // size, size)[..., [1, 2]] = 0
        elif bias is not None:
            array.reshape(-1, size)[:, [1, 2]] = bias
        variable.assign(array)


def shrunk(model, data, note: str | None) -> int:
    """How many units went; the rest computes what the model computes."""
    small, report = tfprune.shrink(model, "zeros", verify=False)
    np.testing.assert_allclose(small(data), model(data), atol=1e-5)
    assert len(report.notes) == (note is not None)
    assert note is None or note in report.notes[0]
    return report.before.units - report.after.units


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(scale=5, size=shape).astype("float32")


def test_a_relu_that_is_zero_on_some_inputs_is_not_constant() -> None:
    inputs = keras.Input((3,))
    factor = kl.Dense(
        1, activation="relu", name="factor", bias_initializer=keras.initializers.Constant(-9.0)
    )
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(4, name="a")(inputs) * factor(inputs)))
    close(model.get_layer("a"), 1.0)
    assert shrunk(model, noise(8, 3), "receives more than one constant") == 0
    close(model.get_layer("a"), 0.0)
    assert shrunk(model, noise(8, 3), None) == 2


def test_a_sum_over_an_open_size_is_not_constant() -> None:
    inputs = keras.Input((None, 3))
    x = ops.sum(kl.Dense(4, name="a")(inputs), axis=1)
    model = keras.Model(inputs, kl.Dense(2)(x))
    close(model.get_layer("a"), 1.0)
    assert shrunk(model, noise(2, 7, 3), "receives more than one constant") == 0


@pytest.mark.parametrize(("padding", "gone"), [(0, 2), (1, 0)])
def test_a_mean_over_an_open_size_is_constant_without_zero_padding(padding: int, gone: int) -> None:
    inputs = keras.Input((None, None, 3))
    x = kl.ZeroPadding2D(padding)(kl.Conv2D(4, 1, name="a")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x)))
    close(model.get_layer("a"), 1.0)
    note = "receives more than one constant" if padding else None
    assert shrunk(model, noise(2, 7, 7, 3), note) == gone


@pytest.mark.parametrize(("activation", "gone"), [("sigmoid", 0), ("relu", 2)])
def test_a_recurrent_unit_with_an_output_for_zero_input_is_kept(activation: str, gone: int) -> None:
    inputs = keras.Input((5, 3))
    x = kl.SimpleRNN(4, activation=activation, use_bias=False, name="a")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(x))
    close(model.get_layer("a"))
    note = None if gone else "a uses their nonzero values internally"
    assert shrunk(model, noise(4, 5, 3), note) == gone


@pytest.mark.parametrize(("bias", "gone"), [(0.5, 0), (0.0, 2)])
def test_a_first_state_is_recorded(bias: float, gone: int) -> None:
    inputs = keras.Input((5, 3))
    state = kl.Dense(4, name="state")(inputs[:, 0])
    x = kl.GRU(4, use_bias=False, name="a")(inputs, initial_state=state)
    model = keras.Model(inputs, kl.Dense(2)(x))
    close(model.get_layer("a"))
    close(model.get_layer("state"), bias)
    assert shrunk(model, noise(4, 5, 3), None if gone else "cannot be folded into a") == gone


@pytest.mark.parametrize(("activation", "gone"), [("sigmoid", 0), ("tanh", 2)])
def test_what_runs_over_time_is_recorded_inside(activation: str, gone: int) -> None:
    frame = keras.Input((3,))
    x = kl.Dense(4, activation=activation, use_bias=False, name="a")(frame)
    inner = keras.Model(frame, kl.Dense(2, name="b")(x))
    close(inner.get_layer("a"))
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, kl.Dense(2)(kl.Flatten()(kl.TimeDistributed(inner)(inputs))))
    assert shrunk(model, noise(4, 5, 3), None if gone else "cannot be folded into b") == gone


@pytest.mark.parametrize(("bias", "gone"), [(0.5, 0), (0.0, 2)])
def test_zeros_go_through_a_separable_convolution(bias: float, gone: int) -> None:
    inputs = keras.Input((5, 5, 3))
    x = kl.SeparableConv2D(3, 2, depth_multiplier=2, name="b")(kl.Conv2D(4, 1, name="a")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.Flatten()(x)))
    close(model.get_layer("a"), bias)
    assert shrunk(model, noise(2, 5, 5, 3), None if gone else "cannot be folded into b") == gone


def test_each_call_receives_its_own_constant() -> None:
    inputs = keras.Input((3,))
    shared = kl.Dense(4, name="shared", bias_initializer="ones")
    x = shared(kl.Activation("tanh")(kl.Dense(4, name="a")(inputs)))
    model = keras.Model(inputs, kl.Dense(2)(shared(x)))
    close(model.get_layer("a"), 0.0)
    close(shared)
    found = units(model)
    closed = np.isin(np.arange(found.flow.size), found.groups[0].units[[1, 2]])
    consumers = record_consumers(found, read_weights(found.graph), closed, closed, None)
    assert consumers.inside == []
    found_inputs = consumers.inputs
    assert [x.call.op.name for x in found_inputs] == ["shared", "shared", "dense"]
    assert all(x.is_constant.tolist() == [False, True, True, False] for x in found_inputs)
    assert [x.value[1:3].tolist() for x in found_inputs] == [[0, 0], [1, 1], [1, 1]]
    assert found_inputs[0].is_zero.tolist() == [False, True, True, False]


def test_units_beside_others_are_constants_too() -> None:
    inputs = keras.Input((3,))
    joined = kl.Concatenate()([kl.Dense(4, name="a")(inputs), kl.Dense(5)(inputs)])
    model = keras.Model(inputs, kl.Dense(2)(joined))
    close(model.get_layer("a"), 1.0)
    assert shrunk(model, noise(8, 3), None) == 2
