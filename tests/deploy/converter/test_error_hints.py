"""Known failures and the way out of each."""

import pytest

from tfprune.deploy.converter.error_hints import explain_failure


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("ConverterError: 'tf.Erf' op is neither a custom op", "approximate=True"),
        ("'tf.TensorListReserve' op requires element_shape to be static during", "give batch=1"),
        ("Cannot unroll a RNN if the time dimension is undefined", "input_shape=(16, 8) for"),
        ("Quantization to 16x8-bit not yet supported for op: 'NEG'", "no 16-bit NEG; use scheme"),
        ("Max and min for dynamic tensors should be recorded during calibration", "every branch"),
        (
            "got 7.Node number 3 (SQUARED_DIFFERENCE) failed to invoke.",
            "SQUARED_DIFFERENCE does not",
        ),
        ("which references an 'untracked' resource. TensorFlow", "stateful=False"),
        ("Using a symbolic `tf.Tensor` as a Python `bool` is not allowed.", "input_shape="),
        (
            "missing a required argument: 'b'",
            "such as 'b'; change its call to take one list or dict",
        ),
        ("call() missing 1 required positional argument: 'b'", "such as 'b'; change its call"),
        (
            "RuntimeError: Unsupported input type INT16 for input tensor 0 of type FLOAT32.",
            "an input cannot be an integer",
        ),
        (
            "the process died (SIGABRT): what(): std::bad_alloc",
            "it ran out of memory; raise the memory limit if there is one (ulimit -v)",
        ),
        ("MemoryError: ", "it ran out of memory"),
        ("the process died (SIGKILL)", "probably for lack of memory; free memory"),
        (
            "the process died (SIGSEGV, with 4.0 GiB of memory allowed): x.cc:3",
            "died (SIGSEGV) with a memory limit of 4.0 GiB, which may be too low; raise",
        ),
        ("TF Select ops: Betainc, Lgamma Details: tf.Betainc(...)", "for Betainc, Lgamma; replace"),
    ],
)
def test_a_known_failure_is_one_line_with_the_fix(text, fix):
    assert fix in explain_failure(text)


def test_an_unknown_failure_is_shortened():
    assert explain_failure("something new") == "something new"
    assert len(explain_failure("x" * 5000)) < 400
    assert "use scheme 'dynamic'" in explain_failure("the process died (SIGSEGV)", crashed=True)
