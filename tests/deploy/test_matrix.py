"""Architectures × generations of Keras × schemes: right, or refused in one line.

`python benchmarks/matrix.py` runs all of it and writes the table, `make exhaustive` all of it as
tests, and `make slow` a sample.
"""

import pytest

from tests.deploy.matrix import ARCHITECTURES, GENERATIONS, LARGE, REFUSED, fault, outcome
from tfprune.runtime.schemes import SCHEMES

_SAMPLE = {
    ("keras", "squeeze-excite", "int8"),
    ("keras", "residual", "int4"),
    ("keras", "inverted residual", "sparse"),
    ("tf_keras", "squeeze-excite", "int16x8"),
    ("tf_keras", "residual", "dynamic"),
}


def _cells():
    for generation in GENERATIONS:
        for name in ARCHITECTURES:
            for scheme in SCHEMES:
                cell = (generation, name, scheme)
                mark = pytest.mark.slow if cell in _SAMPLE else pytest.mark.exhaustive
                yield pytest.param(*cell, marks=mark, id="-".join(cell).replace(" ", "_"))


@pytest.mark.parametrize(("generation", "name", "scheme"), list(_cells()))
def test_every_model_converts_correctly_or_is_refused(generation, name, scheme, request):
    if SCHEMES[scheme].weight_bits is not None:
        request.getfixturevalue("quantizer")
    found = outcome(generation, name, scheme)
    assert not fault((generation, name, scheme), found), found


def test_the_list_of_refusals_names_existing_models():
    for generation, name, scheme in REFUSED:
        assert generation in GENERATIONS
        assert name in ARCHITECTURES
        assert scheme in SCHEMES
    assert set(LARGE) < set(ARCHITECTURES)
