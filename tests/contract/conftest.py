"""The small models and files, and the stand-ins for machines, that other tests have made."""

from tests.deploy.conftest import convnet, float_file, images
from tests.measure.conftest import onnx_file
from tests.measure.devices.conftest import far, phone

__all__ = ["convnet", "far", "float_file", "images", "onnx_file", "phone"]
