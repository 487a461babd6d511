"""The same model as an ONNX file."""
