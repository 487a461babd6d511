"""What the converter and the runtime say when they fail, and the known way out of each."""

import re

_LENGTH = 300

# A pattern in their text, what it means, and what helps. The first that matches is told.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"bad_alloc|MemoryError|[Cc]annot allocate memory|failed to map segment",
        "it ran out of memory",
        "raise its limit if there is one (ulimit -v), or convert where there is more",
    ),
    (
        r"died \(SIGKILL",
        "the system ended the process, as it does where memory runs out",
        "free some, or convert where there is more",
    ),
    (
        r"died \((?P<how>[^,()]+), with (?P<limit>[\d.]+ GiB) of memory allowed",
        "the process died ({how}) where it may take {limit} of memory, which may be too little",
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
        "the model keeps a state that is no weight: a stateful layer or a lookup table",
        "build recurrent layers with stateful=False and keep lookups outside of the model",
    ),
    (
        r"Cannot unroll a RNN if the time dimension is undefined",
        "integers cannot be calibrated in the loop of a recurrent layer, and a sequence of unknown "
        "length cannot be unrolled",
        "build the model with a fixed number of time steps, or use scheme 'dynamic'",
    ),
    (
        r"symbolic `?tf\.Tensor`? as a Python `?bool`?",
        "a layer decides in Python by a number or a size that is open in the file",
        "fix the sizes with input_signature=, such as keras.InputSpec(shape=(None, 224, 224, 3)), "
        "or decide with keras.ops.where or keras.ops.cond",
    ),
    (
        r"missing (?:a|\d+) required (?:positional )?arguments?: (?P<name>'\w+')",
        "the model's call takes more than one argument, such as {name}",
        "let its call take one list or dict of its inputs",
    ),
    (
        r"Unsupported (?P<side>input|output) type INT\d+ for .* of type FLOAT32",
        "an {side} cannot be an integer: what touches it stays float",
        "give io='float32', which tells what stays float, or use scheme 'dynamic'",
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
        "the runtime's {op} does not take numbers of this type",
        "use another scheme: 'dynamic' and 'float16' run everywhere",
    ),
    (
        r"(?:TF Select|Custom) ops: (?P<op>[\w, ]+?)(?: Details| \S+\(|$)",
        "the runtime has no operation for {op}",
        "replace the layer that uses it by one made of common operations",
    ),
)


def way_out(text: str, *, crashed: bool = False) -> str:
    """Turn the text of a failure into one line with the fix.

    Args:
        text: What the converter or the runtime said.
        crashed: The process died.

    Example:
        >>> way_out("... requires element_shape to be static during ...")
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
