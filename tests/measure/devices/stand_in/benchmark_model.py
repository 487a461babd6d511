"""A stand-in for the official program that really runs the model, in this machine's runtime.

It takes the official flags and answers in the official forms: FAKE_TOOL=classic prints the text of
TensorFlow Lite's program, FAKE_TOOL=litert that of LiteRT's, both without a result file.
"""

import os
import statistics
import struct
import sys
import time


def varint(value: int) -> bytes:
    """Return a number as protocol buffers write it."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    """Return a field that holds a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def result_file(times_ms: list[float]) -> bytes:
    """Return the official result file."""
    figures = {1: statistics.mean(times_ms), 2: min(times_ms), 5: statistics.median(times_ms)}
    latency = b"".join(
        varint(number << 3 | 5) + struct.pack("<f", value) for number, value in figures.items()
    )
    memory = varint(1 << 3) + varint(300_000)
    misc = varint(2 << 3) + varint(len(times_ms))
    return message(1, b"a_config") + message(2, latency) + message(3, memory) + message(4, misc)


def main(flags: dict[str, str]) -> None:
    """Run the model and say how long it took."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(flags["--graph"], num_threads=int(flags["--num_threads"]))
        if "--input_layer" in flags:
            shapes = flags["--input_layer_shape"].split(":")
            names = flags["--input_layer"].split(",")
            wanted = dict(zip(names, shapes, strict=True))
            for detail in interpreter.get_input_details():
                name = next(name for name in names if name in detail["name"])
                shape = [int(side) for side in wanted[name].split(",")]
                interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        sys.exit(f"ERROR: {error}\nERROR: Benchmarking failed.")
    interpreter.invoke()
    times_ms = []
    for _ in range(int(flags["--num_runs"])):
        start = time.perf_counter()
        interpreter.invoke()
        times_ms.append((time.perf_counter() - start) * 1e3)
    mean_us = statistics.mean(times_ms) * 1e3
    flavour = os.environ.get("FAKE_TOOL", "")
    if flavour == "litert":
        print(f"Inference (avg):      {mean_us / 1e3:.6f} ms ({len(times_ms)} runs)")
        return
    for count in (3, len(times_ms)):
        print(f"INFO: count={count} first=1 curr=1 min=1 max=1 avg={mean_us} std=0")
    print(
        "INFO: Inference timings in us: Init: 20283, First inference: 339304, "
        f"Warmup (avg): 302814, Inference (avg): {mean_us}"
    )
    if flavour != "classic":
        with open(flags["--result_file_path"], "wb") as file:
            file.write(result_file(times_ms))


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
