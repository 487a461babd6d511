"""The layers and schedules that both sides prune. Imports neither generation of Keras."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

STEPS = 300
SHORT = 3


@dataclass(frozen=True)
class Case:
    """One layer with what it is fed.

    Args:
        name: What the records call it.
        layer: The layer, of the generation asked for.
        shape: The shape of its input, without the batch.
        dtype: The type of its input.
        twice: Whether it is called with its input as query and value.
    """

    name: str
    layer: Any
    shape: tuple[int, ...]
    dtype: str = "float32"
    twice: bool = False


def cases(layers: Any, names: Sequence[str]) -> Iterator[Case]:
    """Yield the named cases, their layers made from a `keras.layers` or `tf_keras.layers`."""
    for name in names:
        yield _MAKERS[name](layers)


_MAKERS = {
    "dense": lambda k: Case("dense", k.Dense(12), (16,)),
    "odd_dense": lambda k: Case("odd_dense", k.Dense(7), (9,)),
    "six_inputs": lambda k: Case("six_inputs", k.Dense(5), (6,)),
    "conv1d": lambda k: Case("conv1d", k.Conv1D(5, 3), (6, 4)),
    "conv2d": lambda k: Case("conv2d", k.Conv2D(5, 3), (4, 4, 8)),
    "conv3d": lambda k: Case("conv3d", k.Conv3D(3, 2), (3, 3, 3, 4)),
    "transpose": lambda k: Case("transpose", k.Conv2DTranspose(6, 2), (3, 3, 4)),
    "separable": lambda k: Case("separable", k.SeparableConv2D(6, 3), (4, 4, 4)),
    "embedding": lambda k: Case("embedding", k.Embedding(8, 6), (5,), "int32"),
    "lstm": lambda k: Case("lstm", k.LSTM(12), (3, 8)),
    "gru": lambda k: Case("gru", k.GRU(8), (3, 8)),
    "attention": lambda k: Case("attention", k.MultiHeadAttention(2, 4), (3, 8), twice=True),
}

COMMON = tuple(name for name in _MAKERS if name not in ("six_inputs",))
MATRICES = ("dense", "embedding", "lstm", "gru")


def _decay(frequency: int, begin: int, end: int, power: float) -> dict[str, Any]:
    config = {"initial_sparsity": 0.1, "final_sparsity": 0.85, "begin_step": begin,
              "end_step": end, "power": power, "frequency": frequency}  # fmt: skip
    return {"class_name": "PolynomialDecay", "config": config}


def _constant(target: float, begin: int, end: int, frequency: int) -> dict[str, Any]:
    config = {"target_sparsity": target, "begin_step": begin, "end_step": end,
              "frequency": frequency}  # fmt: skip
    return {"class_name": "ConstantSparsity", "config": config}


RUNS: tuple[dict[str, Any], ...] = (
    {"name": "every step", "steps": STEPS, "cases": COMMON,
     "schedule": _decay(1, 1, 300, 3), "options": {}},
    {"name": "every 7", "steps": STEPS, "cases": ("dense", "odd_dense", "conv2d"),
     "schedule": _decay(7, 10, 283, 2.5), "options": {}},
    {"name": "constant", "steps": STEPS,
     "cases": ("dense", "conv1d", "conv3d", "embedding", "attention"),
     "schedule": _constant(0.6, 5, -1, 10), "options": {}},
    {"name": "block AVG", "steps": STEPS, "cases": MATRICES, "schedule": _decay(3, 1, 298, 3),
     "options": {"block_size": (4, 2)}},
    {"name": "block MAX", "steps": STEPS, "cases": MATRICES, "schedule": _constant(0.5, 2, 250, 8),
     "options": {"block_size": (2, 3), "block_pooling_type": "MAX"}},
    {"name": "2:4", "steps": SHORT,
     "cases": (*MATRICES, "conv2d", "separable", "transpose", "six_inputs"),
     "schedule": _constant(0.5, 0, -1, 1), "options": {"sparsity_m_by_n": (2, 4)}},
    {"name": "uneven block", "steps": SHORT, "cases": ("dense",),
     "schedule": _constant(0.5, 1, -1, 1),
     "options": {"block_size": (5, 5)}},
)  # fmt: skip
