"""The loss whose gradients are taken is the one that a model would be trained with."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import DataError, OptionError
from tfprune.keras_support.losses import loss_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")


def two_heads() -> keras.Model:
    inputs = keras.Input((4,))
    x = kl.Dense(16, name="h")(inputs)
    return keras.Model(inputs, [kl.Dense(2, name="a")(x), kl.Dense(1, name="b")(x)])


LABELS = [RNG.normal(size=(40, 2)), RNG.normal(size=(40, 1))]


def test_the_loss_is_that_of_a_compiled_model() -> None:
    model = two_heads()
    model.compile("sgd", ["mse", "mae"], loss_weights=[1.0, 3.0])
    found = model(X)
    expected = float(np.mean((np.asarray(found[0]) - LABELS[0]) ** 2)) + 3 * float(
        np.mean(np.abs(np.asarray(found[1]) - LABELS[1]))
    )
    assert float(loss_of(model, None)(LABELS, found)) == pytest.approx(expected, rel=1e-5)
    own = loss_of(model, lambda labels, outputs: (labels - outputs) ** 2)
    single = keras.Sequential([keras.Input((4,)), kl.Dense(2)])
    assert float(loss_of(single, "mse")(np.ones((2, 2)), np.zeros((2, 2)))) == 1.0
    assert float(own(LABELS, found)) > 0


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_losses_of_several_outputs_and_their_weights_count(importance: str) -> None:
    plans = []
    for weights in ([1, 0], [0, 1]):
        model = two_heads()
        model.set_weights([np.asarray(RNG_WEIGHTS[i]) for i in range(6)])
        model.compile(
            "adam", {"a": "mse", "b": "mae"}, loss_weights=dict(zip("ab", weights, strict=True))
        )
        labels = dict(zip("ab", LABELS, strict=True))
        _, report = tfprune.shrink(
            model, {"channels": 0.5}, importance=importance, data=(X, labels)
        )
        plans.append(report.plan)
    assert plans[0] != plans[1]


RNG_WEIGHTS = [weight.astype("float32") for weight in two_heads().get_weights()]


@pytest.mark.parametrize("loss", ["msee", 3, {"a": "msee"}])
def test_other_values_than_a_loss_are_refused(loss) -> None:
    with pytest.raises(OptionError, match="expected the name of a Keras loss, or a function"):
        loss_of(two_heads(), loss)


def test_labels_that_do_not_fit_are_a_one_line_error() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(16), kl.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for labels in (np.full(40, 7), np.ones((40, 3))):
        with pytest.raises(DataError, match="the loss cannot be computed with these labels") as e:
            tfprune.shrink(
                model, {"channels": 0.5}, importance="taylor", data=(X, labels), loss=loss
            )
        assert "\n" not in str(e.value)


def test_fractions_are_no_class_numbers() -> None:
    """TensorFlow cuts them off: 1.5 would be class 1."""
    model = keras.Sequential([keras.Input((4,)), kl.Dense(16), kl.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(DataError, match=r"label 1\.5; sparse_categorical_crossentropy takes class"):
        tfprune.shrink(
            model, {"channels": 0.5}, importance="taylor", data=(X, np.full(len(X), 1.5))
        )
