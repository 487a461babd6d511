"""Known error texts of the converter and the runtime, each with its fix."""

import re

_LENGTH = 300

# A pattern in the text, its meaning, and the fix. The first match is used.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"bad_alloc|MemoryError|[Cc]annot allocate memory|failed to map segment",
        "it ran out of memory",
        "raise the memory limit if there is one (ulimit -v), or convert on a larger machine",
    ),
    (
        r"died \(SIGKILL",
        "the system killed the process, probably for lack of memory",
        "free memory, or convert on a larger machine",
    ),
    (
        r"died \((?P<how>[^,()]+), with (?P<limit>[\d.]+ GiB) of memory allowed",
        "the process died ({how}) with a memory limit of {limit}, which may be too low",
        "raise the limit (ulimit -v); if that does not help, use scheme 'dynamic' or 'float16'",
    ),
    (
        r"Flex\w*Erf|tf\.Erf|\bErf\b",
        "exact GELU needs the Erf function, which the runtime does not have",
        "use activation=lambda x: keras.activations.gelu(x, approximate=True)",
    ),
    (
        r"element_shape to be static",
        "a loop over time needs a fixed batch size",
        "give batch=1",
    ),
    (
        r"references an 'untracked' resource",
        "the model keeps a state that is not a weight: a stateful layer or a lookup table",
        "build recurrent layers with stateful=False and move lookups out of the model",
    ),
    (
        r"Cannot unroll a RNN if the time dimension is undefined",
        "the loop of a recurrent layer cannot be calibrated, and a sequence of unknown length "
        "cannot be unrolled",
        "fix its length, such as input_shape=(16, 8) for Input((None, 8)), or use scheme 'dynamic'",
    ),
    (
        r"symbolic `?tf\.Tensor`? as a Python `?bool`?",
        "a layer has a Python condition on a tensor or on an open size",
        "fix the sizes, such as input_shape=(224, 224, 3), or use keras.ops.where or "
        "keras.ops.cond",
    ),
    (
        r"missing (?:a|\d+) required (?:positional )?arguments?: (?P<name>'\w+')",
        "the model's call takes more than one argument, such as {name}",
        "change its call to take one list or dict of its inputs",
    ),
    (
        r"Unsupported (?P<side>input|output) type INT\d+ for .* of type FLOAT32",
        "an {side} cannot be an integer: the operation next to it stays float",
        "give io='float32', which names the operation, or use scheme 'dynamic'",
    ),
    (
        r"Quantization to 16x8-bit not yet supported for op: '?(?P<op>\w+)",
        "the converter has no 16-bit {op}",
        "use scheme 'int8' or 'dynamic'",
    ),
    (
        r"Max and min for dynamic tensors should be recorded during calibration",
        "the converter saw no range for a tensor",
        "use scheme 'int8' or 'dynamic', or calibrate on data that reaches every branch",
    ),
    (
        r"Node number \d+ \((?P<op>\w+)\) failed to (?:invoke|prepare)",
        "the runtime's {op} does not support this type",
        "use another scheme: 'dynamic' and 'float16' run everywhere",
    ),
    (
        r"(?:TF Select|Custom) ops: (?P<op>[\w, ]+?)(?: Details| \S+\(|$)",
        "the runtime has no operation for {op}",
        "replace the layer that uses it by one made of common operations",
    ),
)


def explain_failure(text: str, *, crashed: bool = False) -> str:
    """Return one line with the cause of a failure and the fix.

    Args:
        text: The error text of the converter or the runtime.
        crashed: Whether the process died.

    Example:
        >>> explain_failure("... requires element_shape to be static during ...")
        'a loop over time needs a fixed batch size; give batch=1'
    """
    text = " ".join(text.split())
    for pattern, meaning, fix in _KNOWN:
        found = re.search(pattern, text)
        if found:
            return f"{meaning.format(**found.groupdict())}; {fix}"
    short = text if len(text) <= _LENGTH else f"{text[: _LENGTH // 2]} … {text[-_LENGTH // 2 :]}"
    if crashed:
        return f"{short}; the kernels for this model crash: use scheme 'dynamic' or 'float16'"
    return short
