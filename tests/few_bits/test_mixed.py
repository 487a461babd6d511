import numpy as np

from tfprune.few_bits.mixed import relative, sensitivities, worst_layers


class Number:
    """A variable of one number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def assign(self, value: float) -> None:
        self.value = value


def test_each_kernel_is_judged_alone() -> None:
    a, b = Number(1.5), Number(2.5)
    kernels = {"a": (a, 1.0, 1.5), "b": (b, 2.0, 2.5)}
    found = sensitivities(kernels, lambda: abs(a.value * b.value - 2.0))  # type: ignore[arg-type]
    assert found == {"a": 1.0, "b": 0.5}
    assert (a.value, b.value) == (1.5, 2.5)


def test_layers_are_raised_until_the_error_is_small() -> None:
    errors, sizes = {"a": 0.3, "b": 0.3, "c": 0.1}, {"a": 10, "b": 20, "c": 1}
    assert worst_layers(errors, sizes, now=0.4, wanted=0.5) == []
    assert worst_layers(errors, sizes, now=0.4, wanted=0.39) == ["c"]
    assert worst_layers(errors, sizes, now=0.4, wanted=0.3) == ["c", "a"]
    assert worst_layers(errors, sizes, now=0.4, wanted=0.0) == ["c", "a", "b"]
    assert worst_layers({"a": 0.0}, {"a": 1}, now=0.4, wanted=0.1) == []


def test_the_error_is_that_of_the_worst_output() -> None:
    wanted = {"a": np.array([0.0, 2.0]), "b": np.array([0.0, 0.0])}
    found = {"a": np.array([0.5, 2.5]), "b": np.array([0.1, 0.1])}
    assert round(relative(found, wanted, lambda x: float(x.std())), 6) == 0.5
    assert relative({"classes": np.array([True])}, {}, lambda x: 1.0) == 0.0
