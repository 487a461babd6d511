"""The models and files of the deploy tests, which these read and run."""

from tests.deploy.conftest import convnet, float_file, images, int8_file, quantizer

__all__ = ["convnet", "float_file", "images", "int8_file", "quantizer"]
