import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError
from tfprune.graph.read import is_function, read
from tfprune.structure import rules


def calls(model, **options):
    graph = read(model, lambda op: rules.find(op) is not None, **options)
    # Keras numbers unnamed operations by those the process has seen.
    return [re.sub(r"_\d+$", "", call.path) for call in graph.calls], graph


def block(width, name):
    inputs = keras.Input((width,))
    x = kl.Dense(width, activation="relu", name=f"{name}_in")(inputs)
    return keras.Model(inputs, kl.Dense(width, name=f"{name}_out")(x) + inputs, name=name)


def test_operations_that_are_no_layers_are_calls_too() -> None:
    inputs = keras.Input((4,))
    paths, _ = calls(keras.Model(inputs, kl.Dense(4, name="d")(inputs) * 2.0 + inputs))
    assert paths == ["d", "multiply", "add"]


def test_nested_models_are_walked_into(check, sizes) -> None:
    x = inputs = keras.Input((4,))
    x = kl.Dense(6, name="embed")(x)
    x = block(6, "one")(x)
    x = keras.Sequential([kl.Dense(5, name="s1"), kl.Dense(6, name="s2")], name="two")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert calls(model)[0][1:4] == ["one/one_in", "one/one_out", "one/add"]
    assert sizes(model) == {"embed": 6, "one_in": 6, "s1": 5, "s2": 6}
    check(model)


def test_siamese_models_share_their_weights_also_when_cut(check) -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    tower = keras.Sequential([keras.Input((4,)), kl.Dense(8, activation="relu"), kl.Dense(6)])
    a, b = tower(left), tower(right)
    outputs = [kl.Dot(axes=1, normalize=True)([a, b]), kl.Dense(2)(kl.Subtract()([a, b]))]
    small, _ = check(keras.Model({"left": left, "right": right}, outputs))
    assert len([layer for layer in small.layers if isinstance(layer, kl.Dense)]) == 3


def test_models_that_name_their_layers_alike(check) -> None:
    x = inputs = keras.Input((4,))
    x = keras.Sequential([kl.Dense(8, name="same"), kl.Dense(4)], name="one")(x)
    x = keras.Sequential([kl.Dense(8, name="same"), kl.Dense(4)], name="two")(x)
    small, _ = check(keras.Model(inputs, x))
    assert {"same", "two_same"} <= {layer.name for layer in small.layers}


def test_training_false_reaches_the_inside_of_a_nested_model(check) -> None:
    inner = keras.Sequential([keras.Input((4,)), kl.Dense(6), kl.BatchNormalization()])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(inner(inputs, training=False)))
    small, _ = check(model)
    norm = next(layer for layer in small.layers if isinstance(layer, kl.BatchNormalization))
    assert norm._inbound_nodes[0].arguments.kwargs["training"] is False


def test_layers_shared_two_and_three_times(check, sizes) -> None:
    x = inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(8, 1, name="in")(x)
    shared, norm = kl.Conv2D(8, 3, padding="same", name="shared"), kl.BatchNormalization()
    for _ in range(3):
        x = norm(shared(x))
    y = kl.Conv2D(4, 1, name="head")(kl.Conv2D(8, 1, name="other")(inputs))
    head = kl.Dense(3, name="final")
    model = keras.Model(inputs, [head(kl.GlobalAveragePooling2D()(x)), y])
    assert sizes(model) == {"in": 8, "other": 8}
    check(model)


def test_a_layer_shared_by_the_input_and_by_what_can_be_cut() -> None:
    inputs = keras.Input((4,))
    shared = kl.Dense(4, name="shared")
    model = keras.Model(inputs, kl.Dense(2)(shared(shared(inputs))))
    found = tfprune.units(model)
    assert len(found) == 0
    assert found.frozen[0].reason == "shared is shared"


def test_dict_inputs_and_outputs_with_one_in_the_middle(check) -> None:
    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((3,), name="a")}
    middle = kl.Dense(5, name="middle")(kl.Concatenate()([inputs["b"], inputs["a"]]))
    x = kl.Dense(8, name="free")(middle)
    model = keras.Model(inputs, {"out": kl.Dense(2)(x), "middle": middle})
    small, report = check(model)
    assert [change.name for change in report.groups] == ["free"]
    assert set(small.output) == {"out", "middle"}
    data = {"b": np.ones((1, 4), "float32"), "a": np.ones((1, 3), "float32")}
    np.testing.assert_allclose(small(data)["middle"], model(data)["middle"])


def test_a_part_cut_out_of_a_larger_model_ignores_the_rest(check, sizes) -> None:
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(6, 3, name="a")(inputs)
    y = kl.Conv2D(8, 3, name="b")(x)
    z = kl.Conv2D(4, 1, name="c")(y)
    keras.Model(inputs, kl.Dense(3)(kl.Flatten()(z)))
    part = keras.Model(inputs, z)
    assert sizes(part) == {"a": 6, "b": 8}
    check(part)
    middle = keras.Model(x, z)
    assert sizes(middle) == {"b": 8}


class Residual(keras.layers.Layer):
    """A composite layer, which can be unrolled."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.one, self.two = kl.Dense(2 * width), kl.Dense(width)
        self.norm = kl.BatchNormalization()

    def build(self, shape):
        self.one.build(shape)
        self.two.build((*shape[:-1], 2 * self.width))
        self.norm.build(shape)

    def call(self, x):
        return x + self.norm(self.two(keras.ops.relu(self.one(x))))


class Subclassed(keras.Model):
    """A subclassed model of composite layers."""

    def __init__(self):
        super().__init__()
        self.embed, self.body = kl.Dense(6, name="embed"), Residual(6, name="body")
        self.head = kl.Dense(2, name="head")

    def call(self, x):
        return self.head(self.body(self.embed(x)))


def test_composite_layers_are_unrolled(check) -> None:
    x = inputs = keras.Input((4,))
    x = Residual(6, name="body")(kl.Dense(6, name="embed")(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    paths, _ = calls(model)
    assert "body/dense" in paths
    small, _ = check(model)
    assert not [layer for layer in small.layers if isinstance(layer, Residual)]


def test_a_subclassed_model_becomes_functional(check) -> None:
    model = Subclassed()
    with pytest.raises(ModelError, match="never called"):
        tfprune.units(model)
    assert tfprune.units(model, input_shape=(4,)).groups
    assert tfprune.units(model, input_shape=tuple(np.array([4]))).groups
    model(np.zeros((2, 4), "float32"))
    small, report = check(model)
    assert "traced into a functional model" in report.notes[0]
    assert len(small.inputs) == 1


class Pruned(keras.Model):
    """A functional subclass, as the backbones of KerasHub are."""

    def __init__(self, width=8, **kwargs):
        inputs = keras.Input((4,))
        super().__init__(inputs, kl.Dense(2)(kl.Dense(width, name="wide")(inputs)), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width}


def test_a_functional_subclass_becomes_plain(check) -> None:
    model = Pruned()
    assert is_function(model)
    small, report = check(model)
    assert type(small) is not Pruned
    assert small.get_layer("wide").units == 2
    assert "Pruned" in report.notes[0]


def test_a_model_that_overrides_its_call_is_no_function() -> None:
    class Halved(Pruned):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs) * 0.5

    tf_keras = pytest.importorskip("tf_keras")
    old = tf_keras.Sequential([tf_keras.layers.Dense(2)])
    assert not is_function(Halved())
    assert is_function(old)
    assert is_function(keras.Sequential([kl.Dense(2)]))
    assert not is_function(kl.Dense(2))


class Own(keras.layers.Layer):
    """A layer with no rule, which computes with functions of TensorFlow: it cannot be traced."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def call(self, x):
        return tf.multiply(x, self.scale)


def test_a_layer_without_a_rule_freezes_and_is_named() -> None:
    x = inputs = keras.Input((4,))
    x = Own(name="own")(kl.Dense(6, name="before")(x))
    x = kl.Dense(8, name="after")(x)
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert [group.name for group in found] == ["after"]
    assert "own has no rule" in found.frozen[0].reason
    for share in (0.75, 0.5, 0.25):
        small, report = tfprune.shrink(
            found.model, {"channels": share}, ranking="uniform", round_to=1
        )
        assert report.error <= 1e-4
        assert any(layer == "before" and "own has no rule" in why for layer, why in report.frozen)
        assert small.get_layer("before").units == 6


class Reversed(keras.layers.Layer):
    """A layer of one's own that holds nothing: a formula."""

    def call(self, x):
        return x[..., ::-1] * 2.0


class Noisy(keras.layers.Layer):
    """Another one, which does something else in training."""

    def call(self, x, training=None):
        return x * 2.0 if training else x


def test_a_formula_is_opened_unless_it_asks_whether_it_trains(check, sizes) -> None:
    x = inputs = keras.Input((4,))
    x = Reversed(name="formula")(kl.Dense(6, name="before")(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"before": 6}
    check(model)
    x = Noisy(name="noisy")(kl.Dense(6, name="before")(inputs))
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert "noisy has no rule" in found.frozen[0].reason


def test_a_lambda_that_is_a_formula_is_opened(check, sizes) -> None:
    x = inputs = keras.Input((6, 4))
    x = kl.Lambda(lambda x: x[:, -1, :])(kl.Dense(6, name="before")(x))
    x = kl.Lambda(lambda x, by: keras.ops.relu(x) * by, arguments={"by": 2.0})(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert sizes(model) == {"before": 6}
    small, _ = check(model)
    assert not any(isinstance(layer, kl.Lambda) for layer in small.layers)


class Shaken(keras.layers.Layer):
    def call(self, x):
        return x + keras.random.normal((6,))


@pytest.mark.parametrize("layer", [Shaken(), kl.Lambda(lambda x: x + keras.random.normal((6,)))])
def test_a_formula_that_draws_random_numbers_stays_whole(layer) -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(8, name="free")(layer(kl.Dense(6, name="before")(inputs)))
    x = kl.Dropout(0.5)(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    _, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert [group.name for group in report.groups] == ["free"]
    assert any("draws random numbers" in note for note in report.notes)


class Holder(keras.layers.Layer):
    """A composite layer with a layer inside that cannot say how it was made."""

    def build(self, shape):
        self.inner, self.odd = kl.Dense(6, name="inner"), Table(np.ones(6), name="odd")
        self.inner.build(shape)

    def call(self, x):
        return self.odd(self.inner(x))


class Table(keras.layers.Layer):
    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.table = table

    def call(self, x):
        return tf.multiply(x, self.table)


def test_a_composite_layer_whose_parts_cannot_be_saved_stays_whole() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(5, name="after")(Holder(name="h")(inputs))))
    found = tfprune.units(model)
    assert [group.name for group in found] == ["after"]
    assert any("odd in it cannot be made" in note for note in found.graph.notes)
    assert len(found.graph.calls) == 3


def test_other_packages_are_named() -> None:
    with pytest.raises(ModelError, match=r"expected a keras.Model of Keras 3.*Received int"):
        tfprune.units(3)
    with pytest.raises(ModelError, match="is not built"):
        tfprune.units(keras.Sequential([kl.Dense(3)]))


def test_tracing_leaves_the_layers_as_they_were() -> None:
    x = inputs = keras.Input((4,))
    body = Residual(4)
    model = keras.Model(inputs, body(x))
    before = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    tfprune.units(model)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == before


def test_tensors_given_by_name(check, sizes) -> None:
    inputs = keras.Input((5, 4))
    x = kl.Dense(8, name="a")(inputs=inputs)
    y = kl.MultiHeadAttention(2, 4, name="m")(query=x, value=x)
    model = keras.Model(inputs, kl.Dense(2)(y))
    assert sizes(model)["a"] == 8
    check(model, ratios=(0.5,))


@keras.saving.register_keras_serializable("test_graph")
class Placed(keras.layers.Layer):
    """Words and their places, each with an embedding of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words, self.places = kl.Embedding(9, 8, name="words"), kl.Embedding(6, 8)

    def call(self, x):
        return self.words(x) + self.places(keras.ops.arange(x.shape[-1]))

    def compute_output_shape(self, shape):
        return (*shape, 8)


def test_a_layer_that_is_called_on_a_constant_stays_a_layer(check, sizes) -> None:
    ids = keras.Input((6,), dtype="int32")
    model = keras.Model(ids, kl.Dense(2)(Placed()(ids)))
    assert list(sizes(model).values()) == [8]
    small, report = check(model)
    assert report.notes == ()
    assert small.count_params() == 2 * (9 + 6) + 2 * 2 + 2


class Randomly(keras.layers.Layer):
    """A composite layer that computes something else in training, and one that passes it on."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how, self.dense, self.dropout = how, kl.Dense(6), kl.Dropout(0.5)

    def call(self, x, training=None):
        if self.how == "passed on":
            return self.dropout(self.dense(x), training=training)
        return self.dropout(self.dense(x), training=True) if training else self.dense(x)


@pytest.mark.parametrize("how", ["passed on", "asked"])
def test_what_is_computed_in_training_only_is_noted(how) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(Randomly(how, name="own")(inputs)))
    notes = [note for note in tfprune.units(model).graph.notes if "in training" in note]
    assert [note.split()[0] for note in notes] == ([] if how == "passed on" else ["own"])


class Unsaved(keras.layers.Layer):
    """A layer without a config, made of layers."""

    def __init__(self, holds):
        super().__init__(name="unsaved")
        self.holds, self.dense = holds, kl.Dense(6)

    def call(self, x):
        return self.dense(x)


class Outer(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="outer")
        self.inner = Unsaved(object())

    def call(self, x, training=None):
        return self.inner(x) * 2.0 if training else self.inner(x)


def test_training_is_compared_for_layers_without_a_config() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(Outer()(inputs)))
    assert [note.split()[0] for note in tfprune.units(model).graph.untrained] == ["outer"]


class Assigning(keras.layers.Layer):
    """A layer that masks the kernel of its layer in every call."""

    def build(self, shape):
        self.dense = kl.Dense(6, name="inner")
        self.dense.build(shape)

    def call(self, x):
        self.dense.kernel.assign(self.dense.kernel * 0.5)
        return self.dense(x)


def test_a_layer_that_assigns_its_weights_stays_whole_and_is_not_changed() -> None:
    inputs = keras.Input((4,))
    own = Assigning(name="own")
    model = keras.Model(inputs, kl.Dense(2)(own(inputs)))
    before = own.dense.get_weights()[0]
    found = tfprune.units(model)
    assert any("own" in note and "assigns its weights" in note for note in found.graph.notes)
    np.testing.assert_array_equal(own.dense.get_weights()[0], before)
