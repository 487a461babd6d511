"""The table of schemes."""

import pytest

from tfprune.runtime.schemes import SCHEMES


@pytest.mark.parametrize("name", list(SCHEMES))
def test_every_scheme_is_whole(name):
    scheme = SCHEMES[name]
    assert scheme.summary
    assert 0 < scheme.bound < 1
    assert scheme.needs_calibration == (scheme.activations in ("int8", "int16"))
    assert "float32" in scheme.io
    # Integers at the border need integers inside.
    assert scheme.needs_calibration or scheme.io == ("float32",)
