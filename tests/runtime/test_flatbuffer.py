"""Reading a file with every offset checked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.mutations import mutations
from tfprune.errors import ArtifactError
from tfprune.runtime import flatbuffer


def test_all_parts_of_a_file_are_read(convnet, float_file):
    contents = flatbuffer.parse(float_file.bytes)
    graph = contents.subgraphs[0]

    assert contents.signatures[0].inputs[0][0] == "image"
    assert graph.ops[0].name == "CONV_2D"
    assert graph.tensors[graph.inputs[0]].signature == (-1, 8, 8, 1)
    kernel = next(t for t in graph.tensors if t.shape == (4, 512))
    stored = np.frombuffer(contents.raw(kernel), "<f4").reshape(4, 512)
    np.testing.assert_array_equal(stored, convnet.get_layer("logits").kernel.numpy().T)


def test_scales_run_along_the_channels_of_a_convolution(int8_file):
    graph = flatbuffer.parse(int8_file.bytes).subgraphs[0]
    kernel = next(t for t in graph.tensors if t.shape == (8, 3, 3, 1))
    assert (kernel.dtype, kernel.axis) == ("int8", 0)
    assert len(kernel.scales) == len(kernel.zero_points) == 8


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04" + b"x" * 50, "not a .tflite file"),
        (b"\x1c\x00\x00\x00TFL3", "truncated or damaged"),
        (b"\xff\xff\xff\x7fTFL3" + b"\0" * 40, "truncated or damaged"),
    ],
)
def test_what_is_no_file_is_one_error(data, text):
    with pytest.raises(ArtifactError, match=f"^m.tflite: .*{text}"):
        flatbuffer.parse(data, "m.tflite")


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_an_error(float_file, cut):
    data = float_file.bytes
    with pytest.raises(ArtifactError, match="truncated|empty|not a"):
        flatbuffer.parse(data[: int(cut * len(data))])


@given(st.binary(max_size=300))
def test_random_bytes_after_the_identifier_are_refused_in_one_line(tail):
    with pytest.raises(ArtifactError, match="^[^\n]*$"):
        flatbuffer.parse(b"\x10\0\0\0TFL3" + tail)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_mutated_files_are_read_or_refused(float_file, int8_file, kind):
    data = {"float": float_file, "int8": int8_file}[kind].bytes
    refused = 0
    for copy in mutations(data, 1000):
        try:
            flatbuffer.parse(copy)
        except ArtifactError:
            refused += 1
    # A changed weight cannot be told from another weight; a cut or shifted file can.
    assert 400 <= refused < 1000


def test_overlapping_parts_are_refused_before_they_take_long():
    # One tensor, listed 100,000 times, with a name of 400,000 bytes.
    from flatbuffers import Builder

    builder = Builder(1 << 20)
    name = builder.CreateNumpyVector(np.zeros(400_000, np.uint8))
    builder.StartObject(0)
    buffer = builder.EndObject()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, name, 0)
    tensor = builder.EndObject()
    builder.StartVector(4, 100_000, 4)
    for _ in range(100_000):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, tensors, 0)
    graph = builder.EndObject()
    lists = []
    for entry in (buffer, graph):
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(entry)
        lists.append(builder.EndVector())
    builder.StartObject(5)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(2, lists[1], 0)
    builder.PrependUOffsetTRelativeSlot(4, lists[0], 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    with pytest.raises(ArtifactError, match="overlap too much"):
        flatbuffer.parse(bytes(builder.Output()))
