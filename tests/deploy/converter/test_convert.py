"""The conversion itself, as the child process does it."""

from tfprune.deploy.converter.convert import convert_job
from tfprune.deploy.converter.export import export
from tfprune.deploy.converter.rewrites.rewrite import rewrite
from tfprune.graph.model_signature import interface
from tfprune.runtime import flatbuffer


def test_a_saved_model_becomes_a_file(convnet, float_file, tmp_path):
    export(interface(convnet), tmp_path / "saved", batch=None)
    rewrite(tmp_path / "saved", "float")
    options = {
        "quantize": False, "activations": "float", "float16": False, "sparse": False,
        "io": "float32", "samples": None, "batch": 1,
    }  # fmt: skip
    convert_job(str(tmp_path / "saved"), str(tmp_path / "m.tflite"), options)
    found = flatbuffer.parse((tmp_path / "m.tflite").read_bytes())
    assert [op.name for op in found.ops()] == [
        op.name for op in flatbuffer.parse(float_file.bytes).ops()
    ]
