"""The models and files of the deploy tests, which these read and run."""

from tests.deploy.conftest import convnet, float_file, images, int8_file, quantizer
from tests.measure.conftest import onnx_file

__all__ = ["convnet", "float_file", "images", "int8_file", "onnx_file", "quantizer"]
