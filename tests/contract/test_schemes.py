"""The contract of every conversion scheme; new ones are tested automatically."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import OptionError
from tfprune.runtime.litert import Runner
from tfprune.runtime.schemes import SCHEMES


@pytest.fixture(scope="module")
def model(convnet) -> keras.Model:
    """The convnet with zeros enough for the schemes that leave them out."""
    pruned = keras.models.clone_model(convnet)
    pruned.set_weights(convnet.get_weights())
    return tfprune.strip_pruning(tfprune.prune(pruned, 0.8))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_makes_the_same_file_twice_and_it_agrees(name: str, model, images) -> None:
    scheme = SCHEMES[name]
    before = [weight.copy() for weight in model.get_weights()]
    if scheme.weight_bits is not None and find_spec("litert_quantizer") is None:
        with pytest.raises(OptionError, match=r"pip install 'tfprune\[quantizer\]'"):
            to_tflite(model, scheme=name)
        return
    given = {"calibration": images} if scheme.needs_calibration else {}
    file = to_tflite(model, scheme=name, **given)
    assert to_tflite(model, scheme=name, **given).bytes == file.bytes
    report = file.report
    assert (report.scheme, report.io) == (name, scheme.io[0])
    assert report.raw_bytes == len(file.bytes)
    assert 0 < report.gzip_bytes <= report.raw_bytes + 100
    assert sum(report.ops.values()) > 1
    assert {"tfprune", "tensorflow"} <= set(report.versions)
    assert [spec.dtype for spec in report.inputs] == [scheme.io[0]]
    (parity,) = report.parity
    assert parity.rms_error <= scheme.bound * parity.spread
    expected = model.predict(images, verbose=0)
    spread = np.sqrt(np.mean((Runner(file)(images) - expected) ** 2)) / expected.std()
    assert spread <= scheme.bound
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
