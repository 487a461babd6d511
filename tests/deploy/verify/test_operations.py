"""Operations and weights that a new file may not contain."""

import pytest

from tfprune.deploy.verify.operations import check_operations, float_operations
from tfprune.errors import ConversionError
from tfprune.runtime import flatbuffer
from tfprune.runtime.flatbuffer import Contents, Op, Span, Subgraph, Tensor


def _contents(*ops: Op) -> Contents:
    """Build a graph of one float and one int8 tensor, both computed."""
    tensors = (
        Tensor("f", (1, 4), (1, 4), "float32", 0),
        Tensor("q", (1, 4), (1, 4), "int8", 0, (0.1,), (0,)),
    )
    graph = Subgraph("main", tensors, (0,), (1,), ops)
    return Contents(b"", "", (graph,), (Span(0, 0),), (), ())


def test_casts_at_the_border_are_no_float_operations(int8_file):
    assert float_operations(_contents(Op("QUANTIZE", (0,), (1,)), Op("CAST", (0,), (1,)))) == {}
    assert float_operations(_contents(Op("SIN", (0,), (0,)), Op("SIN", (0,), (0,)))) == {"SIN": 2}
    assert float_operations(flatbuffer.parse(int8_file.bytes)) == {}


def test_float_operations_are_refused_in_an_integer_plan_unless_allowed():
    contents = _contents(Op("SIN", (0,), (0,)), Op("ABS", (1,), (1,)))
    with pytest.raises(ConversionError, match=r"no integer kernel for SIN; .*\['SIN'\]"):
        check_operations(contents, "int8", ())
    assert check_operations(contents, "int8", {"SIN"}) == ["SIN stays float (1 times), as allowed"]
    assert check_operations(contents, "float32", ()) == []


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Op("FlexErf", (0,), (0,), custom=True), "cannot run: FlexErf"),
        (Op("READ_VARIABLE", (0,), (0,)), "weights are not frozen"),
    ],
)
def test_an_operation_that_the_runtime_cannot_run_is_named(op, text):
    with pytest.raises(ConversionError, match=text):
        check_operations(_contents(op), "float32", ())


def test_a_sparse_file_without_sparse_weights_is_refused(float_file):
    with pytest.raises(ConversionError, match="no weight has enough zeros"):
        check_operations(flatbuffer.parse(float_file.bytes), "sparse", ())
