"""Sums over the inputs of a layer, from which one-shot pruning is computed."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Norms:
    """The mean square of every input of each matrix product, accumulated batch by batch."""

    products: int
    width: int
    rows: int = 0
    _squares: NDArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._squares = np.zeros((self.products, self.width))

    def add(self, inputs: NDArray) -> None:
        """Add (products, rows, inputs)."""
        self.rows += inputs.shape[1]
        self._squares += np.square(inputs, dtype=np.float64).sum(axis=1)

    def mean_squares(self) -> NDArray:
        """Return (products, inputs)."""
        return self._squares / max(self.rows, 1)


@dataclass(frozen=True)
class Problem:
    """A least-squares problem in its second moments: find V so that X V is close to Y.

    Args:
        gram: XᵀX / rows, (products, inputs, inputs).
        cross: XᵀY / rows, (products, inputs, outputs).
        energy: ‖Y‖² / rows, over all products and outputs.
    """

    gram: NDArray
    cross: NDArray
    energy: float

    def error(self, weights: NDArray) -> float:
        """Return ‖X V − Y‖² / rows, clipped at zero against rounding errors.

        Example:
            >>> x = np.array([[[1.0, 0.0], [0.0, 2.0]]])
            >>> problem = Problem(x.transpose(0, 2, 1) @ x / 2, x.transpose(0, 2, 1) @ x / 2, 2.5)
            >>> problem.error(np.eye(2)[None]), problem.error(np.diag([1.0, 0.0])[None])
            (0.0, 2.0)
        """
        fit = np.sum(weights * (self.gram @ weights - 2 * self.cross))
        return max(float(self.energy + fit), 0.0)


def damped(problem: Problem, weights: NDArray, damping: float) -> Problem:
    """Return the problem with a pull toward `weights`.

    `damping` is λ as a fraction of the mean diagonal of H, in each product.
    """
    width = problem.gram.shape[-1]
    level = damping * np.trace(problem.gram, axis1=1, axis2=2) / width
    # If all inputs are zero, H is zero: then any λ keeps the weights unchanged.
    level = np.where(level > 0, level, 1.0)[:, None, None]
    return Problem(
        problem.gram + level * np.eye(width), problem.cross + level * weights, problem.energy
    )


@dataclass
class Moments:
    """Second moments of a layer's inputs and target outputs, accumulated in float64."""

    products: int
    width: int
    outputs: int
    rows: int = 0
    _gram: NDArray = field(init=False, repr=False)
    _cross: NDArray = field(init=False, repr=False)
    _inputs: NDArray = field(init=False, repr=False)
    _outputs: NDArray = field(init=False, repr=False)
    _energy: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._gram = np.zeros((self.products, self.width, self.width))
        self._cross = np.zeros((self.products, self.width, self.outputs))
        self._inputs = np.zeros((self.products, self.width))
        self._outputs = np.zeros((self.products, self.outputs))

    def add(self, inputs: NDArray, outputs: NDArray) -> None:
        """Add rows of inputs, (products, rows, inputs), and their target outputs."""
        x, y = inputs.astype(np.float64), outputs.astype(np.float64)
        turned = x.transpose(0, 2, 1)
        self.rows += x.shape[1]
        self._gram += turned @ x
        self._cross += turned @ y
        self._inputs += x.sum(axis=1)
        self._outputs += y.sum(axis=1)
        self._energy += float(np.sum(y * y))

    def problem(self) -> Problem:
        """Return the problem without a constant."""
        rows = max(self.rows, 1)
        return Problem(self._gram / rows, self._cross / rows, self._energy / rows)

    def centered(self) -> Problem:
        """Return the problem with the optimal constant added to every output.

        The constant for weights V is `shift(V)`; subtracting all means eliminates it.
        """
        plain, x, y = self.problem(), *self._means()
        return Problem(
            plain.gram - x[:, :, None] * x[:, None, :],
            plain.cross - x[:, :, None] * y[:, None, :],
            plain.energy - float(np.sum(y * y)),
        )

    def shift(self, weights: NDArray) -> NDArray:
        """Return the constant that makes the means of the outputs of V equal the targets'."""
        x, y = self._means()
        return y - np.einsum("pk,pkn->pn", x, weights)

    def _means(self) -> tuple[NDArray, NDArray]:
        rows = max(self.rows, 1)
        return self._inputs / rows, self._outputs / rows
